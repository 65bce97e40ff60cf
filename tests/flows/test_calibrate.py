"""Models held for equal set the limits of a policy: through the command line, on embeddings and on small models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from koda import EmbeddingTable
from koda.audit.plan import prepare
from koda.config import load_config
from koda.datasets import read_dataset, subsample
from koda.records import CalibrationRecord
from tests.flows.workplace import make_workplace

N = 140
EQUALS = ("embeddings:seed0", "embeddings:seed1", "embeddings:seed2")
POLICY = [
    {"figure": "lost.max_difference", "warn": 0.0001, "fail": 0.0002, "owner": "us", "reason": "structure gone"},
    {"figure": "retrieval.recall", "warn": 0.95, "fail": 0.9},
    {"figure": "similarity.cka.image", "warn": 0.9999},
    {"figure": "zero_shot.drop", "fail": 0.1},
    {"figure": "rejections.share", "warn": 0.01},
]
SETTINGS: dict[str, Any] = {
    "baseline": {"name": "embeddings:seed0"},
    "candidate": {"name": "embeddings:other"},
    "data": {"path": "seed0"},
    "discrepancy": {"n_directions": 2, "device": "cpu"},
    "significance": {"materiality": 0.0, "spike_ins": 0},
    "policy": POLICY,
    "report": {"pdf": False},
}


def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def write_config(folder: Path, **changes: Any) -> str:
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(SETTINGS | changes), encoding="utf-8")
    return str(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four embedding folders: three copies of one model with noise of their own, and one that has lost a group."""
    rng = np.random.default_rng(0)
    label = np.arange(N) % 7
    centres = rng.normal(size=(2, 7, 12))
    base = dict(zip(("image", "text"), centres[:, label] + 0.4 * rng.normal(size=(2, N, 12)), strict=True))
    keys = [f"k{row:03d}" for row in range(N)]
    captions = {"caption": [f"thing {kind} number {row}" for row, kind in enumerate(label)]}
    for name in ("seed0", "seed1", "seed2", "other"):
        noisy = {part: x + 0.5 * rng.normal(size=x.shape) for part, x in base.items()}
        if name == "other":
            for x in noisy.values():
                x[label < 2] = 1.5 * rng.normal(size=x[label < 2].shape)
        arrays = {part: x.astype(np.float32) for part, x in noisy.items()}
        EmbeddingTable(keys=keys, metadata=captions, **arrays).save(tmp_path / name)
    return tmp_path


