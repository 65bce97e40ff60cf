"""The configuration of a sweep: many models on one or several data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from koda.config.audit import (
    DiscrepancyConfig,
    PolicyRule,
    SignificanceConfig,
    Waiver,
    ZeroShotConfig,
)
from koda.config.data import DataConfig
from koda.config.models import ModelSpec
from koda.config.operation import LimitsConfig
from koda.config.paths import absolute_data, absolute_model, absolute_report
from koda.config.report import ReportConfig
from koda.config.runner import RunnerConfig, absolute_runner
from koda.config.strict import Strict, check_settings, read_settings


class SweepConfig(Strict):
    """The models and data sets of a sweep; the other sections are those of an audit, and hold for each."""

    models: tuple[ModelSpec, ...] = Field(min_length=1, description="the models; each is embedded once")
    data: tuple[DataConfig, ...] = Field(min_length=1, description="one data set, or a list of them")
    baseline: ModelSpec | None = Field(default=None, description="the model that all others are compared with")
    pairs: Literal["all", "baseline"] | None = Field(
        default=None, description="default: every model against the baseline if there is one, else all ordered pairs"
    )
    discrepancy: DiscrepancyConfig = DiscrepancyConfig()
    significance: SignificanceConfig = SignificanceConfig()
    zero_shot: ZeroShotConfig | None = None
    policy: tuple[PolicyRule, ...] | None = None
    waivers: tuple[Waiver, ...] = ()
    report: ReportConfig = Field(default=ReportConfig(), description="its title is that of the summary")
    limits: LimitsConfig = Field(default=LimitsConfig(), description="hold for each audit")
    runner: RunnerConfig = Field(default=RunnerConfig(), description="one cluster works for all audits")

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
            ("models", [spec.display_name for spec in self.all_models]),
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


def load_sweep(path: str | Path, overrides: dict[str, Any] | None = None) -> SweepConfig:
    """Read and check the configuration of a sweep, as :func:`koda.config.load_config` does that of an audit.

    Raises:
        ConfigError: no such file, not YAML, an unknown key, a value out of range, or no pair to compare.
    """
    path = Path(path)
    folder = path.absolute().parent
    raw = read_settings(path, overrides)
    config = check_settings(SweepConfig, raw, str(path), None if overrides else path)
    return config.model_copy(
        update={
            "models": tuple(absolute_model(spec, folder) for spec in config.models),
            "baseline": None if config.baseline is None else absolute_model(config.baseline, folder),
            "data": tuple(absolute_data(data, folder) for data in config.data),
            "report": absolute_report(config.report, folder),
            "runner": absolute_runner(config.runner, folder),
        }
    )


def data_label(data: DataConfig) -> str:
    """The name of a data set in a summary."""
    return data.name or Path(data.path.rstrip("/")).stem or data.path
