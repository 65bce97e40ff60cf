"""The command `koda align`: audit, fine-tune, audit again; and what it says when there is nothing to learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from koda.records import AuditRecord
from tests.alignment.conftest import demo_settings

QUICK = {
    "findings": [1],
    "steps": 16,
    "batch_size": 64,
    "learning_rate": 0.001,
    "evaluate_every": 8,
    "max_retrieval_drop": 1.0,
}


def run(home: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    result = CliRunner(env={"KODA_HOME": str(home)}).invoke(app, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, json.loads(result.stdout), result.stderr


def write_config(folder: Path, **changes: Any) -> Path:
    settings = demo_settings(folder, **{"alignment": QUICK, **changes})
    path = folder / "align.yaml"
    path.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def mended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, tuple[int, dict[str, Any], str]]:
    """Return KODA_HOME, the configuration, and what the command answered."""
    folder = tmp_path_factory.mktemp("align")
    config = write_config(folder)
    return folder / "runs", config, run(folder / "runs", "align", str(config), "--seeds", "2")


def test_it_answers_with_both_verdicts_and_the_recovery(mended: tuple[Path, Path, Any]) -> None:
    _, _, (code, result, told) = mended
    assert code == (1 if result["verdict_after"] == "fail" else 0), told
    assert result["verdict_before"] == "fail"
    assert result["audit_before"] != result["audit_after"]
    assert set(result["recoveries"]) == {"trained on", "held out"} or result["recovery"] is None
    assert [row["n_seeds"] for row in result["scores"]] == [2] * 6
    assert all(row["ami"]["deviation"] is not None for row in result["scores"])
    (retest,) = result["retests"]
    assert retest["after"]["value"] < retest["before"]["value"]
    assert [*result["mended"], *result["still_confirmed"], *result["untested"]] == ["lost 1"]
    assert ("nothing mended" in result["outcome"]) == (not result["mended"])
    assert all(Path(path).exists() for path in result["paths"].values())
    assert "agreement" in told


def test_the_first_line_says_what_was_mended(mended: tuple[Path, Path, Any]) -> None:
    home, config, (code, result, _) = mended
    shown = CliRunner(env={"KODA_HOME": str(home), "COLUMNS": "200"}).invoke(
        app, ["align", str(config), "--seeds", "2"]
    )
    assert shown.exit_code == code
    first = next(line for line in shown.stdout.splitlines() if result["verdict_after"].upper() in line)
    assert result["outcome"][1:] in first
    assert shown.stdout.index(first) < shown.stdout.index(result["stopped"])


def test_the_second_audit_is_linked_to_the_first_by_the_alignment(mended: tuple[Path, Path, Any]) -> None:
    home, _, (_, result, _) = mended
    path = home / "audits" / result["audit_after"] / "audit.json"
    record = AuditRecord.from_json(path.read_bytes())
    assert record.alignment is not None
    assert record.alignment.id == result["id"]
    assert record.alignment.audit_id == result["audit_before"]
    assert record.candidate.label == "candidate aligned"
    assert record.candidate.weights_digest == record.alignment.weights_digest
    first = AuditRecord.from_json((home / "audits" / result["audit_before"] / "audit.json").read_bytes())
    assert first.alignment is None
    assert (first.data.confirmation_digest, record.data.confirmation_digest) == (
        None,
        record.alignment.split.held_out_digest,
    )
    assert record.data.unseen is True and record.metrics.queries == "held out"
    assert (first.data.n_confirmation, first.baseline) == (record.data.n_confirmation, record.baseline)


def test_the_database_holds_the_alignment(mended: tuple[Path, Path, Any]) -> None:
    home, _, (_, result, _) = mended
    with duckdb.connect(str(home / "koda.duckdb"), read_only=True) as connection:
        rows = connection.sql(
            "SELECT id, audit_id, follow_up_id, student, teacher, kept_step FROM alignments"
        ).fetchall()
        assert rows == [
            (result["id"], result["audit_before"], result["audit_after"], "candidate", "baseline", result["kept_step"])
        ]
        held_out = connection.sql(
            "SELECT value FROM alignment_metrics WHERE state = 'after' AND sample = 'held out' AND figure = 'AMI'"
        ).fetchall()
        assert len(held_out) == 1


def test_again_nothing_is_executed_and_a_copy_can_be_had(mended: tuple[Path, Path, Any], tmp_path: Path) -> None:
    home, config, (code, result, _) = mended
    again, second, _ = run(home, "align", str(config), "--seeds", "2", "--out", str(tmp_path / "model"))
    assert again == code
    assert second["steps_executed"] == 0
    assert second["id"] == result["id"] and second["audit_after"] == result["audit_after"]
    assert (tmp_path / "model" / "open_clip_config.json").is_file()
    code, answer, _ = run(home, "align", str(config), "--out", str(tmp_path / "model"))
    assert code == 2 and "not an empty folder" in answer["error"]


def test_a_stored_audit_can_be_named(mended: tuple[Path, Path, Any]) -> None:
    home, _, (code, result, _) = mended
    settings = [f"--set=alignment.{key}={json.dumps(value)}" for key, value in QUICK.items()]
    again, second, told = run(home, "align", "--audit", result["audit_before"], *settings)
    assert again == code, told
    assert (second["id"], second["steps_executed"]) == (result["id"], 0)


def test_a_model_against_itself_has_nothing_to_learn(tmp_path: Path) -> None:
    config = write_config(tmp_path, candidate="baseline", alignment={})
    code, answer, told = run(tmp_path / "runs", "align", str(config))
    assert code == 2
    assert "There is no slice to learn from" in answer["error"]
    assert "Nothing needs mending" in told


def test_a_fine_tuning_that_diverges_fails_the_run(mended: tuple[Path, Path, Any]) -> None:
    home, config, _ = mended
    code, answer, _ = run(home, "align", str(config), "--set", "alignment.learning_rate=1e30")
    assert code == 3
    assert "diverged" in answer["error"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "takes one of CONFIG.yaml, --demo and --audit ID"),
        (("x.yaml", "--demo"), "takes one of CONFIG.yaml, --demo and --audit ID"),
        (("x.yaml",), "There is no configuration file x.yaml"),
        (("--audit", "audit-none"), "There is no audit 'audit-none'"),
    ],
)
def test_usage_is_explained(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    code, answer, _ = run(tmp_path, "align", *arguments)
    assert code == 2
    assert told in answer["error"]


def test_an_unknown_setting_is_refused_with_the_nearest_right_one(tmp_path: Path) -> None:
    config = write_config(tmp_path, alignment={"learning_rat": 1})
    code, answer, _ = run(tmp_path, "align", str(config))
    assert code == 2
    assert "learning_rate" in answer["error"]
