"""New checkpoints are audited, each once, whatever came in between, and what follows from a verdict follows once."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

import flows.watch
from flows.cli.app import app
from flows.cli.watch import _Round
from flows.watch import audit_checkpoint, look, survey, take_up
from koda.checkpoints import entries
from koda.config import AuditConfig, load_config
from koda.errors import ConfigError, StoreError
from koda.records.checkpoint import CheckpointEntry
from koda.storage.checkpoints import CheckpointLedger, list_checkpoints
from koda.storage.database import AuditStore
from tests.catcher import catching
from tests.checkpoints.place import AS, PATTERN, write_checkpoint
from tests.flows.test_signals import as_in_a_terminal
from tests.flows.workplace import Workplace, make_workplace
from tests.tiny import _CONFIG


def watched(place: Workplace, **sections: Any) -> AuditConfig:
    (place.folder / "arch.json").write_text(json.dumps(_CONFIG), encoding="utf-8")
    raw = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    raw.pop("candidate", None)
    raw["watch"] = {"path": PATTERN, "every": 60, "settle": 1, "as": AS}
    raw["promote"] = {"on": ["pass", "warn", "fail", "inconclusive"], "write": "promoted.json",
                      "run": ["sh", "-c", 'echo "$0" >> hook.txt', "{audit}"]}  # fmt: skip
    path = place.folder / "watch.yaml"
    path.write_text(yaml.safe_dump({**raw, **sections}), encoding="utf-8")
    return load_config(path, without_candidate=True)


def epoch(place: Workplace, number: int) -> Path:
    return write_checkpoint(place.folder / "runs/a/checkpoints" / f"epoch_{number}.pt", number)


def runs(place: Workplace, audit: str | None) -> list[dict[str, Any]]:
    return AuditStore(place.home).query("SELECT state, trigger FROM runs WHERE audit_id = ?", [audit])


def hooks(place: Workplace, audit: str | None) -> int:
    return (place.folder / "hook.txt").read_text(encoding="utf-8").splitlines().count(str(audit))


def entry_of(place: Workplace, path: Path) -> CheckpointEntry:
    found = [each for each in list_checkpoints(place.home) if str(path) in each.paths]
    return next((each for each in found if each.state == "audited"), found[0])  # others are of other data


def changed(place: Workplace, entry: CheckpointEntry, **changes: Any) -> CheckpointEntry:
    return CheckpointLedger(place.home).change(entry.id, lambda before: before and before.model_copy(update=changes))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return make_workplace(tmp_path_factory.mktemp("watched"))


@pytest.fixture(scope="module")
def audited(place: Workplace) -> Path:
    """A checkpoint that was found and audited."""
    config, path = watched(place), epoch(place, 5)
    (ready,) = look(config, place.home)
    assert (ready.path, ready.label) == (str(path), "a/checkpoints/epoch_5.pt")
    result = audit_checkpoint(config, place.home, ready.path)
    assert result is not None and result["label"] == ready.label and result["digest"] == ready.digest
    return path


def test_a_checkpoint_is_audited_once_and_promoted_once(place: Workplace, audited: Path) -> None:
    config = watched(place)
    shutil.copy(audited, audited.with_name("epoch_6.pt"))
    assert look(config, place.home) == []
    assert [audit_checkpoint(config, place.home, str(path)) for path in audited.parent.glob("*.pt")] == [None, None]
    entry = entry_of(place, audited)
    assert (entry.state, entry.attempts, entry.promoted) == ("audited", 1, "done")
    assert runs(place, entry.audit_id) == [{"state": "finished", "trigger": "checkpoint"}]
    assert hooks(place, entry.audit_id) == 1
    told = json.loads((place.folder / "promoted.json").read_text(encoding="utf-8"))
    assert told["audit"] == entry.audit_id and told["checkpoint"] == str(audited) and told["verdict"] == entry.verdict
    audited.with_name("epoch_6.pt").unlink()


def test_an_audit_of_a_process_that_was_killed_is_taken_over(place: Workplace, audited: Path) -> None:
    """As it stands where it was killed after the audit's folder was in place, even if the checkpoint is gone since."""
    config, before = watched(place), entry_of(place, audited)
    killed = changed(place, before, state="auditing", verdict=None, promoted="none")
    seen, _ = survey(config, place.home)
    assert [each.event for each in seen.happened] == ["audited", "promoted"] and not seen.ready
    after = entry_of(place, audited)
    assert (after.audit_id, after.verdict) == (before.audit_id, before.verdict) and killed.state == "auditing"
    assert runs(place, before.audit_id) == [{"state": "finished", "trigger": "checkpoint"}]


def test_an_entry_that_is_lost_does_not_bring_a_second_run(place: Workplace, audited: Path) -> None:
    config, before = watched(place), entry_of(place, audited)
    (place.home / "checkpoints" / f"{before.id}.json").unlink()
    (ready,) = look(config, place.home)
    outcome = take_up(config, place.home, ready.path)
    assert outcome.result is not None and outcome.result["id"] == before.audit_id
    assert len(runs(place, before.audit_id)) == 1


