"""What an audit could have seen, and what it sees where there is nothing; :mod:`koda.audit.controls` finds it out."""

from __future__ import annotations

from pydantic import Field

from koda.records.base import Part
from koda.typing import Role
from koda.wording import counted

SPIKE_IN_SHARES = (0.04, 0.02, 0.01, 0.005)  #: of the data, that the groups have which are put in


class SpikeInRecord(Part):
    """Groups of one share that the candidate was made to lose, each searched and tested like a finding."""

    share: float = Field(description="of the samples of the trials, that the group has")
    size: int = Field(description="samples of the group")
    trials: int
    confirmed: int = Field(description="trials in which the group was found and confirmed")


class SelfControlRecord(Part):
    """One model against its own copy with noise of the size of its precision: nothing should be confirmed."""

    role: Role
    model: str
    precision: str
    noise: float = Field(description="length of the noise over that of an embedding")
    n_directions: int = Field(description="directions that were found and tested")
    confirmed: int


class Controls(Part):
    """The controls of an audit."""

    n_discovery: int = Field(description="samples searched in each trial")
    n_confirmation: int
    spike_ins: list[SpikeInRecord] = Field(default=[], description="the largest share first; none where turned off")
    self_controls: list[SelfControlRecord] = Field(default=[])
    note: str | None = Field(default=None, description="why there are no trials, in words")

    @property
    def detectable_lost_share(self) -> float | None:
        """The smallest share of which all groups, and all larger ones, were confirmed; None where there is none."""
        smallest = None
        for row in sorted(self.spike_ins, key=lambda row: -row.share):
            if row.confirmed < row.trials:
                break
            smallest = row.share
        return smallest

    def in_words(self) -> str:
        """Say which lost groups would have been found, or why that is not known."""
        parts = [
            f"one of {100 * row.share:g} % ({row.size}) in {row.confirmed} of {row.trials}"
            for row in sorted(self.spike_ins, key=lambda row: -row.share)
        ]
        if not parts:
            why = self.note or "significance.spike_ins: 0 turned the trials off"
            return f"What loss this audit could have seen is not known: {why}."
        first = max(self.spike_ins, key=lambda row: row.share)
        all_of = counted(self.n_discovery + self.n_confirmation, "sample")
        opening = (
            f"A lost group of {100 * first.share:g} % of the data ({first.size} of the {all_of} of a trial) would have "
            f"been found and confirmed in {first.confirmed} of {counted(first.trials, 'trial')}"
        )
        return ", ".join([opening, *parts[1:]]) + "."

    @property
    def blind(self) -> bool:
        """Whether not one group of the largest share was confirmed."""
        largest = max(self.spike_ins, key=lambda row: row.share, default=None)
        return largest is not None and largest.confirmed == 0
