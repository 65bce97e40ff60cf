"""The record of an audit: everything the report says, in one versioned model.

The report is drawn from an :class:`AuditRecord` and thumbnails, and from nothing else, so a
stored ``audit.json`` can be rendered again, compared and verified without the models or the data.
Shares are fractions of the data set (1.0 is all of it), in units of the kernels' typical ties; see
:mod:`koda.discrepancy.significance`. Those of version 1 are in raw units of the kernels, which grow with the bandwidth.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from koda.records.alignment import AlignmentRecord
from koda.records.base import Part, Record, parse_record, titled
from koda.records.changes import Changes, NearestPrevious
from koda.records.compliance import Crosswalk, IntendedUse
from koda.records.controls import Controls
from koda.records.ledger import Ledger
from koda.records.looks import Looks
from koda.records.metrics import Estimate, Metrics
from koda.records.subsets import Sign, Subset
from koda.records.trend import Trend
from koda.typing import SIDES, Side

RECORD_VERSION = 5

ShareUnit = Literal["ties", "raw"]
Pick = Literal["top", "member", "near miss"]


class WaiverRecord(Part):
    """Who decided that a figure may be over its limits, why, and until when."""

    person: str
    reason: str
    expires: date
    expired: bool = Field(description="on the day of the audit; it then counted for nothing")


class RetestedFinding(Part):
    """A finding of the audit before an alignment that counts again, by the test on the aligned model."""

    finding: Subset = Field(description="'lost 1' of the audit before the alignment")
    p_value: float | None = Field(description="of the retest; None where it could not be tested again")


class RuleResult(Part):
    """One policy rule beside what was observed."""

    figure: str
    observed: Estimate | None
    warn: float | None
    fail: float | None
    direction: Literal["above", "below"]
    result: Literal["pass", "warn", "fail", "inconclusive", "waived"]
    owner: str | None = None
    reason: str | None = None
    finding: Subset | None = Field(default=None, description="'lost 1': the finding that decides, if one does")
    detail: str | None = Field(default=None, description="which of several the figure is of, in words")
    retests: list[RetestedFinding] = Field(
        default=[], description="the findings of the audit before the alignment that decide, in place of one of this"
    )
    min_stability: float | None = None
    stability: float | None = Field(default=None, description="observed, of the finding that decides")
    note: str | None = Field(default=None, description="why it is inconclusive, where the interval is not the reason")
    waiver: WaiverRecord | None = None
    waived: Literal["warn", "fail"] | None = Field(default=None, description="what the result is without the waiver")

    @property
    def limits(self) -> list[float]:
        """The limits that the figure is compared with."""
        return [limit for limit in (self.warn, self.fail) if limit is not None]


class Verdict(Part):
    """Pass, warn, fail or inconclusive, with the reasons in words."""

    status: Literal["pass", "warn", "fail", "inconclusive"]
    reasons: list[str]
    rules: list[RuleResult] = Field(default=[])
    left_out: list[str] = Field(default=[], description="rules of the default policy with nothing to look at, and why")
    policy_digest: str | None = None


class ModelRecord(Part):
    """What is known of a model: enough to load the same one again, and to see that it is the same."""

    label: str
    name: str
    pretrained: str | None = None
    weights_file: str | None = Field(
        default=None, description="the file that was read, with the key in it; None in older records and for code"
    )
    architecture: str
    weights_digest: str
    config_digest: str
    fingerprint: str
    activation: str | None = Field(default=None, description="of an open_clip model")
    image_size: tuple[int, int] | None = Field(default=None, description="(height, width); None for text only")
    preprocessing: dict[str, Any]
    tokenizer: str | None = None
    context_length: int | None = None
    embedding_dim: int
    parameters: int | None = None
    precision: str
    precision_cosine: float | None = Field(
        default=None, description="least cosine to the embeddings in fp32 on the first samples; None in fp32"
    )
    licence: str | None = None
    source: str | None = None


class RejectionRecord(Part):
    """A sample left out, and why."""

    key: str
    reason: str


class DataRecord(Part):
    """The data set, by digest and by count."""

    name: str
    path: str
    digest: str
    n_source: int = Field(description="rows in the source; in records without a ledger those that were asked for")
    n_compared: int = Field(description="samples that both models embedded")
    n_discovery: int
    n_confirmation: int
    confirmation_digest: str | None = Field(
        default=None, description="sha256 of their sorted keys, a line each; stated where a model was aligned"
    )
    unseen: bool | None = Field(
        default=None,
        description="whether the confirmation samples are known to be none that an alignment saw, in its search, "
        "training or early stopping; None where no model was aligned",
    )
    n_rejected: int
    n_duplicate_images: int
    n_repeated_captions: int | None = Field(
        default=None, description="samples whose caption another one has too; None in older records"
    )
    n_empty_captions: int = 0
    format: str = "csv"
    n_long_captions: dict[str, int] = Field(
        default={}, description="captions cut at the context length, by model label"
    )
    ledger: Ledger | None = Field(default=None, description="what became of every row; none in older records")
    rejections: list[RejectionRecord] = Field(default=[], description="the first 200")
    rejection_reasons: dict[str, int] = Field(default={})
    metadata_columns: list[str] = Field(default=[])
    licence: str | None = None
    source: str | None = None
    datasheet: str | None = None

    @property
    def n_asked(self) -> int:
        """Samples that the configuration asks for, usable or not."""
        return self.n_compared + self.n_rejected


class SideMethod(Part):
    """How one of the two questions was solved."""

    target: str = Field(description="label of the model that should tie the samples together")
    reference: str
    eps: float
    n: int
    sigmas: dict[str, dict[str, float]] = Field(description="role (target, reference) -> modality -> bandwidth")
    sigma_curve: list[tuple[float, float]] = Field(
        default=[], description="(multiplier of the median distance, leading eigenvalue of the target) as searched"
    )
    ties: dict[str, float] = Field(default={}, description="role -> typical tie of its kernel; none in version 1")
    modality_ties: dict[str, dict[str, float]] = Field(
        default={}, description="role -> modality -> typical tie of the kernel over it alone"
    )
    median_distances: dict[str, dict[str, float]]
    leading_eigenvalues: dict[str, float] = Field(description="role -> leading eigenvalue of K / n on the subsample")
    features: str
    feature_error: float | None = None
    feature_error_bound: float | None = None
    status: str = Field(description="what the solver says of the search, in words")
    n_directions: int
    stats: dict[str, Any] = Field(default={})


class MethodRecord(Part):
    """Kernels, bandwidths, seeds, split and solver of the audit."""

    modality: str
    kernel: str
    sigma_rule: str
    eps_rule: str
    seed: int
    split_seed: int
    share_unit: ShareUnit = "ties"
    materiality: float
    alpha: float
    lost: SideMethod
    gained: SideMethod
    deviations: list[str] = Field(default=[], description="where this differs from the paper, in words")


class Similarity(Part):
    """Mean similarity inside each lobe, across the two, and of the lobes to the rest, under one model."""

    inside_positive: float | None
    inside_negative: float | None
    across: float | None
    positive_to_rest: float | None
    negative_to_rest: float | None


class SampleRecord(Part):
    """One sample of a slice, as the gallery shows it."""

    key: str
    caption: str | None
    score: float
    split: Literal["discovery", "confirmation"]
    metadata: dict[str, Any] = Field(default={})
    pick: Pick = Field(
        default="top",
        description="top: the first of the ranking; member: drawn from all members; near miss: the first of the "
        "ranking that are no members",
    )


class Word(Part):
    """A word or phrase that the captions of a lobe use more than the rest."""

    text: str
    z: float = Field(description="weighted log-odds over its standard error")
    share_in: float = Field(description="share of the lobe's captions that hold it")
    share_out: float


class OverRepresented(Part):
    """A metadata value that is commoner in a lobe than elsewhere."""

    column: str
    value: str
    share_in: float
    share_out: float
    lift: float
    low: float | None = Field(default=None, description="of the lift, 95 %; not corrected for the choice of the value")
    high: float | None = None


class LobeRecord(Part):
    """One end of a direction: samples ranked by signed score."""

    sign: Sign
    size: int = Field(description="samples in the slice by the size rule")
    n_held_out: int | None = Field(default=None, description="of them, that the search did not see")
    samples: list[SampleRecord] = Field(
        description="the gallery: the first members of the ranking, members drawn from the others, and near misses; "
        "in each the samples that the search did not see come first"
    )
    words: list[Word] = Field(default=[])
    metadata: list[OverRepresented] = Field(default=[])
    name: str = Field(default="", description="what tells it from the other lobe, and in how much of it; else its size")
    near_duplicates: float | None = Field(
        default=None,
        description="share of the members with a twin among them: the same image bytes, or a cosine over 0.98 in "
        "every modality compared under both models; of at most 5000 members",
    )


class Stability(Part):
    """How much of a finding comes back in searches on other samples; see :mod:`koda.slicing.stability`."""

    jaccard: float = Field(description="mean over the runs of the best overlap of the slice with one of theirs")
    subspace: float = Field(description="mean squared cosine between all directions of the side and the runs'")
    n_runs: int


class SharesAtTie(Part):
    """Held-out shares of a finding under Gaussian kernels of another typical tie."""

    tie: float
    target_share: Estimate
    reference_share: Estimate
    difference: Estimate


class Finding(Part):
    """One direction of one side: structure of the target model that the reference lacks.

    The lobe that carries more weight comes first (`positive`); the other is its counterpart, which
    the reference confuses with it.
    """

    side: Side
    direction: int = Field(description="1 is the strongest of its side")
    target: str
    reference: str
    target_energy: float
    reference_energy: float
    quotient: float | None = Field(description="None where the reference energy is 0")
    multiplier: float
    gap: float
    status: str
    target_share_in_sample: float
    reference_share_in_sample: float
    target_share: Estimate = Field(description="held out")
    reference_share: Estimate = Field(description="held out")
    difference: Estimate = Field(description="target_share - reference_share, held out")
    p_value: float | None = Field(default=None, description="Holm-adjusted, one-sided, of difference <= materiality")
    confirmed: bool | None = None
    name: str = Field(default="", description="what the lobes are, in short; empty in records that are older")
    words: list[str] = Field(default=[], description="the first words of both lobes")
    similarity: dict[str, Similarity] = Field(
        description="model role (target, reference) -> table of the held-out samples; in version 1 of all"
    )
    similarity_searched: dict[str, Similarity] = Field(default={}, description="the same of the samples searched")
    bandwidths: list[SharesAtTie] = Field(
        default=[], description="the held-out shares under narrower and wider kernels; none without a bandwidth"
    )
    depends_on_bandwidth: bool | None = Field(
        default=None, description="whether the difference is not over the materiality at all of these"
    )
    positive: LobeRecord
    negative: LobeRecord
    stability: Stability | None = None
    nearest_previous: NearestPrevious | None = None
    note: str | None = None

    @property
    def subset(self) -> Subset:
        """The samples of both lobes, and the number of the finding: `lost 1`."""
        return Subset(self.side, self.direction)

    @property
    def title(self) -> str:
        """The name; in a record without names, the first words."""
        return titled(self.name, self.words)


class Theme(Part):
    """Findings of one side whose slices overlap: one difference, seen along several directions."""

    side: Side
    number: int = Field(description="1 is the strongest of its side")
    findings: list[Subset] = Field(min_length=1, description="'lost 1' and so on, the strongest first")
    name: str = Field(description="that of the strongest finding")
    size: int = Field(description="samples in any of the slices, each counted once")
    confirmed: bool = Field(description="whether a finding is")


class Provenance(Part):
    """What made the record: software, hardware, digests, times."""

    koda_version: str
    code_digest: str
    python: str
    platform: str
    packages: dict[str, str]
    device: str
    cpu: str
    threads: int
    commit: str | None = None
    dirty: bool | None = None
    config_digest: str
    artifacts: dict[str, str] = Field(description="step -> digest of what it made")
    determinism: dict[str, Any] = Field(default={})
    runner: str = Field(
        default="threads", description="what computed the parts: threads, dask or ray; not told before version 5"
    )
    workers: int | None = Field(default=None, description="of the cluster, as far as the run had it work")


class AuditRecord(Record):
    """Everything the report says, and nothing else."""

    version: int = RECORD_VERSION
    id: str
    title: str
    started: datetime
    ended: datetime
    verdict: Verdict
    baseline: ModelRecord
    candidate: ModelRecord
    data: DataRecord
    method: MethodRecord
    findings: list[Finding]
    themes: list[Theme] = Field(default=[], description="of the findings that the held-out test did not refute")
    metrics: Metrics
    controls: Controls | None = Field(default=None, description="none in version 1")
    provenance: Provenance
    config: dict[str, Any]
    looks: Looks = Looks()
    changes: Changes | None = Field(default=None, description="since the last audit of the same line")
    trend: Trend | None = Field(default=None, description="of the line, where it has audits before this one")
    intended_use: IntendedUse = IntendedUse()
    crosswalk: Crosswalk | None = Field(default=None, description="references of frameworks; none in older records")
    alignment: AlignmentRecord | None = Field(
        default=None, description="of the candidate or the baseline, where koda fine-tuned it after an audit"
    )

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "the audit record") -> AuditRecord:
        """Read a record.

        Raises:
            DataError: not a record, or one written by a newer koda than this.
        """
        return parse_record(cls, text, where, "an audit record", "a valid audit record", RECORD_VERSION, _upgrade)


def _upgrade(raw: dict[str, Any]) -> None:
    """Label the shares of a record of version 1 as raw, and leave out what bandwidths were tried in it.

    What later versions added is empty where it is missing. Version 4 added the places of a confusion; version 5 how
    many samples asked and were ranked where all are too many, and what computed the parts.
    """
    if raw["version"] < 2:
        raw["method"]["share_unit"] = "raw"
        for side in SIDES:
            raw["method"][side].pop("sigma_tuning", None)