def test_three_equal_models_set_limits_that_they_keep(folder: Path) -> None:
    config, out = write_config(folder), folder / "policy.yaml"
    arguments = ("calibrate", config, "--equals", *EQUALS, "--subsamples", "2", "--out", str(out))
    code, result, shown = run(*arguments)
    assert code == 0, shown
    assert (result["steps_executed"], result["steps_cached"]) == (3 + 18, 0)
    assert len(list((folder / "koda-runs" / "artifacts" / "embeddings").iterdir())) == 3  # each model embedded once
    record = CalibrationRecord.model_validate_json(Path(result["paths"]["record"]).read_bytes())
    assert [model.label for model in record.models] == ["seed0", "seed1", "seed2"]
    assert len({(a.baseline, a.candidate, a.subsample) for a in record.audits}) == 18
    assert (record.size, record.n_source) == (N // 2, N)
    assert [a.n_compared for a in record.audits] == [N] * 6 + [N // 2] * 12
    assert len({a.data_digest for a in record.audits}) == 3

    # the limits lie beyond what was seen, and say where they come from
    lost, _, _, zero_shot, rejections = record.rules
    assert lost.values is not None and lost.values.most > 0.0002, "else this test shows nothing"
    for place, rule in enumerate(record.rules[:3]):
        seen = [a.figures[place] for a in record.audits]
        sign = 1 if rule.direction == "above" else -1
        assert all(rule.warn is not None and one is not None and sign * one.value <= sign * rule.warn for one in seen)
        if rule.fail is not None:
            assert all(one is not None and sign * one.end <= sign * rule.fail for one in seen)
        assert rule.n == 18 and rule.moved
    assert zero_shot.note is not None and "zero_shot section" in zero_shot.note and not zero_shot.moved
    assert (rejections.warn, rejections.moved) == (0.01, False)

    # the file is a policy that a configuration takes
    written = yaml.safe_load(out.read_text(encoding="utf-8"))
    assert written["policy"] == record.policy and out.read_bytes() == Path(result["paths"]["policy"]).read_bytes()
    assert written["policy"][0]["reason"].startswith("structure gone; 18 audits of 3 equal models: largest 0.0")
    assert written["policy"][3] == {"figure": "zero_shot.drop", "fail": 0.1}
    merged = load_config(write_config(folder, **written))
    assert [rule.figure for rule in merged.policy] == [rule["figure"] for rule in POLICY]

    # a second run has nothing to do, and a policy of other figures needs no audit either
    write_config(folder)
    code, again, shown = run(*arguments)
    assert (code, again["steps_executed"], again["id"]) == (0, 0, result["id"])
    assert again["rules"] == result["rules"] and again["seconds"] < result["seconds"]
    code, other, shown = run(*arguments, "--set", "policy.4.figure=rejections.count")
    assert (code, other["steps_executed"]) == (0, 0) and other["id"] != result["id"]

    # with the equals' limits two of them pass, which did not before; the one that lost a group does not
    without = [rule for rule in written["policy"] if rule["figure"] != "zero_shot.drop"]
    config = write_config(folder, policy=without)
    code, audited, shown = run("audit", config, "--set", "candidate.name=embeddings:seed1")
    assert (code, audited["verdict"]) == (0, "pass"), audited["reasons"]
    code, audited, shown = run("audit", config)
    assert audited["verdict"] != "pass" and "lost.max_difference" in " ".join(audited["reasons"])

    table = CliRunner().invoke(app, [arguments[0], write_config(folder), *arguments[2:]])
    assert table.exit_code == 0
    assert "zero_shot.drop" in table.stdout and "was 0.0001" in table.stdout
    assert "0 steps executed" in table.stderr and "0 steps executed" not in table.stdout


def test_an_audit_of_a_subsample_is_that_of_a_data_set_of_its_rows(folder: Path) -> None:
    config = write_config(folder, policy=[{"figure": "lost.max_difference", "warn": 0.001}])
    code, result, shown = run("calibrate", config, "--equals", *EQUALS[:2], "--subsamples", "1", "--size", "90")
    assert code == 0, shown
    part = subsample(read_dataset(load_config(config).data), 90, (0, 1))
    whole = EmbeddingTable.load(folder / "seed0")
    whole.select([pair.key for pair in part.pairs]).save(folder / "part")
    changes = {"data": {"path": "part"}, "candidate": {"name": "embeddings:seed1"}, "waivers": []}
    code, audited, shown = run("audit", write_config(folder, **changes))
    rules = json.loads(Path(audited["paths"]["record"]).read_bytes())["verdict"]["rules"]
    first = next(a for a in result["audits"] if (a["baseline"], a["subsample"]) == ("seed0", 1))
    observed = next(rule["observed"] for rule in rules if rule["figure"] == "lost.max_difference")
    assert first["figures"][0]["value"] == pytest.approx(observed["value"], rel=1e-6)
    assert first["data_digest"] == part.digest


def test_models_are_embedded_once_and_rows_that_are_left_out_count(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    table = tmp_path / "data" / "pairs.tsv"
    gone = "".join(f"\ngone{row}.png\ta thing\tzz{row}\tred" for row in range(4))
    table.write_text(table.read_text(encoding="utf-8") + gone, encoding="utf-8")
    arguments = ("calibrate", str(place.config), "--equals", "baseline", "--equals=local-dir:new", "--subsamples", "2")
    code, result, shown = run(*arguments, "--size", "70", "--set", "policy=[{figure: rejections.share, warn: 0.001}]")
    assert code == 0, shown
    assert [step["name"] for step in result["steps"][:2]] == ["embed old", "embed new"]
    shares = [audit["figures"][0]["value"] for audit in result["audits"]]
    assert shares[:2] == [4 / 94] * 2 and all(round(70 * share, 6) in range(5) for share in shares[2:])
    assert result["rules"][0]["warn"] >= max(shares)
    # without a policy the default one is calibrated
    code, result, shown = run(*arguments, "--size", "70")
    assert (code, result["steps_executed"]) == (0, 0), shown
    assert {"lost.max_share", "gained.max_share", "rejections.share"} <= {rule["figure"] for rule in result["policy"]}
    assert not (place.home / "audits").exists(), "audits of equals are no audits of the history"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--equals", EQUALS[0]], "two at the least"),
        ([], "two at the least"),
        (["--equals", "baseline", EQUALS[0]], "twice, also as baseline"),
        (["--equals", EQUALS[0], "embeddings:nowhere"], "There is no embedding folder"),
        (["--equals", EQUALS[0], "ViT-B-23@openai"], "ViT-B-23"),
        (["--equals", *EQUALS, "--size", str(N)], f"the data set seed0 has {N} rows"),
        (["--equals", *EQUALS, "--size", "40"], "too small"),
        (["--equals", *EQUALS, "--set", "data.limit=50"], "Add samples"),
        (["--equals", *EQUALS, "--set", "policy.0.figure=lost.max_shar"], "Did you mean"),
        (["--equals", *EQUALS, "--out", "."], "is a folder"),
        (["--equals", *EQUALS, "--out", "audit.yaml"], "the configuration itself"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_in_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(folder)
    code, result, shown = run("calibrate", write_config(folder), *arguments)
    assert code == 2
    assert words in result["error"] and "Traceback" not in shown
    assert not (folder / "koda-runs" / "calibrations").exists()


def test_a_copy_of_a_model_is_no_equal(folder: Path) -> None:
    EmbeddingTable.load(folder / "seed0").save(folder / "copy")
    code, result, _ = run("calibrate", write_config(folder), "--equals", "baseline", "embeddings:copy")
    assert code == 2 and "are one model" in result["error"]


def test_a_part_of_the_data_changes_the_keys_of_searches_and_not_of_embeddings(folder: Path, tmp_path: Path) -> None:
    plan = prepare(load_config(write_config(folder)), tmp_path / "koda-runs")
    part = plan.of_part(subsample(plan.dataset, 70, (0, 1)))
    other = plan.of_part(subsample(plan.dataset, 70, (0, 2)))
    assert part.embedding_key("baseline") == plan.embedding_key("baseline")
    assert len({one.solution_key("lost") for one in (plan, part, other)}) == 3
    assert len({one.evaluation_key for one in (plan, part, other)}) == 3
