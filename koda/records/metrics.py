"""The figures of a record beside its findings: retrieval, zero-shot, cluster scores, curves and the models as a whole.

They are parts of :class:`koda.records.AuditRecord`, which names them all.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koda.records.base import Part
from koda.records.looks import MapRecord
from koda.records.subsets import Subset
from koda.typing import Role, Side

RETRIEVAL_WORDS = {"image_to_text": "image to caption", "text_to_image": "caption to image"}


class Estimate(Part):
    """A figure with its interval; the interval is absent where the sample does not give one."""

    value: float
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    n: int | None = Field(default=None, description="samples it was estimated on")


class RecallRecord(Part):
    """Retrieval of one model over one set of samples."""

    model: str
    role: Role | None = None
    subset: Subset = Field(
        description="'all'; 'found lost', the samples that the cluster scores of the side are of; 'lost 1 positive' "
        "and the like; or 'rest of lost 1 positive': all but its members"
    )
    n: int = Field(description="queries")
    n_gallery: int
    image_to_text: dict[str, Estimate] = Field(description="'R@1' -> estimate")
    text_to_image: dict[str, Estimate]


class RecallDifference(Part):
    """Recall of the candidate less that of the baseline on the same queries, with paired bootstrap intervals."""

    subset: Subset = Field(description="as in the recalls")
    n: int = Field(description="captions that asked")
    n_images: int = Field(description="images that asked; they are what the bootstrap resamples")
    image_to_text: dict[str, Estimate] = Field(description="'R@1' -> candidate - baseline")
    text_to_image: dict[str, Estimate]


class AccuracyRecord(Part):
    """Zero-shot accuracy of one model over one set of samples."""

    model: str
    role: Role
    subset: Subset = Field(description="'all', or 'lost 1 positive' and the like")
    n: int = Field(description="samples with a label that is one of the classes")
    top: dict[str, Estimate] = Field(description="'top-1' -> estimate")


class AccuracyDifference(Part):
    """Accuracy of the candidate less that of the baseline, with paired bootstrap intervals."""

    subset: Subset
    n: int
    top: dict[str, Estimate]


class ZeroShotRecord(Part):
    """Classes told apart by their names alone: how, and how well on each set of samples."""

    label_column: str
    classes: list[str]
    templates: list[str]
    n_labelled: int = Field(description="samples whose label is one of the classes; the others are left out")
    accuracies: list[AccuracyRecord] = Field(default=[])
    differences: list[AccuracyDifference] = Field(default=[])
    unavailable: dict[str, str] = Field(default={}, description="model label -> why it has no accuracy, in words")


class ClusterScores(Part):
    """k-means of the samples at the top of the directions of a side, against the directions, under one model."""

    side: Side
    role: Literal["target", "reference"]
    model: str
    n: int = Field(description="samples: the first 50 of each direction's heavier lobe, each with its best direction")
    n_directions: int
    ami: float = Field(description="adjusted mutual information")
    nmi: float = Field(description="normalised mutual information")
    ari: float = Field(description="adjusted Rand index")


class QuotientPoint(Part):
    """The strength of the directions of a side where the limit is a quantile of the reference's eigenvalues."""

    quantile: float
    eps: float
    top_1: float | None = Field(description="quotient of the first direction; None where its reference energy is 0")
    top_3: float | None = Field(description="mean quotient of the first three; None where there are fewer")
    top_5: float | None


class QuotientCurve(Part):
    """Quotients against q, as the paper draws them."""

    side: Side
    n: int = Field(description="discovery samples that were searched")
    points: list[QuotientPoint]
    note: str | None = Field(default=None, description="why there are no points, in words")


class WholeSimilarity(Part):
    """How alike the two models are over all samples, in one modality; see :mod:`koda.metrics.similarity`."""

    cka: float = Field(description="linear CKA: 1 for embeddings that are equal up to rotation and scale")
    neighbours: float = Field(description="mean share of the k nearest neighbours that the models agree on")
    by_chance: float = Field(description="what `neighbours` is for unrelated models")
    k: int
    n: int = Field(description="samples that the neighbours were found among")


class PairedShares(Part):
    """A share under both models on the same queries, and whether the two differ."""

    baseline: float
    candidate: float
    difference: Estimate = Field(description="candidate - baseline, with a paired bootstrap interval")
    p_value: float = Field(description="two-sided, paired, of no difference; by Holm over all that are tested by value")


class ValueDifference(Part):
    """Both models on the held-out samples that have one value in a metadata column; all samples are the gallery."""

    column: str
    value: str
    n: int = Field(description="captions that asked")
    n_images: int = Field(description="images that asked; they are what the bootstrap and the tests go by")
    image_to_text: dict[str, PairedShares] = Field(default={}, description="'R@1' -> recall; empty where none is")
    text_to_image: dict[str, PairedShares] = Field(default={})
    zero_shot: PairedShares | None = Field(default=None, description="top-1 accuracy, where it was measured")

    @property
    def retrieval(self) -> dict[str, PairedShares]:
        """The recalls of both directions, each under its name in words: `R@1, image to caption`."""
        return {
            f"{depth}, {name}": shares
            for direction, name in RETRIEVAL_WORDS.items()
            for depth, shares in getattr(self, direction).items()
        }

    @property
    def accuracy(self) -> dict[str, PairedShares]:
        """The zero-shot accuracy under its name in words, where it was measured."""
        return {} if self.zero_shot is None else {"zero-shot top-1": self.zero_shot}


class Metrics(Part):
    """Figures beside the findings."""

    queries: Literal["all", "held out"] = Field(
        default="all",
        description="the samples that ask in retrieval and zero-shot and that `whole` is of: where a model was "
        "aligned those held out, which then is what 'all' means",
    )
    asked: int | None = Field(
        default=None,
        description="samples that were drawn to ask in retrieval on the whole set, on what lies outside a subset and "
        "by metadata value, where all are too many (then drawn ones of each larger subset or lobe ask too, as many "
        "as its n says); None where all asked",
    )
    ranked: int | None = Field(
        default=None,
        description="held-out samples that were drawn to be ranked by the directions, where all are too many; None "
        "where all were ranked",
    )
    retrieval: list[RecallRecord] = Field(default=[])
    retrieval_differences: list[RecallDifference] = Field(default=[])
    zero_shot: ZeroShotRecord | None = None
    by_value: list[ValueDifference] = Field(default=[], description="by metadata value, the most frequent first")
    by_value_left_out: int = Field(default=0, description="values that the limit on their number left out")
    by_value_unmeasured: dict[str, str] = Field(
        default={}, description="metadata column -> why none of its values was measured, in words"
    )
    clusters: list[ClusterScores] = Field(default=[])
    quotients: list[QuotientCurve] = Field(default=[])
    whole: dict[str, WholeSimilarity] = Field(default={}, description="modality -> similarity of the two models")
    spectra: dict[str, list[float]] = Field(
        default={}, description="model role -> leading eigenvalues of its kernel matrix K / n, of discovery samples"
    )
    map: MapRecord | None = None
