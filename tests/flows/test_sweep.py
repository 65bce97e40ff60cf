"""The sweep through the command line: pairs, a summary, and pairs that cannot be run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from flows.audit import audit
from flows.cli.app import app
from flows.sweep import sweep
from koda.audit.sweep import audits_of, cell_figures
from koda.config import load_sweep
from koda.errors import ConfigError
from koda.parallel import using
from koda.records import SweepCell, SweepRecord
from koda.storage import ArtifactStore
from koda.storage.database import AuditStore
from tests.flows.workplace import Workplace, make_workplace
from tests.parallel.here import Here
from tests.policy.junit import check_suites
from tests.report.factory import record

SETTINGS: dict[str, Any] = {
    "models": [{"name": "local-dir:old"}, {"name": "local-dir:new"}],
    "data": {"path": "data/pairs.tsv"},
    "discrepancy": {"n_directions": 2, "device": "cpu"},
    "significance": {"spike_ins": 0},  # in so few samples none would be found, and no audit could pass
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


def test_two_models_and_one_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = make_workplace(tmp_path)
    path = write(tmp_path)
    code, result, shown = run(place, path)
    assert code == 0
    folder = Path(result["paths"]["folder"])
    swept = SweepRecord.model_validate_json((folder / "sweep.json").read_bytes())
    assert (swept.candidates, swept.baselines) == (["old", "new"], ["old", "new"])
    assert [(cell.candidate, cell.baseline, cell.verdict) for cell in swept.cells] == [
        ("new", "old", "pass"),
        ("old", "new", "pass"),
    ]
    page = (folder / "sweep.html").read_text(encoding="utf-8")
    for cell in swept.cells:
        assert cell.report is not None and (folder / cell.report).is_file()
        assert f'href="{cell.report}"' in page
    assert "✓ pass" in page and "Sweep &lt;of&gt; two" in page
    assert "http" not in page.replace("http-equiv", "")
    assert len(list((place.home / "artifacts" / "embeddings").iterdir())) == 2  # each model embedded once

    # the same audits with another policy, and a third model that does not exist
    third = [*SETTINGS["models"], {"name": "local-dir:gone"}]
    failing = [{"figure": "rejections.count", "fail": -1}]
    junit = tmp_path / "koda.xml"
    path = write(tmp_path, models=third, baseline={"name": "local-dir:old"}, policy=failing)
    code, result, shown = run(place, path, "--junit", str(junit))
    assert code == 2  # worse than the 1 of the pair that failed
    cells = {cell["candidate"]: cell for cell in result["cells"]}
    assert (cells["new"]["verdict"], cells["new"]["exit_code"]) == ("fail", 1)
    suites = check_suites(junit.read_bytes())
    assert [(suite.get("name"), suite.get("failures"), suite.get("errors")) for suite in suites] == [
        (cells["new"]["audit"], "1", "0"),
        ("gone against old on pairs", "0", "1"),
    ]
    assert cells["gone"]["verdict"] is None and "does not exist" in cells["gone"]["error"]
    page = Path(result["paths"]["html"]).read_text(encoding="utf-8")
    assert "✗ fail" in page and "– not run" in page
    assert "2 audits asked for, 1 ran: 1 failed." in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "Traceback" not in shown

    os.environ["KODA_HOME"] = str(place.home)
    table = CliRunner().invoke(app, ["sweep", str(write(tmp_path))])
    assert table.exit_code == 0
    assert "✓ pass" in table.stdout and "sweep.html" in table.stdout.replace("\n", "")

    # a pair that breaks while it runs leaves the others what they are
    def breaks(config: dict[str, Any], home: str, **more: Any) -> dict[str, Any]:
        if config["candidate"]["name"].endswith("new"):
            raise RuntimeError("no such luck")
        return audit(config, home, **more)

    monkeypatch.setattr("flows.sweep.audit", breaks)
    code, result, shown = run(place, write(tmp_path))
    assert code == 3
    cells = {cell["candidate"]: cell for cell in result["cells"]}
    assert cells["old"]["verdict"] == "pass" and (folder / cells["old"]["report"]).is_file()
    assert "RuntimeError: no such luck" in cells["new"]["error"] and "the traceback is in" in cells["new"]["error"]


def cell(data: str, candidate: str, baseline: str) -> SweepCell:
    return SweepCell(data=data, candidate=candidate, baseline=baseline, exit_code=3, error="e")


def test_the_matrix_has_baselines_or_data_sets_as_columns() -> None:
    now = datetime.now(UTC)
    common = {"id": "s", "title": "t", "started": now, "ended": now, "data": ["d", "e"]}
    cells = [cell(data, *pair) for data in "de" for pair in (("a", "b"), ("b", "a"))]
    every = SweepRecord.model_validate({**common, "baselines": ["a", "b"], "candidates": ["a", "b"], "cells": cells})
    first, second = every.matrices()
    assert (first.title, first.columns, second.title) == ("d", ["a", "b"], "e")
    assert first.rows == [("a", [None, cells[0]]), ("b", [cells[1], None])]
    one = SweepRecord.model_validate({**common, "baselines": ["a"], "candidates": ["b"], "cells": [cells[1], cells[3]]})
    (matrix,) = one.matrices()
    assert (matrix.title, matrix.columns, matrix.rows) == ("Against a", ["d", "e"], [("b", [cells[1], cells[3]])])
    assert (every.exit_code, one.model_copy(update={"cells": []}).exit_code) == (3, 0)


def test_a_cell_says_what_its_audit_found() -> None:
    full = record(map_points=0)
    told = cell_figures(full)
    lost = [f for f in full.findings if f.side == "lost"]
    assert told["lost"].confirmed == sum(f.confirmed is True for f in lost)
    assert told["lost"].share == max(f.target_share.value for f in lost if f.confirmed)
    assert told["lost"].estimate.value == told["lost"].share and told["lost"].estimate.low is not None
    assert told["retrieval"].value == told["retrieval_drop"]
    assert told["lost"].words == next(f.words for f in lost if f.target_share.value == told["lost"].share)
    assert cell_figures(full.model_copy(update={"findings": []}))["lost"].share is None


def test_a_policy_that_no_audit_can_meet_stops_a_sweep_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, policy=[{"figure": "lost.max_shar", "fail": 1}])
    code, result, _ = run(Workplace(tmp_path), path)
    assert code == 2
    assert "Did you mean 'lost.max_share'" in result["error"]


def test_workers_measure_each_audit_of_a_sweep_to_the_same_record(tmp_path: Path) -> None:
    make_workplace(tmp_path)
    broken = {"name": "local-dir:gone"}
    path = write(tmp_path, models=[{"name": "local-dir:new"}, broken], baseline={"name": "local-dir:old"})
    settings = load_sweep(path).model_dump(mode="json", exclude={"limits", "runner"})
    alone = sweep(settings, str(tmp_path / "alone"))
    with using(here := Here(tmp_path / "exchange")):
        swept = sweep(settings, str(tmp_path / "home"), fresh=True)
    assert here.parts.count("measure") == 1
    assert swept["exit_code"] == alone["exit_code"] == 2
    for one, other in zip(swept["cells"], alone["cells"], strict=True):
        assert one == other
    made, wanted = (
        {
            f"{kind}/{folder.name}": store.digest(kind, folder.name)
            for kind in ("embeddings", "evaluations")
            for folder in (store.root / kind).iterdir()
        }
        for store in (ArtifactStore(tmp_path / name / "artifacts") for name in ("alone", "home"))
    )
    assert made == wanted and len(made) == 3
    for one, other in zip(*(steps_of(tmp_path / name) for name in ("alone", "home")), strict=True):
        assert (one["step"], one["executed"], one["device"]) == (other["step"], other["executed"], other["device"])
        assert other["executed"] and other["seconds"] > 0 and other["peak_bytes"] > 0


def test_an_audit_whose_time_is_up_while_workers_embed_for_it_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Endless(Here):
        def submit(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
            time.sleep(60)
            return super().submit(function, *arguments)

    begun: list[str] = []

    def begins(config: dict[str, Any], home: str, **more: Any) -> dict[str, Any]:
        begun.append(config["candidate"]["name"])
        return audit(config, home, **more)

    make_workplace(tmp_path)
    path = write(tmp_path, baseline={"name": "local-dir:old"})
    settings = load_sweep(path).model_dump(mode="json", exclude={"limits", "runner"})
    monkeypatch.setattr("flows.sweep.audit", begins)
    with using(Endless(tmp_path / "exchange")):
        swept = sweep(settings, str(tmp_path / "home"), minutes=1 / 60)
    (cell,) = swept["cells"]
    assert (cell["exit_code"], begun) == (3, []) and "limits.minutes" in cell["error"]


def steps_of(home: Path) -> list[dict[str, Any]]:
    return AuditStore(home).query("SELECT step, executed, seconds, peak_bytes, device FROM steps ORDER BY place")
