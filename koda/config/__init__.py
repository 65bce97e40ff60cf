"""Configurations: YAML files, checked in full before anything runs."""

from __future__ import annotations

from koda.config.alignment import AlignmentConfig
from koda.config.audit import (
    AuditConfig,
    DiscrepancyConfig,
    PolicyRule,
    SignificanceConfig,
    Waiver,
    ZeroShotConfig,
    check_config,
    load_config,
    modalities_of,
)
from koda.config.data import DataConfig
from koda.config.models import ModelKind, ModelSpec, model_name
from koda.config.operation import LimitsConfig, NotifyConfig, PromoteConfig, ScheduleConfig, WatchConfig
from koda.config.runner import RunnerConfig
from koda.config.strict import override, parse_override
from koda.config.sweep import SweepConfig, data_label, load_sweep

__all__ = [
    "AlignmentConfig",
    "AuditConfig",
    "DataConfig",
    "DiscrepancyConfig",
    "LimitsConfig",
    "ModelKind",
    "ModelSpec",
    "NotifyConfig",
    "PolicyRule",
    "PromoteConfig",
    "RunnerConfig",
    "ScheduleConfig",
    "SignificanceConfig",
    "SweepConfig",
    "Waiver",
    "WatchConfig",
    "ZeroShotConfig",
    "check_config",
    "data_label",
    "load_config",
    "load_sweep",
    "modalities_of",
    "model_name",
    "override",
    "parse_override",
]
