"""What went into an audit and what became of it, in numbers that add up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from koda.records.base import Part


class RejectedKind(Part):
    """How many samples were left out for one kind of reason, and one of them in full."""

    kind: str
    count: int
    key: str = Field(description="of the example")
    reason: str = Field(description="of the example, the whole sentence with the path as tried")


class Ledger(Part):
    """From the rows of a source to the samples that were compared: every row is accounted for.

    ``n_source + n_split`` is the sum of what was merged, not asked for, rejected and compared.
    """

    n_source: int = Field(description="rows of the source: lines, entries, or members that make a sample")
    n_split: int = Field(default=0, description="samples that come on top, of rows with several captions each")
    merged: dict[str, int] = Field(default={}, description="rows that are part of another row's sample, by kind")
    n_outside_where: int = Field(default=0, description="samples that data.where does not ask for")
    n_outside_limit: int = Field(default=0, description="samples beyond data.limit")
    rejected: list[RejectedKind] = Field(default=[], description="the commonest first")
    n_compared: int = Field(description="samples that are left; in a record those that both models embedded")
    altered: dict[str, int] = Field(
        default={}, description="samples that the models saw otherwise than they lie in the source, by kind"
    )
    notes: list[str] = Field(default=[], description="how the source was read, where that had to be found out")

    @property
    def n_merged(self) -> int:
        """Rows that are part of another row's sample."""
        return sum(self.merged.values())

    @property
    def n_rejected(self) -> int:
        """Samples that were left out because they cannot be used."""
        return sum(item.count for item in self.rejected)

    @property
    def n_asked(self) -> int:
        """Samples that the configuration asks for, usable or not."""
        return self.n_rejected + self.n_compared

    def lines(self, last: str = "compared") -> list[tuple[str, int]]:
        """Return the ledger as lines of text and numbers; those that are 0 are left out, but for the first and last.

        Args:
            last: what the samples are that are left.
        """
        between = [
            ("samples on top, of rows with several captions", self.n_split),
            *((f"part of another row's sample: {kind}", count) for kind, count in self.merged.items()),
            ("not asked for by data.where", self.n_outside_where),
            ("beyond data.limit", self.n_outside_limit),
            ("left out, since they cannot be used", self.n_rejected),
        ]
        lines = [(line, count) for line, count in between if count]
        return [("rows in the source", self.n_source), *lines, (last, self.n_compared)]

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        left_out = self.n_merged + self.n_outside_where + self.n_outside_limit
        if self.n_source + self.n_split != left_out + self.n_rejected + self.n_compared:
            raise ValueError(f"the numbers of the rows do not add up: {self!r}")
        return self

    def compared(
        self, rejections: Iterable[tuple[str, str, str]], altered: Mapping[str, int], notes: Sequence[str] = ()
    ) -> Ledger:
        """Return the ledger of the same source after the models have seen it.

        Args:
            rejections: (kind, key, reason) of all that was left out, by the reader and by the models.
            altered: kind -> samples that the models saw otherwise than they lie in the source.
            notes: what the models found of the data.
        """
        rejected = rejected_kinds(rejections)
        n_compared = self.n_asked - sum(item.count for item in rejected)
        changes = {
            "rejected": rejected,
            "n_compared": n_compared,
            "altered": dict(altered),
            "notes": [*self.notes, *notes],
        }
        return Ledger.model_validate({**dict(self), **changes})


def rejected_kinds(rejections: Iterable[tuple[str, str, str]]) -> list[RejectedKind]:
    """Count rejections by kind, the commonest first; the first of each kind, (kind, key, reason), is its example."""
    counts: dict[str, int] = {}
    examples: dict[str, tuple[str, str]] = {}
    for kind, key, reason in rejections:
        counts[kind] = counts.get(kind, 0) + 1
        examples.setdefault(kind, (key, reason))
    order = sorted(counts, key=lambda kind: -counts[kind])
    return [
        RejectedKind(kind=kind, count=counts[kind], key=examples[kind][0], reason=examples[kind][1]) for kind in order
    ]
