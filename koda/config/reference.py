"""Every setting of a configuration with its type, default and meaning, read from the models that check it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from koda.config.audit import AuditConfig
from koda.config.strict import model_in
from koda.config.sweep import SweepConfig

_TYPES = {str: "text", int: "integer", float: "number", bool: "true or false", date: "date"}
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}  # how pydantic names the bounds of a number


@dataclass(frozen=True)
class Setting:
    """One key that a configuration may have."""

    key: str
    type: str
    required: bool
    default: str
    meaning: str


def audit_settings() -> list[Setting]:
    """Return the settings of an audit, in the order of a file; `[]` stands for the items of a list."""
    return list(_settings(AuditConfig, ""))


def sweep_settings() -> list[Setting]:
    """Return the settings of a sweep that an audit has not: the models, the data sets, and which pairs."""
    return [
        setting
        for name, info in SweepConfig.model_fields.items()
        if info.annotation != getattr(AuditConfig.model_fields.get(name), "annotation", None) and name != "report"
        for setting in [_setting(name, info)]
    ]


def markdown() -> str:
    """Return the reference as a page of Markdown."""
    parts = [
        "# Every setting",
        "`koda config` prints this list; it is made from the models that check a configuration. Only `baseline`, "
        "`candidate` and `data.path` have to be given. `[]` stands for each item of a list. Relative paths are "
        "relative to the file.",
        "## An audit",
        _table(audit_settings()),
        "## A sweep",
        "Beside these keys a sweep has `discrepancy`, `significance`, `zero_shot`, `policy`, `waivers`, `report`, "
        "`limits` and `runner` as an audit has them.",
        _table(sweep_settings()),
    ]
    return "\n\n".join(parts) + "\n"


def _table(settings: list[Setting]) -> str:
    rows = [("key", "type", "default", "meaning"), ("---",) * 4]
    for setting in settings:
        default = "required" if setting.required else f"`{setting.default}`" if setting.default else ""
        rows.append((f"`{setting.key}`", setting.type, default, setting.meaning))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _settings(model: type[BaseModel], prefix: str) -> Iterator[Setting]:
    for field, info in model.model_fields.items():
        name = info.alias or field
        inner = model_in(info.annotation)
        if inner is None:
            yield _setting(f"{prefix}{name}", info)
            continue
        is_list = get_origin(_without_none(info.annotation)) is tuple
        yield Setting(
            f"{prefix}{name}",
            "list of settings" if is_list else "settings",
            info.is_required(),
            "",
            info.description or _first_line(inner),
        )
        yield from _settings(inner, f"{prefix}{name}{'[]' if is_list else ''}.")


def _setting(key: str, info: FieldInfo) -> Setting:
    default = "" if info.is_required() else _value(info.get_default())
    bounds = [
        f"{sign} {getattr(bound, name):g}"
        for name, sign in _BOUNDS.items()
        for bound in info.metadata
        if getattr(bound, name, None) is not None
    ]
    lengths = [bound.min_length for bound in info.metadata if getattr(bound, "min_length", None) is not None]
    bounds += [f"at least {length}" for length in lengths if length > 1]
    kind = ", ".join([_type(_without_none(info.annotation)), *bounds])
    return Setting(key, kind, info.is_required(), default, info.description or "")


def _type(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in inner)
    if origin is tuple:
        kinds = [part for part in inner if part is not Ellipsis]
        kind = _type(kinds[0])
        kind = kind if get_origin(kinds[0]) is Literal else kind.removesuffix("s") + "s"
        return f"list of {len(kinds)} {kind}" if len(kinds) > 1 else f"list of {kind}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    return _TYPES.get(annotation, str(annotation))


def _value(value: Any) -> str:
    if value is None or isinstance(value, BaseModel) or value == ():
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kinds = tuple(part for part in get_args(annotation) if part is not NoneType)
        return kinds[0] if len(kinds) == 1 else Union[kinds]  # noqa: UP007 - of parts that only the program knows
    return annotation


def _first_line(model: type[BaseModel]) -> str:
    line = (model.__doc__ or "").strip().splitlines()[0].rstrip(".").partition(" (method ")[0]
    return line[:1].lower() + line[1:]
