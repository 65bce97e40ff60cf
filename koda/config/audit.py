"""The configuration of an audit: one YAML file, checked in full before anything runs."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from koda.config.alignment import AlignmentConfig
from koda.config.data import DataConfig
from koda.config.models import ModelSpec
from koda.config.operation import (
    LimitsConfig,
    NotifyConfig,
    PromoteConfig,
    ScheduleConfig,
    WatchConfig,
    absolute_promote,
    absolute_watch,
)
from koda.config.paths import absolute_data, absolute_model, absolute_report
from koda.config.report import IntendedUseConfig, ReportConfig
from koda.config.runner import RunnerConfig, absolute_runner
from koda.config.strict import Strict, check_settings, read_settings
from koda.typing import MODALITIES

_DEFAULT_SHARE = 0.003  # the reference may tie a direction together as a group of this share, where no option sets eps


class DiscrepancyConfig(Strict):
    """How structure that one model has and the other lacks is looked for (method sections 1 to 5)."""

    modality: Literal["joint", "image", "text"] = Field(
        default="joint", description="what is compared: images and captions together, or one of them"
    )
    kernel: Literal["gaussian", "cosine", "polynomial"] = Field(
        default="gaussian", description="how alike two samples are under a model"
    )
    sigma: Literal["auto", "matched"] | float = Field(
        default="auto",
        description="auto: a typical tie of 0.3 in each model; matched: the paper's rule, leading eigenvalues that "
        "agree; or one bandwidth for both models and modalities; gaussian kernel only",
    )
    features: Literal["auto", "orf", "rff", "sketch", "tensorsketch", "exact"] = Field(
        default="auto",
        description="random features in place of the kernels: orf and rff of the gaussian, sketch and tensorsketch "
        "of the others; exact: none; auto: by the number of samples",
    )
    n_features: int | None = Field(
        default=None, ge=1, description="r: 2 r coordinates; default: 1000 on the CPU, 3000 on a GPU"
    )
    method: Literal["koda", "spec"] = Field(
        default="koda", description="koda: a limit on the reference; spec: leading eigenvectors of K_A - eta K_B"
    )
    eta: float = Field(default=1.0, gt=0, description="spec's fixed weight of the reference")
    n_directions: int = Field(default=10, ge=1, description="directions of a step of the search")
    max_directions: int = Field(
        default=30,
        ge=1,
        description="an audit goes on in steps of n_directions, up to so many, while the last is material; where it is "
        "not stated, n_directions if that is more",
    )
    max_reference_share: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="share of the data that the reference may tie together of what is found, in ties; default: 0.003, "
        "unless eps or eps_quantile sets the limit",
    )
    eps_quantile: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="instead the paper's limit: a quantile of the reference's eigenvalues",
    )
    eps: float | None = Field(default=None, gt=0, description="instead the limit on the reference's energy itself")
    tolerance: float = Field(default=1e-6, gt=0, lt=1, description="certified relative gap asked for")
    seed: int = Field(default=0, ge=0, description="of the split, the random features and the search")
    device: str = Field(default="auto", description="cpu, cuda or cuda:1; auto: a GPU if there is one")

    @field_validator("sigma", mode="before")
    @classmethod
    def _nothing_to_tune(cls, value: Any) -> Any:
        if value == "tune":
            raise ValueError(
                "tune is gone: in typical ties shares hardly depend on the bandwidth, so there is nothing to tune; "
                "use auto, or leave it out"
            )
        return value

    @field_validator("sigma")
    @classmethod
    def _positive_sigma(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value <= 0:
            raise ValueError("sigma is a positive bandwidth")
        return value

    @model_validator(mode="after")
    def _kernel_and_features_fit(self) -> DiscrepancyConfig:
        if self.kernel != "gaussian" and self.sigma != "auto":
            raise ValueError(f"sigma is for the gaussian kernel; the {self.kernel} kernel has no bandwidth")
        fourier, sketches = ("orf", "rff"), ("sketch", "tensorsketch")
        right, wrong = (fourier, sketches) if self.kernel == "gaussian" else (sketches, fourier)
        if self.features in wrong:
            raise ValueError(
                f"features: {self.features} do not approximate the {self.kernel} kernel; "
                f"use auto, exact, {' or '.join(right)}"
            )
        return self

    @model_validator(mode="after")
    def _options_of_the_method(self) -> DiscrepancyConfig:
        if self.method == "koda" and self.eta != 1:
            raise ValueError("eta is the fixed weight of method spec; method koda finds its multipliers itself")
        return self

    @model_validator(mode="after")
    def _steps_fit(self) -> DiscrepancyConfig:
        if self.max_directions >= self.n_directions:
            return self
        if "max_directions" in self.model_fields_set:
            raise ValueError(
                f"max_directions, {self.max_directions}, is less than n_directions, {self.n_directions}: a search "
                "makes one step of n_directions at the least"
            )
        object.__setattr__(self, "max_directions", self.n_directions)
        return self

    @model_validator(mode="after")
    def _one_way_to_set_eps(self) -> DiscrepancyConfig:
        given = [n for n in ("max_reference_share", "eps_quantile", "eps") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each set eps; give one of them")
        if not given:
            object.__setattr__(self, "max_reference_share", _DEFAULT_SHARE)
        elif self.method == "spec" and self.max_reference_share != _DEFAULT_SHARE:
            raise ValueError(f"{given[0]} is a limit of method koda; method spec has none, it weighs by eta")
        return self


def modalities_of(config: DiscrepancyConfig) -> tuple[str, ...]:
    """Return the modalities that the configuration compares: ("image", "text") for joint."""
    return MODALITIES if config.modality == "joint" else (config.modality,)


class SignificanceConfig(Strict):
    """How a finding is tested on samples that the search did not see (method section 7)."""

    confirmation_share: float = Field(
        default=0.5, gt=0, lt=1, description="of the samples, kept from the search to test what it finds"
    )
    max_samples: int = Field(default=8192, ge=2, description="of the confirmation part, at most")
    materiality: float = Field(default=0.003, ge=0, lt=1, description="in ties: the group that matters")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="chance of any false confirmation, over all findings")
    stability: int = Field(default=2, ge=0, le=50, description="searches on other samples to compare with; 0: none")
    spike_ins: int = Field(
        default=3, ge=0, le=50, description="trials at each share of what the audit could have seen; 0: none"
    )

    def on_at_most(self, samples: int) -> SignificanceConfig:
        """Return the same test on fewer samples, for what only says whether to look further."""
        return self.model_copy(update={"max_samples": min(self.max_samples, samples)})


class PolicyRule(Strict):
    """A limit on one recorded figure."""

    figure: str = Field(description="what is limited; koda figures lists them")
    warn: float | None = Field(default=None, description="the figure itself beyond it warns")
    fail: float | None = Field(default=None, description="the whole interval of the figure beyond it fails")
    direction: Literal["above", "below"] | None = Field(
        default=None, description="the side of the limits that is bad; default: that of the figure"
    )
    max_reference_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="a finding counts up to this reference share; default: half its target share",
    )
    min_stability: float | None = Field(
        default=None, ge=0, le=1, description="a finding whose slice is found again less than this decides nothing"
    )
    owner: str | None = Field(default=None, description="whom to ask about the rule, for the report")
    reason: str | None = Field(default=None, description="why the rule is there, for the report")

    @model_validator(mode="after")
    def _has_a_limit(self) -> PolicyRule:
        if self.warn is None and self.fail is None:
            raise ValueError(f"the rule on {self.figure!r} has neither a warn nor a fail limit")
        return self


class Waiver(Strict):
    """A person's decision to let a figure be over its limits, for a time."""

    figure: str = Field(description="of the rules that it takes out of the verdict")
    person: str = Field(description="who decided")
    reason: str = Field(description="why")
    expires: date = Field(description="the last day (UTC) on which it is in force")

    @field_validator("person", "reason")
    @classmethod
    def _is_said(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("it is empty; a waiver says who decided, and why")
        return value


class ZeroShotConfig(Strict):
    """Classes that both models tell apart by their names alone.

    The classes are listed, or are the values of a metadata column, which then is the label too.
    """

    classes: tuple[str, ...] | None = Field(default=None, min_length=2, description="names of the classes")
    column: str | None = Field(default=None, description="metadata column whose values are the classes")
    label_column: str | None = Field(default=None, description="metadata column of the right class; default: `column`")
    templates: tuple[str, ...] = Field(
        default=("a photo of a {}",), min_length=1, description="{} stands for the class"
    )

    @model_validator(mode="after")
    def _classes_and_labels(self) -> ZeroShotConfig:
        if (self.classes is None) == (self.column is None):
            raise ValueError("give either classes, a list of names, or column, a metadata column whose values they are")
        if self.label_column is None and self.column is None:
            raise ValueError("label_column names the metadata column that holds the right class of each sample")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("a class stands twice")
        if wrong := [template for template in self.templates if template.count("{}") != 1]:
            raise ValueError(f"the template {wrong[0]!r} needs {{}} once, for the class")
        return self

    @property
    def labels(self) -> str:
        """The metadata column of the right class."""
        return self.label_column or self.column or ""


class AuditConfig(Strict):
    """Everything an audit needs: two models, a data set, and how to compare them."""

    baseline: ModelSpec
    candidate: ModelSpec
    data: DataConfig
    discrepancy: DiscrepancyConfig = DiscrepancyConfig()
    significance: SignificanceConfig = SignificanceConfig()
    zero_shot: ZeroShotConfig | None = None
    policy: tuple[PolicyRule, ...] | None = Field(
        default=None, description="default: rules about harm, as far as it was measured; see koda.policy.default"
    )
    waivers: tuple[Waiver, ...] = ()
    report: ReportConfig = ReportConfig()
    intended_use: IntendedUseConfig = IntendedUseConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    schedule: ScheduleConfig | None = None
    watch: WatchConfig | None = None
    notify: tuple[NotifyConfig, ...] = ()
    promote: PromoteConfig | None = None
    limits: LimitsConfig = LimitsConfig()
    runner: RunnerConfig = RunnerConfig()

    def settings(self, *, alignment: bool = True) -> dict[str, Any]:
        """Return what makes the audit what it is, as JSON: without when it runs and what follows from it.

        Args:
            alignment: whether the settings of an alignment, which comes after the audit, are among it.
        """
        return self.model_dump(mode="json", exclude=_OPERATION if alignment else {*_OPERATION, "alignment"})

    def audited(self) -> AuditConfig:
        """Return the configuration of the audit alone, which records and Prefect may hold."""
        kept = {name: getattr(self, name) for name in type(self).model_fields if name not in _OPERATION}
        return AuditConfig.model_construct(**kept)


_OPERATION = {"schedule", "watch", "notify", "promote", "limits", "runner"}


def load_config(
    path: str | Path, overrides: dict[str, Any] | None = None, *, without_candidate: bool = False
) -> AuditConfig:
    """Read and check a configuration file.

    Relative paths in it (the data, images, folders and files of models, checkpoint files) are relative
    to the file itself, so that a configuration means the same from every working directory.

    Args:
        path: the YAML file.
        overrides: dotted key -> value, as `--set discrepancy.seed=3` gives them.
        without_candidate: the candidate may be missing, where checkpoints that are found take its place; the baseline
            then stands there.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (the nearest right one is named), or a
            value out of range.
    """
    path = Path(path)
    raw = read_settings(path, overrides)
    if without_candidate and "candidate" not in raw and "baseline" in raw:
        raw = {**raw, "candidate": raw["baseline"]}
    if "discrepancy.n_directions" in (overrides or {}):
        raw = with_room_for_steps(raw, overrides or {})
    return check_config(raw, str(path), path.absolute().parent, None if overrides else path)


def with_room_for_steps(raw: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which the most directions of a search hold one step, unless a change states them."""
    search = raw.get("discrepancy")
    if not isinstance(search, dict) or "discrepancy.max_directions" in overrides:
        return raw
    step, most = search.get("n_directions"), search.get("max_directions")
    if not isinstance(step, int) or not isinstance(most, int) or step <= most:
        return raw
    return {**raw, "discrepancy": {**search, "max_directions": step}}


def check_config(raw: dict[str, Any], where: str, folder: Path, file: Path | None = None) -> AuditConfig:
    """Check settings that were read from `where`; relative paths are relative to `folder`.

    Args:
        raw, where, file: as for :func:`koda.config.strict.check_settings`.
        folder: of the file.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    config = check_settings(AuditConfig, raw, where, file)
    return config.model_copy(
        update={
            "baseline": absolute_model(config.baseline, folder),
            "candidate": absolute_model(config.candidate, folder),
            "data": absolute_data(config.data, folder),
            "report": absolute_report(config.report, folder),
            "watch": config.watch and absolute_watch(config.watch, folder),
            "promote": config.promote and absolute_promote(config.promote, folder),
            "runner": absolute_runner(config.runner, folder),
        }
    )