def test_a_promotion_that_was_broken_off_is_not_run_again(place: Workplace, audited: Path) -> None:
    config, entry = watched(place), entry_of(place, audited)
    done = hooks(place, entry.audit_id)
    changed(place, entry, promoted="begun")
    seen, _ = survey(config, place.home)
    assert [each.event for each in seen.happened] == ["not promoted"]
    assert hooks(place, entry.audit_id) == done and entry_of(place, audited).promoted == "failed"
    assert not survey(config, place.home)[0].happened


def test_who_comes_second_leaves_it_to_the_first(place: Workplace) -> None:
    config, path = watched(place), epoch(place, 11)
    (ready,) = look(config, place.home)
    with CheckpointLedger(place.home).claim(ready.id) as ours:
        assert ours
        assert audit_checkpoint(config, place.home, ready.path) is None
        assert look(config, place.home) == []
    assert [each.id for each in look(config, place.home)] == [ready.id]
    path.unlink()  # between the look and the audit
    assert audit_checkpoint(config, place.home, ready.path) is None
    assert [each.event for each in survey(config, place.home)[0].happened] == ["gone"]
    assert entry_of(place, path).state == "gone"


def test_weights_that_open_but_are_no_model_are_refused(place: Workplace) -> None:
    config, path = watched(place), epoch(place, 12)
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).fill_(float("nan"))
    torch.save(checkpoint, path)
    (ready,) = look(config, place.home)
    outcome = take_up(config, place.home, ready.path)
    assert [each.event for each in outcome.happened] == ["refused"] and "NaN" in str(outcome.happened[0].reason)
    assert outcome.result is None and look(config, place.home) == []
    path.unlink()


