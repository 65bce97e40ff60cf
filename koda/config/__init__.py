"""Configurations: YAML files, checked in full before anything runs."""

from __future__ import annotations

from koda.config.alignment import AlignmentConfig
from koda.config.audit import (
    DEFAULT_POLICY,
    AuditConfig,
    DiscrepancyConfig,
    PolicyRule,
    ReportConfig,
    SignificanceConfig,
    Waiver,
    ZeroShotConfig,
    check_config,
    load_config,
    modalities_of,
)
from koda.config.data import DataConfig
from koda.config.models import ModelKind, ModelSpec, model_name
from koda.config.paths import absolute_data, absolute_model
from koda.config.strict import Strict, override, parse_override, read_settings
from koda.config.sweep import SweepConfig, data_label, load_sweep

__all__ = [
    "DEFAULT_POLICY",
    "AlignmentConfig",
    "AuditConfig",
    "DataConfig",
    "DiscrepancyConfig",
    "ModelKind",
    "ModelSpec",
    "PolicyRule",
    "ReportConfig",
    "SignificanceConfig",
    "Strict",
    "SweepConfig",
    "Waiver",
    "ZeroShotConfig",
    "absolute_data",
    "absolute_model",
    "check_config",
    "data_label",
    "load_config",
    "load_sweep",
    "modalities_of",
    "model_name",
    "override",
    "parse_override",
    "read_settings",
]
