"""The record of an alignment: what was trained, how it went, and what it changed on samples it never saw.

It lies beside the weights, as ``alignment.json``, so that a model carries where it comes from: an audit of the model
finds it there and reports it.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from koda.errors import DataError
from koda.records.base import Part, Record, parse_record
from koda.records.metrics import AccuracyDifference, Estimate, RecallDifference
from koda.records.subsets import Subset
from koda.typing import Role, Side

ALIGNMENT_VERSION, SEEN_VERSION = 2, 1
RECORD_FILE = "alignment.json"
SEEN_FILE = "alignment_samples.json"
State = Literal["before", "after", "teacher"]
Sample = Literal["trained on", "held out"]
STATES: tuple[State, ...] = ("before", "after", "teacher")


class GroupRecord(Part):
    """One lobe of a finding: a group of samples that the teacher ties together."""

    name: Subset = Field(description="'lost 1 positive'")
    words: list[str]
    n_train: int
    n_validation: int
    n_held_out: int


class SplitRecord(Part):
    """Which samples served what; the keys are named by digest, so that anyone can check them."""

    n_train: int
    n_train_slice: int = Field(description="of them in a slice")
    n_validation: int
    n_held_out: int
    train_digest: str = Field(description="sha256 of the sorted keys, a line each")
    validation_digest: str
    held_out_digest: str
    seen_digest: str | None = Field(
        default=None, description="of the keys in alignment_samples.json; None where an older koda wrote none"
    )
    unreadable: dict[str, str] = Field(default={}, description="key -> why a training image could not be used")


class ValidationPoint(Part):
    """What the validation samples showed at one step of the training."""

    step: int
    loss: float | None = Field(description="mean since the point before, as the terms: weighted; None at step 0")
    keep: float | None = None
    kernel: float | None = None
    cross: float | None = None
    agreement: float = Field(description="with the teacher's kernel on the slices: 0 as before, 1 is the teacher")
    retrieval: float | None = Field(description="mean R@1 of both directions; None where there is no common space")
    learning_rate: float = 0.0


class GroupScores(Part):
    """k-means clusters against the lobes of the findings, as in the paper's table of alignments; means of ten."""

    state: State
    sample: Sample
    n: int
    ami: float
    nmi: float
    ari: float


class GroupShares(Part):
    """How strongly a finding's direction is tied together, on samples that neither search nor training saw."""

    finding: Subset = Field(description="'lost 1'")
    state: State
    share: Estimate = Field(description="coherent share, see koda.discrepancy.significance")
    coherence: float = Field(description="the share in samples")
    quotient: float | None = Field(description="teacher's share over this share; None where this one is not positive")


class Retest(Part):
    """The difference that the first audit confirmed, tested again with the aligned student."""

    finding: Subset
    before: Estimate
    after: Estimate
    p_before: float | None = Field(description="Holm-adjusted over the findings that were learnt from")
    p_after: float | None


class RecallState(Part):
    """Recall at 1, 5, 10 among the held-out samples."""

    state: State
    subset: Subset = Field(description="'all', 'rest' (in no slice) or the name of a group")
    n: int
    image_to_text: dict[str, Estimate]
    text_to_image: dict[str, Estimate]


class AccuracyState(Part):
    """Zero-shot accuracy on the held-out samples."""

    state: State
    subset: Subset
    n: int
    top: dict[str, Estimate]


class AlignmentRecord(Record):
    """Everything that the report says of an alignment."""

    version: int = ALIGNMENT_VERSION
    id: str
    audit_id: str = Field(description="of the audit whose findings were learnt from")
    data_digest: str | None = Field(default=None, description="of the data set of that audit")
    started: datetime
    ended: datetime
    koda_version: str
    student: str
    teacher: str
    student_fingerprint: str
    teacher_fingerprint: str
    weights_digest: str = Field(description="of the aligned weights")
    role: Role = Field(description="of the student in the audit")
    side: Side
    share_unit: Literal["ties", "raw"] = Field(default="ties", description="of the shares and their differences")
    settings: dict[str, Any]
    towers: list[str]
    n_parameters: int = Field(description="trained")
    n_parameters_total: int
    groups: list[GroupRecord]
    split: SplitRecord
    looks: list[ValidationPoint]
    kept_step: int = Field(description="the step whose weights were kept")
    stopped: str = Field(description="why training ended, in words")
    clusters: list[GroupScores]
    shares: list[GroupShares]
    retests: list[Retest]
    materiality: float | None = Field(default=None, description="that the differences were tested against")
    alpha: float | None = Field(default=None, description="of the tests")
    retrieval: list[RecallState] = Field(default=[], description="among the held-out samples")
    retrieval_changes: list[RecallDifference] = Field(default=[], description="after less before, paired")
    retrieval_gaps: list[RecallDifference] = Field(default=[], description="after less the teacher, paired")
    zero_shot: list[AccuracyState] = Field(default=[], description="where classes are given")
    zero_shot_changes: list[AccuracyDifference] = Field(default=[], description="after less before, paired")
    zero_shot_gaps: list[AccuracyDifference] = Field(default=[], description="after less the teacher, paired")
    recovery: float | None = Field(
        description="(after - before) / (teacher - before) of the held-out AMI; None where there is nothing to recover"
    )
    device: str = ""

    def score(self, state: State, sample: Sample = "held out") -> GroupScores | None:
        """Return the cluster scores of a state of the student, or of the teacher."""
        return next((score for score in self.clusters if (score.state, score.sample) == (state, sample)), None)


class SeenSamples(Record):
    """The samples that an aligned model has seen; the file lies beside the weights.

    An audit of the model tests nothing on them, whatever its own split is.
    """

    version: int = SEEN_VERSION
    seen: tuple[str, ...] = Field(
        description="keys, sorted: search, training and early stopping saw them, in this alignment or one before it"
    )


def read_alignment(path: Path) -> AlignmentRecord:
    """Read the record beside aligned weights.

    Raises:
        DataError: not a record, or one written by a newer koda than this.
    """
    what = "the record of an alignment"
    return parse_record(AlignmentRecord, _bytes(path, what), str(path), what, what, ALIGNMENT_VERSION, _upgrade)


def _upgrade(raw: dict[str, Any]) -> None:
    """Label the shares of a record of version 1 as raw: they are in units of the kernels."""
    if raw["version"] < 2:
        raw["share_unit"] = "raw"


def read_seen(path: Path) -> SeenSamples:
    """Read which samples an aligned model has seen.

    Raises:
        DataError: not such a list, or one written by a newer koda than this.
    """
    what = "the list of the samples of an alignment"
    return parse_record(SeenSamples, _bytes(path, what), str(path), what, what, SEEN_VERSION)


def _bytes(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} is not {what}: {error.strerror}.") from error
