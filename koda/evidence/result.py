"""What a check of evidence came to: verified, not verified because, or FAILED."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["verified", "not verified", "FAILED"]


@dataclass(frozen=True)
class Evidence:
    """One thing that was checked.

    Args:
        name: the file, or what else was looked at.
        what: what of it was checked.
        state: verified; not verified, since something that it takes is not at hand; FAILED.
        why: the reason, where it is not verified or failed; a remark otherwise.
    """

    name: str
    what: str
    state: State
    why: str = ""

    def in_words(self) -> str:
        """Return the check as a line of text."""
        if self.state == "verified":
            return f"{self.name}: {self.what}: verified" + (f" ({self.why})" if self.why else "")
        joint = ", because " if self.state == "not verified" else ": "
        return f"{self.name}: {self.what}: {self.state}{joint}{self.why}"

    def as_json(self) -> dict[str, Any]:
        """Return the check as a JSON object."""
        return asdict(self)


def failed(checks: Sequence[Evidence]) -> list[str]:
    """Return the names of what failed, each once."""
    return list(dict.fromkeys(check.name for check in checks if check.state == "FAILED"))
