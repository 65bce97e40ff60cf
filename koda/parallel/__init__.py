"""Parts of a computation, handed to whoever works on them: this process, or the workers of a cluster."""

from __future__ import annotations

from koda.parallel.exchange import Exchange, Handle
from koda.parallel.kept import Kept
from koda.parallel.parts import Worksite, look_around, packed, work_on
from koda.parallel.workers import RunnerNote, Workers, current, in_order, note_of_current, using

__all__ = [
    "Exchange",
    "Handle",
    "Kept",
    "RunnerNote",
    "Workers",
    "Worksite",
    "current",
    "in_order",
    "look_around",
    "note_of_current",
    "packed",
    "using",
    "work_on",
]
