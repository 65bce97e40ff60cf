"""The reference of settings names every one of them, says what each means, and is the page in docs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from koda.config import AuditConfig, SweepConfig
from koda.config.reference import audit_settings, markdown, sweep_settings
from koda.config.strict import model_in

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{info.alias or name}"
        yield key, info
        if (inner := model_in(info.annotation)) is not None:
            yield from keys(inner, f"{key}.")


def test_every_setting_of_an_audit_is_named_and_explained() -> None:
    settings = {setting.key.replace("[]", ""): setting for setting in audit_settings()}
    assert list(settings) == [key for key, _ in keys(AuditConfig)]
    assert [key for key, setting in settings.items() if not setting.meaning or not setting.type] == []
    for name in ("data.licence", "data.source", "data.datasheet", "baseline.label", "waivers.expires"):
        assert name in settings
    required = [key for key, setting in settings.items() if setting.required and "." not in key]
    assert required == ["baseline", "candidate", "data"]


def test_every_setting_that_only_a_sweep_has_is_named() -> None:
    audit = {key for key, _ in keys(AuditConfig)}
    assert {setting.key for setting in sweep_settings()} == (SweepConfig.model_fields.keys() - audit) | {
        "baseline",
        "data",
    }
    assert all(setting.meaning for setting in sweep_settings())


def test_types_bounds_and_defaults_are_those_of_the_models() -> None:
    settings = {setting.key: setting for setting in audit_settings()}
    share = settings["significance.confirmation_share"]
    assert (share.type, share.default, share.required) == ("number, > 0, < 1", "0.5", False)
    assert settings["discrepancy.sigma"].type == "auto or matched or number"
    assert settings["baseline.image_mean"].type == "list of 3 numbers"
    assert settings["policy[].figure"].required and settings["policy"].type == "list of settings"


def test_the_page_in_docs_is_the_one_that_is_made() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "make reference writes it anew"
