"""Sets of samples that figures are of: all samples, a found subset, a finding, a lobe of it, or all but one of these.

In a record, and so in JSON and in the database, a set is a text such as "rest of lost 1 positive". This module alone
writes and reads that text; everything else compares sets and looks at their fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

from koda.records.base import NamedByText
from koda.typing import SIDES, Side

Sign = Literal["positive", "negative"]
SIGNS: tuple[Sign, ...] = ("positive", "negative")
#: what people read of each lobe
LOBE_WORDS: dict[Sign, str] = {"positive": "first lobe", "negative": "counterpart"}
_TEXT = re.compile(
    rf"(?P<all>all)|(?P<slices>rest)|(?P<rest>rest of )?"
    rf"(?:found (?P<found>{'|'.join(SIDES)})"
    rf"|(?P<side>{'|'.join(SIDES)}) (?P<direction>[1-9][0-9]*)(?: (?P<lobe>{'|'.join(SIGNS)}))?)"
    r"(?P<searched>, searched)?",
    re.ASCII,
)


@dataclass(frozen=True)
class Subset(NamedByText):
    """A set of samples.

    Args:
        side: None for all samples, and for those in no slice.
        direction: number of a finding; None with a side for the found subset of the side, which is the samples at
            the top of its directions.
        lobe: of the finding; None for both lobes together.
        rest: all samples but those that the other fields name; without a side, the samples in no slice.
        searched: those of a finding that the search saw; without it, where figures are of held-out samples, the others.

    Raises:
        ValueError: a lobe or searched samples without a finding, a finding without a side, or a direction under 1.

    >>> str(Subset("lost", 1, "positive").others), str(Subset("gained")), str(ALL)
    ('rest of lost 1 positive', 'found gained', 'all')
    >>> Subset.parse("rest of lost 1 positive").lobe
    'positive'
    """

    what: ClassVar[str] = "set of samples"
    pattern: ClassVar[re.Pattern[str]] = _TEXT
    examples: ClassVar[str] = (
        "'all', 'rest', 'found lost', 'lost 1' and 'lost 1 positive' are such names, and 'rest of lost 1' and the like"
    )

    side: Side | None = None
    direction: int | None = None
    lobe: Sign | None = None
    rest: bool = False
    searched: bool = False

    def __post_init__(self) -> None:
        if self.direction is None and self.searched:
            raise ValueError("only samples of a finding are told apart by whether they were searched")
        if self.direction is None and self.lobe is not None:
            raise ValueError("a lobe is of a finding")
        if self.direction is not None and (self.side is None or self.direction < 1):
            raise ValueError("a finding has a side, and a number from 1 on")

    @property
    def finding(self) -> Subset:
        """The finding that a lobe is of, both lobes together."""
        return replace(self, lobe=None, rest=False, searched=False)

    @property
    def others(self) -> Subset:
        """All samples but these; of all samples those in no slice."""
        return replace(self, rest=True)

    def of_lobe(self, sign: Sign) -> Subset:
        """Return one lobe of a finding."""
        return replace(self, lobe=sign)

    @property
    def seen(self) -> Subset:
        """The samples of a finding, or of a lobe, that the search saw."""
        return replace(self, searched=True)

    def __str__(self) -> str:
        if self.side is None:
            return "rest" if self.rest else "all"
        if self.direction is None:
            name = f"found {self.side}"
        else:
            name = " ".join([self.side, str(self.direction), *([self.lobe] if self.lobe else [])])
        name += ", searched" if self.searched else ""
        return f"rest of {name}" if self.rest else name

    @classmethod
    def parse(cls, text: str) -> Subset:
        """Read what :meth:`__str__` writes.

        Raises:
            ValueError: a text that names no set.
        """
        parts = cls._parts(text)
        if (parts["all"] or parts["slices"]) and not parts["searched"]:
            return REST if parts["slices"] else ALL
        return cls(
            side=cast("Side", parts["found"] or parts["side"]),
            direction=int(parts["direction"]) if parts["direction"] else None,
            lobe=cast("Sign | None", parts["lobe"]),
            rest=parts["rest"] is not None,
            searched=parts["searched"] is not None,
        )


ALL = Subset()
REST = Subset(rest=True)
