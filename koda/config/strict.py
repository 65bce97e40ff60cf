"""Files of settings: YAML read with care, checked against a model, and wrong in words."""

from __future__ import annotations

import copy
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.fields import FieldInfo

from koda.config.yaml_files import lines_of, parse_value, read_mapping
from koda.errors import ConfigError, did_you_mean, nearest
from koda.secrets import conceal_all
from koda.wording import one_line

_NOT_KEYS = ("float", "int", "str", "literal['auto','matched']")  # what pydantic adds to the place of an error
_MOST_SAID = 20  # of the places where something is wrong
_SHORT = reprlib.Repr()  # of a wrong value, however large it is
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 100, 100


class Strict(BaseModel):
    """Settings that refuse unknown keys, changes and numbers that are not finite, and hold no credentials."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_credentials(cls, raw: Any) -> Any:
        return conceal_all(raw)


Settings = TypeVar("Settings", bound=Strict)


def read_settings(path: Path, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a YAML file as a mapping, with the changes that `--set` asks for.

    Args:
        path: the file.
        overrides: dotted key -> value.

    Raises:
        ConfigError: no such file, not YAML, no mapping, or the same key twice.
    """
    return override(read_mapping(path), overrides or {})


def override(raw: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings with the values of dotted keys in them.

    Raises:
        ConfigError: a key below a single value.
    """
    raw = copy.deepcopy(raw)
    for key, value in overrides.items():
        _set(raw, key, value)
    return raw


def check_settings(model: type[Settings], raw: dict[str, Any], where: str, file: Path | None = None) -> Settings:
    """Check settings.

    Args:
        model: what they are to be.
        raw: the settings.
        where: what they were read from, for messages.
        file: the YAML file that they are of as they stand in it, so that messages can give lines.

    Raises:
        ConfigError: an unknown key (the nearest right one is named), or a value out of range.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        lines = lines_of(file) if file is not None and file.is_file() else {}
        raise ConfigError("\n".join(_explain(error, where, model, lines))) from None


def parse_override(text: str) -> tuple[str, Any]:
    """Split `KEY=VALUE`; the value is read as YAML, so numbers and lists come out as such.

    Raises:
        ConfigError: no equals sign, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r} is not KEY=VALUE.", "For example --set discrepancy.n_directions=5")
    try:
        return key.strip(), parse_value(value)
    except ValueError as error:
        if re.search(r"\{[^{}]*(\.\.|,)[^{}]*\}", value):  # a range of shards, which YAML takes for a mapping
            return key.strip(), value.strip()
        raise ConfigError(f"--set {key}: the value {_SHORT.repr(value)} cannot be used: {error}.") from error


def _set(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set `a.b.c` in nested mappings, or `a.0.c` in a list of them."""
    *parents, last = dotted.split(".")
    here: Any = raw
    for parent in parents:
        if isinstance(here, list):
            here = here[_place(here, parent, dotted)]
        else:
            inner = here.get(parent)
            here[parent] = here = {} if inner is None else inner
        if not isinstance(here, dict | list):
            raise ConfigError(f"--set {dotted}: {parent!r} is a single value, it has no keys under it.")
    here[_place(here, last, dotted) if isinstance(here, list) else last] = value


def _place(items: list[Any], number: str, dotted: str) -> int:
    """Read the place of an item in a list."""
    if not number.isdecimal() or int(number) >= len(items):
        raise ConfigError(
            f"--set {dotted}: the list has no item {number!r}.",
            f"Its items are 0 to {len(items) - 1}." if items else "It is empty.",
        )
    return int(number)


def _explain(
    error: ValidationError, where: str, root: type[BaseModel], lines: Mapping[tuple[str | int, ...], int]
) -> list[str]:
    """Put what is wrong in words, a line for each place: where it is, what is wrong, what would be right."""
    by_place: dict[str, list[Any]] = {}
    for item in error.errors():  # a value that may be of several kinds has an error for each
        place = one_line(".".join(str(part) for part in item["loc"] if part not in _NOT_KEYS))
        by_place.setdefault(place, []).append(item)
    said = []
    for place, items in list(by_place.items())[:_MOST_SAID]:
        line = lines.get(tuple(items[0]["loc"])) or lines.get(tuple(items[0]["loc"][:-1]))
        said.append(f"{where}{f', line {line}' if line else ''}: {_in_words(place, items, root)}")
    return said if len(said) == len(by_place) else [*said, f"{where}: {len(by_place) - len(said)} more like these."]


def _in_words(place: str, items: list[Any], root: type[BaseModel]) -> str:
    first = items[0]
    if first["type"] in {"extra_forbidden", "invalid_key"}:
        *parents, key = first["loc"]
        model = _model_at(parents, root)
        known = list(_by_key(model)) if model else []
        elsewhere = [name for name in _all_fields(root) if name.rsplit(".", 1)[-1] == str(key)]
        right = nearest(str(key)[:100], known) or elsewhere[:1]
        hint = did_you_mean(right, "did") if right else f"known keys here: {', '.join(known)}."
        return f"unknown key {place if first['type'] == 'extra_forbidden' else first['input']!r}; {hint}"
    if first["type"] == "missing":
        return f"the key {place!r} is missing."
    if first["type"] == "model_type":
        model = _model_at(first["loc"], root)
        keys = ", ".join(_by_key(model) if model else ())
        return f"{place}: KEY: VALUE belongs here, with the keys {keys} (it is {_SHORT.repr(first['input'])})."
    messages = [item["msg"].removeprefix("Value error, ").replace("valid tuple", "list") for item in items]
    if not place:
        return f"{'; '.join(messages)}."
    problem = ", or ".join(message[0].lower() + message[1:] for message in messages)
    got = (
        ""
        if first["type"] == "value_error" or isinstance(first["input"], dict)
        else f" (it is {_SHORT.repr(first['input'])})"
    )
    return f"{place}: {problem}{got}."


def _model_at(parents: Sequence[Any], root: type[BaseModel]) -> type[BaseModel] | None:
    """The settings at a place such as ("policy", 0), if there are any."""
    model = root
    for part in parents:
        if not isinstance(part, str) or part not in _by_key(model):
            continue
        inner = model_in(_by_key(model)[part].annotation)
        if inner is None:
            return None
        model = inner
    return model


def _by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of settings by the keys that a file has for them."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _all_fields(root: type[BaseModel]) -> list[str]:
    """Every key with its section, as `section.key`."""
    sections = ((name, model_in(info.annotation)) for name, info in root.model_fields.items())
    return [f"{name}.{key}" for name, model in sections if model is not None for key in model.model_fields]


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings model that an annotation holds, if it holds one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple, list):
        return next((model for part in get_args(annotation) if (model := model_in(part))), None)
    return None
