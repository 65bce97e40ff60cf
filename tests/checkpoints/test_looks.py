"""When a checkpoint stands still: by looks that may be those of different processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.checkpoints import looks
from koda.checkpoints.looks import look_again, recall, remember, stands_still
from koda.checkpoints.opening import Opened
from koda.checkpoints.places import Found
from koda.config import WatchConfig


class Clock:
    now = 1_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("koda.checkpoints.looks.time.time", made.time)
    return made


def seen(stamp: str = "s", changed: float | None = Clock.now) -> Found:
    return Found("/a/b.pt", "b.pt", stamp, changed, False)


def watch(settle: int) -> WatchConfig:
    return WatchConfig(path="x", every=60, settle=settle)


def test_so_many_looks_with_the_same_stamp(tmp_path: Path, clock: Clock) -> None:
    still = []
    for stamp in ("one", "two", "two", "two", "three", "three", "three"):
        still.append(bool(look_again(tmp_path, [seen(stamp, clock.now)], watch(3))))
        assert stands_still(tmp_path, seen(stamp, clock.now), watch(3)) == still[-1]
        clock.now += 60
    assert still == [False, False, False, True, False, False, True]


def test_looks_at_the_same_moment_are_no_proof(tmp_path: Path, clock: Clock) -> None:
    assert not any(look_again(tmp_path, [seen()], watch(2)) for _ in range(5))
    clock.now += 60
    assert look_again(tmp_path, [seen()], watch(2))


def test_one_look_is_enough_where_that_is_asked_for(tmp_path: Path, clock: Clock) -> None:
    assert look_again(tmp_path, [seen()], watch(1))


def test_what_did_not_change_for_longer_than_the_looks_take_stands_still_at_once(tmp_path: Path, clock: Clock) -> None:
    assert not look_again(tmp_path, [seen(changed=clock.now - 100)], watch(2))
    assert look_again(tmp_path, [seen(changed=clock.now - 121)], watch(2))
    assert not look_again(tmp_path / "other", [seen(changed=None)], watch(2))


def test_what_it_is_is_remembered_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    look_again(tmp_path, [seen()], watch(1))
    remember(tmp_path, seen(), "as", Opened("d", "w"))
    assert recall(tmp_path, seen(), "as") == Opened("d", "w")
    assert recall(tmp_path, seen(), "otherwise") is None
    assert recall(tmp_path, seen("other"), "as") is None
    remember(tmp_path, seen(), "as", Opened("d", None, "torn"))
    assert recall(tmp_path, seen(), "as") == Opened("d", None, "torn")
    monkeypatch.setattr(looks, "__version__", "a newer one, which may read it")
    assert recall(tmp_path, seen(), "as") is None


def test_it_is_remembered_for_several_configurations(tmp_path: Path) -> None:
    found, opened = seen(), Opened("digest", "weights")
    look_again(tmp_path, [found], watch(1))
    for number in range(9):
        remember(tmp_path, found, f"settings {number}", opened)
    assert recall(tmp_path, found, "settings 0") is None
    assert recall(tmp_path, found, "settings 1") == recall(tmp_path, found, "settings 8") == opened


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"/a/b.pt": 3}', b'{"/a/b.pt": {"stamp": "s"}}', b"\x00"])
def test_a_memory_that_is_damaged_is_begun_anew(tmp_path: Path, clock: Clock, content: bytes) -> None:
    look_again(tmp_path, [seen()], watch(1))
    (tmp_path / "checkpoints" / "looks.json").write_bytes(content)
    assert not stands_still(tmp_path, seen(), watch(2))
    assert look_again(tmp_path, [seen()], watch(1))


def test_a_clock_that_goes_back_does_not_keep_a_checkpoint_waiting(tmp_path: Path, clock: Clock) -> None:
    look_again(tmp_path, [seen(changed=None)], watch(2))
    clock.now -= 3600
    look_again(tmp_path, [seen(changed=None)], watch(2))
    clock.now += 60
    assert look_again(tmp_path, [seen(changed=None)], watch(2))
