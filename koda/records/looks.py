"""What a record holds to be looked at: the same samples under both models, in a map and by their nearest neighbours.

Nothing here is tested or limited by a rule; it shows what the figures are of.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from koda.records.base import Part
from koda.records.subsets import Subset
from koda.typing import Role

OTHER_CLASSES = "other classes"  #: the last column of a confusion that has more than it shows


class ShownSample(Part):
    """A sample that a map or a neighbour list shows, beside those in the galleries."""

    caption: str | None
    metadata: dict[str, Any] = Field(default={})


class Neighbour(Part):
    """A sample near another one under a model."""

    key: str
    similarity: float = Field(description="value of the model's kernel, the one that the search compared")


class SampleNeighbours(Part):
    """The nearest samples of one sample under both models, the nearest first; copies of the sample itself left out."""

    key: str
    baseline: list[Neighbour]
    candidate: list[Neighbour]
    shared: int = Field(description="samples that are in both lists")


class MapRecord(Part):
    """The same samples in two dimensions under each model; for looking only: distances between groups mean nothing."""

    method: str = Field(description="with its settings, in words")
    seed: int
    keys: list[str]
    baseline: list[tuple[float, float]]
    candidate: list[tuple[float, float]]
    group: list[int] = Field(
        description="index of the finding in `findings`, signed by lobe (+1-based, -1-based), 0 for none"
    )
    n: int | None = Field(default=None, description="samples that these were drawn of; all members of slices first")


class Overlap(Part):
    """Samples that the slices of two findings of one side share."""

    first: Subset
    second: Subset
    shared: int
    jaccard: float = Field(description="samples in both over samples in either")


class ConfusionRecord(Part):
    """What one model takes the samples of a set for: zero-shot, by right class and class chosen."""

    subset: Subset
    role: Role
    n: int
    right: list[str] = Field(description="classes that samples of the set have, the most frequent first")
    chosen: list[str] = Field(description="classes that were chosen; the last may be OTHER_CLASSES")
    counts: list[list[int]] = Field(description="[right][chosen], samples")
    n_left_out: int = Field(default=0, description="samples whose class is not among `right`")
    places: dict[str, tuple[int, int]] = Field(
        default={}, description="key -> row and column of `counts`, of samples shown elsewhere; none before version 4"
    )


class Looks(Part):
    """Everything to look at."""

    samples: dict[str, ShownSample] = Field(
        default={}, description="key -> what is said of a sample in a map or a neighbour list that no gallery shows"
    )
    neighbours: list[SampleNeighbours] = Field(
        default=[], description="of every sample in the gallery of a finding that the held-out test did not refute"
    )
    n_among: int | None = Field(
        default=None, description="samples that neighbours were looked for among; of more than 50 000 as many are drawn"
    )
    overlaps: list[Overlap] = Field(default=[], description="of findings that it did not refute, where they share any")
    confusions: list[ConfusionRecord] = Field(default=[], description="of the lobes of confirmed findings, held out")
