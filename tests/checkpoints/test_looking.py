"""A look at real checkpoints: each is entered once, by what it holds, and what cannot be audited with its reason."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from koda.audit.history import unfinished_audits
from koda.checkpoints import entries, look_around
from koda.checkpoints.looking import Look
from koda.errors import ConfigError, MachineError
from koda.storage.checkpoints import CheckpointLedger, list_checkpoints
from koda.storage.database import AuditStore
from tests.checkpoints.place import AS, PATTERN, Place, make_place, weights
from tests.tiny import write_tiny_model

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return make_place(tmp_path)


class Unreachable(MemoryFileSystem):  # type: ignore[misc]
    protocol = "unreachable"

    def glob(self, path: str, **options: Any) -> Any:
        raise TimeoutError("no route")


def events(look: Look) -> list[tuple[str, str]]:
    return [(each.event, each.label) for each in look.happened]


def test_what_stands_still_and_opens_is_ready_until_it_is_audited(place: Place) -> None:
    place.epoch(10), place.epoch(2)
    look = place.look()
    assert [ready.label for ready in look.ready] == ["a/checkpoints/epoch_2.pt", "a/checkpoints/epoch_10.pt"]
    assert events(look) == [("found", ready.label) for ready in look.ready]
    again = place.look()
    assert again.ready == look.ready and not again.happened
    entry = CheckpointLedger(place.home).read(look.ready[0].id)
    assert entry is not None
    entries.audited(place.home, place.config(), entry, "audit-1", "pass")
    assert [ready.label for ready in place.look().ready] == ["a/checkpoints/epoch_10.pt"]


def test_copies_and_names_do_not_make_another_checkpoint(place: Place) -> None:
    first = place.epoch(1)
    one = place.look().ready
    shutil.copy(first, first.with_name("epoch_2.pt"))
    first.rename(first.with_name("epoch_3.pt"))
    save = first.with_name("epoch_4.pt")
    torch.save(weights(1, place.folder), save)  # saved again, without what training adds
    look = place.look()
    assert [ready.id for ready in look.ready] == [one[0].id] and not look.happened
    (entry,) = list_checkpoints(place.home)
    assert [Path(path).name for path in entry.paths] == [f"epoch_{n}.pt" for n in (1, 2, 3, 4)]


def test_a_checkpoint_is_shown_where_it_lies_now(place: Place) -> None:
    first = place.epoch(1)
    place.look()
    second = first.rename(first.with_name("best.pt"))
    place.look(place.config("runs/*/checkpoints/*.pt"))
    (entry,) = list_checkpoints(place.home)
    assert (entry.label, entry.paths) == ("a/checkpoints/best.pt", (str(first), str(second)))
    second.rename(first)
    place.look(place.config("runs/*/checkpoints/*.pt"))
    (entry,) = list_checkpoints(place.home)
    assert (entry.label, entry.paths) == ("a/checkpoints/epoch_1.pt", (str(second), str(first)))


def test_an_audit_that_a_checkpoint_left_off_when_it_went_is_none_of_its_own(place: Place) -> None:
    path = place.epoch(1)
    (ready,) = place.look().ready
    entry = CheckpointLedger(place.home).read(ready.id)
    assert entry is not None
    entries.begin(place.home, place.config(), entry, ready.label, "audit-1")
    stopped = {"run_id": "r", "audit_id": "audit-1", "started": NOW, "ended": NOW, "state": "crashed"}
    AuditStore(place.home).stage_run(stopped)
    AuditStore(place.home).merge()
    assert [audit["id"] for audit in unfinished_audits(place.home)] == ["audit-1"]
    path.unlink()
    assert events(place.look()) == [("gone", "a/checkpoints/epoch_1.pt")]
    (entry,) = list_checkpoints(place.home)
    assert (entry.state, entry.audit_id) == ("gone", None) and unfinished_audits(place.home) == []


def test_a_torn_file_is_refused_once_until_it_is_whole(place: Place) -> None:
    path = place.epoch(1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    look = place.look()
    assert events(look) == [("refused", "a/checkpoints/epoch_1.pt")] and not look.ready
    assert "cannot be read" in str(look.happened[0].reason)
    assert not place.look().happened
    path.write_bytes(whole)
    assert events(place.look()) == [("found", "a/checkpoints/epoch_1.pt")]
    assert sorted(entry.state for entry in list_checkpoints(place.home)) == ["ready", "refused"]


def test_what_is_still_written_is_left_alone(place: Place) -> None:
    path = place.epoch(1)
    config = place.config(watch={"settle": 2, "every": 60})
    for _ in range(3):
        look = place.look(config)
        assert look.unsettled == [str(path)] and not look.ready and not list_checkpoints(place.home)
        with path.open("ab") as file:
            file.write(b"more")


def test_a_checkpoint_that_would_run_code_is_refused(place: Place) -> None:
    path = place.epoch(1)
    torch.save({"state_dict": weights(1, place.folder), "hook": shutil.rmtree}, path)
    look = place.look()
    assert "could run code" in str(look.happened[0].reason) and not look.ready


def test_what_disappears_before_it_is_audited_is_gone_and_ready_when_it_comes_back(place: Place) -> None:
    path = place.epoch(1)
    (ready,) = place.look().ready
    moved = path.rename(place.folder / "elsewhere.pt")
    look = place.look()
    assert events(look) == [("gone", "a/checkpoints/epoch_1.pt")] and not look.ready
    assert not place.look().happened
    shutil.copy(moved, path)
    look = place.look()
    assert events(look) == [("found", "a/checkpoints/epoch_1.pt")] and [one.id for one in look.ready] == [ready.id]


def test_what_was_audited_while_a_look_went_on_is_not_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.epoch(1)
    (ready,) = place.look().ready
    ledger = CheckpointLedger(place.home)
    before = ledger.entries()
    entries.audited(place.home, place.config(), before[0], "audit-1", "pass")
    path.unlink()
    monkeypatch.setattr(CheckpointLedger, "entries", lambda _: before)  # as they were read just before that
    assert not place.look().happened
    after = ledger.read(ready.id)
    assert after is not None and after.state == "audited"


def test_a_file_that_is_written_over_is_another_checkpoint_and_the_first_one_gone(place: Place) -> None:
    first = place.epoch(1)
    place.look()
    place.epoch(1, seed=2)
    assert events(place.look()) == [("found", "a/checkpoints/epoch_1.pt"), ("gone", "a/checkpoints/epoch_1.pt")]
    assert [Path(entry.paths[0]) for entry in list_checkpoints(place.home)] == [first, first]


def test_folders_of_open_clip_and_of_transformers(place: Place) -> None:
    write_tiny_model(place.folder / "out" / "step_1", 1)
    (place.folder / "out" / "step_2").mkdir()
    (place.folder / "out" / "step_2" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    (place.folder / "out" / "logs").mkdir()
    look = place.look(place.config("out/*", watch={"as": {"precision": "fp32"}}))
    assert [ready.label for ready in look.ready] == ["step_1"]
    reasons = {each.label: str(each.reason) for each in look.happened if each.event == "refused"}
    assert reasons.keys() == {"step_2"} and "type 'bert'" in reasons["step_2"]


def test_a_folder_that_is_still_written_is_taken_when_it_says_what_it_is(place: Place) -> None:
    model = write_tiny_model(place.folder / "out" / "step_1", 1)
    config = (model / "open_clip_config.json").read_bytes()
    (model / "open_clip_config.json").unlink()
    look = place.look(place.config("out/*"))
    assert not look.ready and not look.happened and not list_checkpoints(place.home)
    (model / "open_clip_config.json").write_bytes(config)
    assert [ready.label for ready in place.look(place.config("out/*")).ready] == ["step_1"]


def test_a_file_of_which_nothing_says_what_it_is_is_refused_until_that_is_stated(place: Place) -> None:
    place.epoch(1)
    look = place.look(place.config(watch={"as": {"precision": "fp32"}}))
    assert "watch.as does not say of which model" in str(look.happened[0].reason)
    assert len(place.look().ready) == 1


def test_two_configurations_over_one_home_do_not_hide_each_other_s_checkpoints(place: Place) -> None:
    place.epoch(1)
    (one,), (other,) = place.look().ready, place.look(place.config(data={"path": "other.tsv"})).ready
    assert one.digest == other.digest and one.id != other.id
    assert not place.look().happened


def test_a_missing_section_and_a_store_that_does_not_answer_are_said(place: Place) -> None:
    config = place.config()
    with pytest.raises(ConfigError, match="`watch` is missing"):
        look_around(config.model_copy(update={"watch": None}), place.home)
    with pytest.raises(ConfigError, match="protocol"):
        place.look(place.config("nowhere://bucket/epoch_*.pt"))
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)
    with pytest.raises(MachineError, match="could not be reached: no route"):
        place.look(place.config("unreachable://bucket/epoch_*.pt"))


def test_a_checkpoint_behind_a_url_is_fetched_and_the_same_as_on_disk(place: Place) -> None:
    path = place.epoch(1)
    system = fsspec.filesystem("memory")
    system.pipe(f"/{place.folder.name}/runs/a/checkpoints/epoch_9.pt", path.read_bytes())
    system.pipe(f"/{place.folder.name}/runs/a/checkpoints/epoch_8.pt", b"no checkpoint")
    look = place.look(place.config(f"memory://{place.folder.name}/{PATTERN}"))
    assert [ready.digest for ready in look.ready] == [place.look().ready[0].digest]
    assert look.ready[0].path.startswith("memory://") and look.ready[0].label == "a/checkpoints/epoch_9.pt"
    copies = [each for each in (place.home / "checkpoints" / "fetched").rglob("*") if each.is_file()]
    assert [each.name for each in copies] == ["epoch_9.pt"]  # the other is dealt with


def test_a_label_that_is_stated_comes_before_the_path(place: Place) -> None:
    from koda.checkpoints.finding import find
    from koda.checkpoints.opening import spec_of, watched

    path = place.epoch(3)
    config = place.config(watch={"as": {**AS, "label": "small"}})
    assert spec_of(config, find(watched(config))[0], path).display_name == "small a/checkpoints/epoch_3.pt"
