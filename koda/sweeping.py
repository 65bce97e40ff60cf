"""A sweep: many pairs of models on one or several data sets, an audit each, and a summary of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from koda.changes import Status
from koda.config import (
    DEFAULT_POLICY,
    AuditConfig,
    DataConfig,
    DiscrepancyConfig,
    ModelSpec,
    PolicyRule,
    ReportConfig,
    Side,
    SignificanceConfig,
    Waiver,
    ZeroShotConfig,
    absolute_data,
    absolute_model,
)
from koda.digest import digest_json
from koda.figures import Part
from koda.models.fingerprint import label_of
from koda.policy import AuditFacts, Observation, observe
from koda.record import AuditRecord
from koda.settings import Strict, check_settings, read_settings


class SweepConfig(Strict):
    """The models and data sets of a sweep; the other sections are those of an audit, and hold for each."""

    models: tuple[ModelSpec, ...] = Field(min_length=1)
    data: tuple[DataConfig, ...] = Field(min_length=1, description="one data set, or a list of them")
    baseline: ModelSpec | None = None
    pairs: Literal["all", "baseline"] | None = Field(
        default=None, description="default: every model against the baseline if there is one, else all ordered pairs"
    )
    discrepancy: DiscrepancyConfig = DiscrepancyConfig()
    significance: SignificanceConfig = SignificanceConfig()
    zero_shot: ZeroShotConfig | None = None
    policy: tuple[PolicyRule, ...] = DEFAULT_POLICY
    waivers: tuple[Waiver, ...] = ()
    report: ReportConfig = Field(default=ReportConfig(), description="its title is that of the summary")

    @field_validator("data", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _pairs_there_are(self) -> SweepConfig:
        if self.pairs == "baseline" and self.baseline is None:
            raise ValueError("pairs: baseline needs the key baseline, the model that the others are compared with")
        if len(self.all_models) < 2:
            raise ValueError("a sweep needs two models, or one and a baseline")
        for what, names in (
            ("models", [label_of(spec) for spec in self.all_models]),
            ("data sets", [data_label(data) for data in self.data]),
        ):
            if twice := next((name for name in names if names.count(name) > 1), None):
                key = "label" if what == "models" else "name"
                raise ValueError(f"two of the {what} are called {twice!r}; tell them apart by their {key}")
        return self

    @property
    def all_models(self) -> list[ModelSpec]:
        """The models, and the baseline if it is none of them, first."""
        extra = [] if self.baseline is None or self.baseline in self.models else [self.baseline]
        return [*extra, *self.models]


@dataclass(frozen=True)
class SweptAudit:
    """One audit of a sweep, before it runs."""

    data: str
    baseline: str
    candidate: str
    config: AuditConfig


class SweepSide(Part):
    """What one audit of a sweep found on one side."""

    confirmed: int = Field(description="directions")
    share: float | None = Field(default=None, description="largest held-out share, as max_share; None: no finding")
    words: list[str] = Field(default=[], description="of the finding with that share")


class SweepCell(Part):
    """How one audit of a sweep came out; `error` says why one that did not run has no verdict."""

    data: str
    baseline: str
    candidate: str
    exit_code: int
    audit: str | None = None
    verdict: Status | None = None
    reasons: list[str] = Field(default_factory=list)
    lost: SweepSide | None = None
    gained: SweepSide | None = None
    retrieval_drop: float | None = Field(default=None, description="fall of R@1 on the whole set, if it was measured")
    error: str | None = None
    report: str | None = Field(default=None, description="path of the audit's report, relative to the summary")

    @property
    def place(self) -> tuple[str, str, str]:
        """Data set, candidate and baseline: a sweep has one cell of each."""
        return self.data, self.candidate, self.baseline


@dataclass(frozen=True)
class Matrix:
    """A table of a sweep: a row for each candidate, a column for each baseline, or for each data set of one."""

    title: str
    columns: list[str]
    rows: list[tuple[str, list[SweepCell | None]]]  # None where a model would meet itself


class SweepRecord(Part):
    """What `sweep.json` holds and `sweep.html` says."""

    version: int = 1
    id: str
    title: str
    started: datetime
    ended: datetime
    data: list[str]
    baselines: list[str]
    candidates: list[str]
    cells: list[SweepCell]

    def matrices(self) -> list[Matrix]:
        """Return the cells as tables: one for each data set, or a single one where there is one baseline."""
        cells = {cell.place: cell for cell in self.cells}
        if len(self.baselines) == 1:
            baseline = self.baselines[0]
            rows = [(c, [cells.get((data, c, baseline)) for data in self.data]) for c in self.candidates]
            return [Matrix(f"Against {baseline}", self.data, rows)]
        return [
            Matrix(
                data, self.baselines, [(c, [cells.get((data, c, b)) for b in self.baselines]) for c in self.candidates]
            )
            for data in self.data
        ]

    @property
    def exit_code(self) -> int:
        """The worst of all: the greatest exit code of the audits."""
        return max((cell.exit_code for cell in self.cells), default=0)


def found(record: AuditRecord) -> dict[str, Any]:
    """Return what a cell says of an audit's findings and of its retrieval."""
    facts = AuditFacts(record.findings, record.data, record.metrics)

    def worst(figure: str) -> Observation | None:
        return next(iter(observe(figure, facts, PolicyRule(figure=figure, warn=0))), None)

    def side(name: Side) -> SweepSide:
        seen = worst(f"{name}.max_share")
        finding = None if seen is None else seen.finding
        return SweepSide(
            confirmed=sum(f.side == name and f.confirmed is True for f in record.findings),
            share=None if finding is None else finding.target_share.value,
            words=[] if finding is None else finding.words,
        )

    drop = worst("retrieval.drop")
    return {
        "lost": side("lost"),
        "gained": side("gained"),
        "retrieval_drop": None if drop is None else drop.estimate.value,
    }


