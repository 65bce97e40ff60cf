"""What was looked at, on the machine or in the store, and what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from koda.secrets import redact

State = Literal["ok", "note", "fault"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: what.
        state: ok, note (something is missing, waits or was left behind, and does no harm), or fault.
        found: what, and where, in words.
        remedy: the command or step that mends it, or None.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", redact(self.found))
