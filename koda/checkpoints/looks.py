"""What was seen at earlier looks, by whichever process: so that a checkpoint that is being written is told from one
that stands still, and one that stands still is read once.

The memory only saves time: where it is lost, checkpoints are watched and read anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from koda._version import __version__
from koda.checkpoints.opening import Opened
from koda.checkpoints.places import Found
from koda.config import WatchConfig
from koda.storage import ArtifactStore, write_atomically
from koda.storage.checkpoints import CHECKPOINTS

T = TypeVar("T")

_FILE = "looks.json"
_LOCK = (CHECKPOINTS, "looks")
_FORGOTTEN_AFTER = 30 * 24 * 3600  # seconds in which nobody saw a place
_REFRESHED_AFTER = 3600  # seconds after which it is noted again that a place was seen
#: two looks at once, of two watchers, are no proof that nothing changes; a scheduled look may come somewhat early
_LEAST_SHARE = 0.5
_MOST_KNOWN = 8  # configurations under which it is remembered what a checkpoint is

Memory = dict[str, dict[str, Any]]


def look_again(home: Path, found: Iterable[Found], watch: WatchConfig) -> list[Found]:
    """Note a look, and return what stands still: with the same stamp at `settle` looks, or unchanged for longer.

    Args:
        home: KODA_HOME.
        found: what there is.
        watch: says how many looks, and how many seconds lie between two.
    """
    now = time.time()

    def note(memory: Memory) -> tuple[list[Found], bool]:
        changed, still = False, []
        for each in found:
            seen = memory.get(each.location)
            if seen is None or seen["stamp"] != each.stamp or seen["since"] > now:
                seen = memory[each.location] = {"stamp": each.stamp, "since": now, "looks": 1, "last": now, "known": {}}
                changed = True
            elif seen["looks"] < watch.settle or now - seen["last"] > _REFRESHED_AFTER:
                seen["looks"], seen["last"] = seen["looks"] + 1, now
                changed = True
            if _stands_still(seen, each, watch, now):
                still.append(each)
        for location in [at for at, seen in memory.items() if now - seen["last"] > _FORGOTTEN_AFTER]:
            del memory[location]
            changed = True
        return still, changed

    return _with_memory(home, note)


def stands_still(home: Path, found: Found, watch: WatchConfig) -> bool:
    """Tell whether a checkpoint stood still by the looks so far; this is none."""
    seen = _read(home).get(found.location) or {}
    same = seen.get("stamp") == found.stamp
    return _stands_still(seen if same else {"looks": 0, "since": time.time()}, found, watch, time.time())


def recall(home: Path, found: Found, settings: str) -> Opened | None:
    """Return what a checkpoint that did not change since was found to be under the same settings."""
    seen = _read(home).get(found.location)
    known = (seen or {}).get("known", {}).get(settings) if seen and seen["stamp"] == found.stamp else None
    if known is None or (known["reason"] is not None and known["koda"] != __version__):
        return None  # what an older koda could not read is tried again
    return Opened(known["digest"], known["weights"], known["reason"])


def remember(home: Path, found: Found, settings: str, opened: Opened) -> None:
    """Note what a checkpoint is."""

    def note(memory: Memory) -> tuple[None, bool]:
        seen = memory.get(found.location)
        if seen is None or seen["stamp"] != found.stamp:
            return None, False  # it changed meanwhile
        others = [(name, known) for name, known in seen["known"].items() if name != settings]
        what = {**asdict(opened), "koda": __version__}
        seen["known"] = dict([*others[-_MOST_KNOWN + 1 :], (settings, what)])
        return None, True

    _with_memory(home, note)


def _stands_still(seen: dict[str, Any], found: Found, watch: WatchConfig, now: float) -> bool:
    if found.changed is not None and now - found.changed > watch.settle * watch.every:
        return True
    waited = now - seen["since"] >= (watch.settle - 1) * watch.every * _LEAST_SHARE
    return bool(seen["looks"] >= watch.settle and waited)


def _with_memory(home: Path, work: Callable[[Memory], tuple[T, bool]]) -> T:
    """Do something with the memory, alone; it is written where the second of what `work` returns says so."""
    with ArtifactStore(home / "artifacts").lock(*_LOCK):
        memory = _read(home)
        result, changed = work(memory)
        if changed:
            write_atomically(home / CHECKPOINTS / _FILE, json.dumps(memory, indent=1, sort_keys=True).encode())
        return result


def _read(home: Path) -> Memory:
    try:
        raw = json.loads((home / CHECKPOINTS / _FILE).read_bytes())
        needed = {"stamp", "since", "looks", "last", "known"}
        return {at: seen for at, seen in raw.items() if isinstance(seen, dict) and needed <= seen.keys()}
    except (OSError, ValueError, AttributeError):
        return {}