def load_sweep(path: str | Path, overrides: dict[str, Any] | None = None) -> SweepConfig:
    """Read and check the configuration of a sweep, as :func:`koda.config.load_config` does that of an audit.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value out of range, or no pair to compare.
    """
    path = Path(path)
    folder = path.resolve().parent
    config = check_settings(SweepConfig, read_settings(path, overrides), str(path))
    return config.model_copy(
        update={
            "models": tuple(absolute_model(spec, folder) for spec in config.models),
            "baseline": None if config.baseline is None else absolute_model(config.baseline, folder),
            "data": tuple(absolute_data(data, folder) for data in config.data),
        }
    )


def audits_of(config: SweepConfig) -> list[SweptAudit]:
    """Return the audits of a sweep, data set by data set and baseline by baseline."""
    one_baseline = config.baseline is not None and config.pairs != "all"
    baselines = [config.baseline] if config.baseline is not None and one_baseline else config.all_models
    return [
        SweptAudit(
            data_label(data),
            label_of(baseline),
            label_of(candidate),
            AuditConfig(
                baseline=baseline,
                candidate=candidate,
                data=data,
                discrepancy=config.discrepancy,
                significance=config.significance,
                zero_shot=config.zero_shot,
                policy=config.policy,
                waivers=config.waivers,
                report=config.report.model_copy(update={"title": None}),
            ),
        )
        for data in config.data
        for baseline in baselines
        for candidate in config.all_models
        if candidate != baseline
    ]


def data_label(data: DataConfig) -> str:
    """The name of a data set in a summary."""
    return data.name or Path(data.path.rstrip("/")).stem or data.path


def sweep_id(audits: Sequence[SweptAudit]) -> str:
    """The id of a sweep; the same audits have the same one."""
    return "sweep-" + digest_json([audit.config.model_dump(mode="json") for audit in audits])[:12]
