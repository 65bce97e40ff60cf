"""The configuration of an audit that ran, read back from its record, so that it can be run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from koda.config import AuditConfig, load_config, override
from koda.config.audit import with_room_for_steps
from koda.config.strict import check_settings
from koda.records import AuditRecord


def load_config_or_record(path: Path, overrides: dict[str, Any]) -> AuditConfig:
    """Read the configuration of an audit from its YAML file, or from the record of an audit that had it.

    Args:
        path: the YAML file, an `audit.json`, or the folder of one.
        overrides: dotted key -> value.

    Raises:
        ConfigError: as :func:`koda.config.load_config`.
        DataError: a record that cannot be read.
    """
    path = path / "audit.json" if _is_folder_of_record(path) else path
    if _is_record(path):
        return config_of(AuditRecord.from_json(path.read_bytes(), str(path)), overrides)
    return load_config(path, overrides)


def config_of(record: AuditRecord, overrides: dict[str, Any]) -> AuditConfig:
    """Return the configuration that an audit ran with, with changes.

    Raises:
        ConfigError: a change that does not fit, or a record of a koda whose settings were others.
    """
    raw = with_room_for_steps(override(record.config, overrides), overrides)
    return check_settings(AuditConfig, raw, f"the audit {record.id}")


def _is_folder_of_record(path: Path) -> bool:
    try:
        return (path / "audit.json").is_file()
    except OSError:  # too long for a path, say
        return False


def _is_record(path: Path) -> bool:
    """Tell the record of an audit from settings, which JSON may hold too."""
    if path.suffix != ".json":
        return False
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # and what is wrong is said by whoever reads it as settings
    return isinstance(content, dict) and {"version", "config", "verdict"} <= content.keys()
