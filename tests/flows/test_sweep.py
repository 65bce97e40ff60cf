"""The sweep through the command line: pairs, a summary, and pairs that cannot be run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from koda.errors import ConfigError
from koda.sweeping import SweepRecord, audits_of, load_sweep
from tests.flows.test_audit import Workplace, make_workplace

SETTINGS: dict[str, Any] = {
    "models": [{"name": "local-dir:old"}, {"name": "local-dir:new"}],
    "data": {"path": "data/pairs.tsv"},
    "discrepancy": {"n_directions": 2, "device": "cpu"},
    "policy": [{"figure": "rejections.count", "fail": 5}],
    "report": {"pdf": False, "title": "Sweep <of> two"},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changes), encoding="utf-8")
    return path


def run(place: Workplace, path: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    os.environ["KODA_HOME"] = str(place.home)
    result = CliRunner().invoke(app, ["sweep", str(path), "--json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def pairs(path: Path) -> list[tuple[str, str]]:
    return [(one.candidate, one.baseline) for one in audits_of(load_sweep(path))]


def test_which_pairs_there_are(tmp_path: Path) -> None:
    assert pairs(write(tmp_path)) == [("new", "old"), ("old", "new")]
    base = {"baseline": {"name": "local-dir:base"}}
    assert pairs(write(tmp_path, **base)) == [("old", "base"), ("new", "base")]
    assert len(pairs(write(tmp_path, pairs="all", **base))) == 6
    assert pairs(write(tmp_path, baseline={"name": "local-dir:old"})) == [("new", "old")]
    two = [{"path": "a.tsv"}, {"path": "b.tsv"}]
    assert [one.data for one in audits_of(load_sweep(write(tmp_path, data=two, **base)))] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pairs": "baseline"}, "needs the key baseline"),
        ({"models": [{"name": "local-dir:old"}]}, "two models, or one and a baseline"),
        ({"models": [{"name": "local-dir:a/x"}, {"name": "local-dir:b/x"}]}, "two of the models are called 'x'"),
        ({"data": [{"path": "a/p.tsv"}, {"path": "b/p.tsv"}]}, "tell them apart by their name"),
        ({"model": []}, "did you mean 'models'?"),
        ({"data": {"paht": "x"}}, "did you mean 'path'?"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_sweep(write(tmp_path, **changes))
    assert words in str(caught.value)


def test_two_models_and_one_that_is_not_there(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    path = write(tmp_path)
    code, result, shown = run(place, path)
    assert code == 0
    folder = Path(result["paths"]["folder"])
    record = SweepRecord.model_validate_json((folder / "sweep.json").read_bytes())
    assert [(cell.candidate, cell.baseline, cell.verdict) for cell in record.cells] == [
        ("new", "old", "pass"),
        ("old", "new", "pass"),
    ]
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    for cell in record.cells:
        assert cell.report is not None and (folder / cell.report).is_file()
        assert f'href="{cell.report}"' in page
    assert "✓ pass" in page and "Sweep &lt;of&gt; two" in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(list((place.home / "artifacts" / "embeddings").iterdir())) == 2  # each model embedded once

    # the same audits with another policy, and a third model that does not exist
    third = [*SETTINGS["models"], {"name": "local-dir:gone"}]
    failing = [{"figure": "rejections.count", "fail": -1}]
    code, result, shown = run(place, write(tmp_path, models=third, baseline={"name": "local-dir:old"}, policy=failing))
    assert code == 2  # worse than the 1 of the pair that failed
    cells = {cell["candidate"]: cell for cell in result["cells"]}
    assert (cells["new"]["verdict"], cells["new"]["exit_code"]) == ("fail", 1)
    assert cells["gone"]["verdict"] is None and "does not exist" in cells["gone"]["error"]
    page = Path(result["paths"]["html"]).read_text(encoding="utf-8")
    assert "✗ fail" in page and "✗ not run" in page
    assert "Traceback" not in shown

    os.environ["KODA_HOME"] = str(place.home)
    table = CliRunner().invoke(app, ["sweep", str(write(tmp_path))])
    assert table.exit_code == 0
    assert "✓ pass" in table.stderr and "sweep.html" in table.stderr.replace("\n", "")


def test_a_policy_that_no_audit_can_meet_stops_a_sweep_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, policy=[{"figure": "lost.max_shar", "fail": 1}])
    code, result, _ = run(Workplace(tmp_path), path)
    assert code == 2
    assert "Did you mean 'lost.max_share'" in result["error"]