def test_what_is_no_fault_of_the_checkpoint_leaves_it_ready(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StoreError("The disk is full.")

    config, path = watched(place), epoch(place, 13)
    (ready,) = look(config, place.home)
    with monkeypatch.context() as patched:
        patched.setattr(flows.watch, "_run", full)
        with pytest.raises(StoreError, match="full"):
            audit_checkpoint(config, place.home, ready.path)
    assert entry_of(place, path).state == "ready"
    assert [each.id for each in look(config, place.home)] == [ready.id]
    path.unlink()


def test_an_audit_that_fails_is_tried_again_and_then_waits(place: Workplace) -> None:
    """The data set is not there, which another configuration mends."""
    config, path = watched(place, data={"path": "nothing.tsv"}), epoch(place, 14)
    for failures in (1, 2, 3):
        (ready,) = look(config, place.home)[-1:]
        outcome = take_up(config, place.home, ready.path)
        assert [each.event for each in outcome.happened] == ["failed"]
        entry = CheckpointLedger(place.home).read(ready.id)
        assert entry is not None and entry.failures == failures and "nothing.tsv" in str(entry.reason)
        assert (entry.retry_at is None) == (failures == 3)
        if entry.retry_at is not None:
            assert ready.id not in [each.id for each in look(config, place.home)]  # not before the pause is over
            changed(place, entry, retry_at=entry.changed)
    assert ready.id not in [each.id for each in look(config, place.home)]
    other = watched(place, data={"path": "nothing.tsv"}, report={"pdf": False, "title": "Mended"})
    assert ready.id in [each.id for each in look(other, place.home)]
    path.unlink()


def test_a_failure_is_told_at_the_first_and_the_last_try_and_its_promotion_by_its_name(place: Workplace) -> None:
    with catching() as service:
        told = [{"url": service.url, "on": ["error"]}]
        config, path = watched(place, data={"path": "missing.tsv"}, notify=told), epoch(place, 15)
        for _ in range(3):
            ready = next(each for each in look(config, place.home) if each.path == str(path))
            take_up(config, place.home, ready.path)
            entry = CheckpointLedger(place.home).read(ready.id)
            assert entry is not None and survey(config, place.home)
            changed(place, entry, retry_at=entry.retry_at and entry.changed)
        first, last = (each["message"] for each in service.received)
        assert "is tried again after" in first and "when the configuration changes" in last
        assert service.titles == ["koda: no verdict on a/checkpoints/epoch_15.pt"] * 2
    path.unlink()


def test_what_is_due_of_one_configuration_is_left_to_it(place: Workplace, audited: Path) -> None:
    """Another one compares with the same baseline on the same data, and watches another place for other people."""
    with catching() as ours, catching() as theirs:
        events = ["pass", "warn", "fail", "inconclusive"]
        config = watched(place, notify=[{"url": ours.url, "on": events}])
        other = watched(place, notify=[{"url": theirs.url, "on": events}], watch={"path": "/none/*.pt", "as": AS})
        entry = entries.audited(
            place.home, config, entry_of(place, audited), str(entry_of(place, audited).audit_id), "pass"
        )
        done = hooks(place, entry.audit_id)
        survey(other, place.home)
        assert (theirs.received, hooks(place, entry.audit_id)) == ([], done)
        survey(config, place.home)
        assert (len(ours.received), theirs.received, hooks(place, entry.audit_id)) == (1, [], done + 1)


def test_a_promotion_that_failed_is_told_as_one(place: Workplace, audited: Path) -> None:
    with catching() as service:
        config = watched(place, notify=[{"url": service.url, "on": ["error"]}])
        changed(place, entry_of(place, audited), promoted="begun")
        survey(config, place.home)
        assert service.titles == ["koda: promotion of a/checkpoints/epoch_5.pt failed"]


def test_a_log_of_json_lines_has_the_steps_and_what_went_wrong(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, path = watched(place), epoch(place, 16)
    torn = path.with_name("epoch_17.pt")
    torn.write_bytes(b"torn")
    monkeypatch.setenv("KODA_LOG", "json")
    seen, _ = survey(config, place.home)
    take_up(config, place.home, next(each.path for each in seen.ready if each.path == str(path)))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [each["checkpoint"] for each in lines if each["event"] == "error"] == [str(torn)]
    assert {"audit started", "step started", "step finished", "audit finished"} <= {each["event"] for each in lines}
    path.unlink(), torn.unlink()


def command(place: Workplace, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["watch", *arguments], env={"KODA_HOME": str(place.home)})
    return result.exit_code, result.stdout, result.stderr


def test_the_command_says_what_it_found_and_what_is_missing(place: Workplace, audited: Path) -> None:
    watched(place)
    torn = audited.with_name("epoch_20.pt")
    torn.write_bytes(audited.read_bytes()[:1000])
    code, out, _ = command(place, str(place.folder / "watch.yaml"), "--once", "--json")
    result = json.loads(out)
    found = [each["event"] for each in result["events"] if each["label"] == "a/checkpoints/epoch_20.pt"]
    assert code == 0 and found == ["refused"] and result["audits"] == []
    torn.unlink()
    for section, said in (
        ("notify", "[{url: 'json://me:a-password@127.0.0.1/x'}]"), ("notify", "[{url: 'json://${KODA_NOT_SET}/x'}]"),
        ("promote", "{run: [./no-deploy.sh]}"),
    ):  # fmt: skip
        code, out, told = command(place, str(place.folder / "watch.yaml"), "--once", "--set", f"{section}={said}")
        assert (code, out) == (2, "") and section in told and "a-password" not in told
    code, _, missing = command(place, str(place.config), "--once")
    assert code == 2 and "'candidate'" not in missing and "`watch` is missing" in missing and "epoch_*.pt" in missing
    code, out, told = command(place, str(place.folder / "watch.yaml"), "--once", "--set", "watch.path=/none/*.pt")
    assert (code, out) == (0, "looked at 0 checkpoints: nothing new\n") and "matches watch.path: /none/*.pt" in told


def test_a_server_that_does_not_answer_is_said_before_a_look(place: Workplace, audited: Path) -> None:
    watched(place)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        for more in ([], ["--once"]):
            code, _, told = command(place, str(place.folder / "watch.yaml"), *more)
            assert code == 3 and "no Prefect server answers there" in told


def test_a_watcher_keeps_nothing_of_a_look_and_says_what_lasts_once(
    place: Workplace, audited: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    round_ = _Round(watched(place), place.home, None)
    for said in (["a disk is full", "a note"], ["a disk is full"], [], ["a disk is full"]):
        round_.run()
        round_._add([], said, [])
        round_.forget()
        assert not round_.happened and not round_.results and not round_.notes
    assert capsys.readouterr().err.count("a disk is full") == 2


def test_the_watcher_goes_on_until_it_is_told_to_end(place: Workplace, audited: Path) -> None:
    watched(place)
    environment = {**os.environ, "KODA_HOME": str(place.home)}
    arguments = ["watch", str(place.folder / "watch.yaml"), "--json", "--set", "watch.every=0.2"]
    with subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_a_terminal,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        torn = audited.with_name("epoch_30.pt")
        torn.write_bytes(b"no checkpoint")
        event = json.loads(process.stdout.readline())
        assert (event["event"], event["label"]) == ("refused", "a/checkpoints/epoch_30.pt")
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 143 and "Traceback" not in told


@pytest.mark.parametrize("url", ["json://me:a-password@127.0.0.1:9/x", "json://me:${NOT_SET_ANYWHERE}@127.0.0.1:9/x"])
def test_who_can_never_be_told_is_refused_before_anything_is_looked_at(place: Workplace, url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        survey(watched(place, notify=[{"url": url}]), place.home)
    assert "notify.0.url" in str(refused.value) and "a-password" not in str(refused.value)
