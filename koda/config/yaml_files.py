"""YAML of people, read with care: what is ambiguous, endless or too large is refused, with its line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from koda.errors import ConfigError, reason_of
from koda.wording import one_line

_MOST_BYTES = 2**20  # which takes some seconds to read
_MOST_VALUES = 200_000  # with each alias counted as all that it stands for
_MOST_DEPTH = 40
_BOOL = "tag:yaml.org,2002:bool"
_KINDS = {"seq": "a list", "str": "a text", "int": "a number", "float": "a number", "null": "nothing"}


def read_mapping(path: Path) -> dict[Any, Any]:
    """Read a YAML file that holds settings.

    Raises:
        ConfigError: no such file, not YAML, no mapping, the same key twice, or more than settings can be.
    """
    text = _read(path)
    try:
        node, raw = _load(text)
    except yaml.YAMLError as error:
        line, problem = _explained(error, text)
        raise ConfigError(f"{path}{line} {problem}.") from error
    if node is None:
        raise ConfigError(f"{path} holds no settings: it is empty.", "The README shows one, whole.")
    if not isinstance(raw, dict):
        kind = _KINDS.get(str(node.tag).rpartition(":")[2], "a single value")
        raise ConfigError(
            f"{path}, line {node.start_mark.line + 1}, holds no settings: {kind} stands where KEY: VALUE should.",
            "The README shows one, whole.",
        )
    return raw


def lines_of(path: Path) -> dict[tuple[str | int, ...], int]:
    """Return the line of each key and each item of a list in a YAML file that can be read, by its place."""
    lines: dict[tuple[str | int, ...], int] = {}
    root = _load(_read(path))[0]
    waiting: list[tuple[tuple[str | int, ...], yaml.Node | None]] = [((), root)]
    while waiting:
        place, node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            inner = [((*place, str(key.value)), key, value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            inner = [((*place, number), item, item) for number, item in enumerate(node.value)]
        else:
            continue
        lines |= {where: marked.start_mark.line + 1 for where, marked, _ in inner}
        waiting += [(where, value) for where, _, value in inner]
    return lines


def parse_value(text: str) -> Any:
    """Read a value as YAML reads it.

    Raises:
        ValueError: it is not YAML; the message says why.
    """
    try:
        return _load(text)[1]
    except yaml.YAMLError as error:
        raise ValueError(f"it {_explained(error, text)[1]}") from error


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:  # also a pipe, such as <(...) of a shell
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration file {path}.", "Give the path of a YAML file.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The configuration file {path} cannot be read: {reason_of(error)}.", "Give the path of a YAML file."
        ) from error
    if len(content) > _MOST_BYTES:
        raise ConfigError(f"{path} is larger than {_MOST_BYTES // 2**20} MiB: that is no file of settings.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{path}, line {line}, is not text in UTF-8: it has the byte 0x{content[error.start]:02x}.",
            "Save it as UTF-8.",
        ) from error


def _load(text: str) -> tuple[yaml.Node | None, Any]:
    """Return the root of the one document in a text, and its value."""
    loader = _CarefulLoader(text)
    try:
        node = loader.get_single_node()
        return node, None if node is None else loader.construct_document(node)
    finally:
        loader.dispose()


def _explained(error: yaml.YAMLError, text: str) -> tuple[str, str]:
    """Return where a text is not YAML, as part of a sentence, and why."""
    if isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f", line {line},", f"is not YAML: it has the character {chr(error.character)!r}"
    mark = getattr(error, "problem_mark", None)
    problem = one_line(str(getattr(error, "problem", None) or error))
    if "'\\t'" in problem:
        problem += "; YAML is indented with spaces, not tabs"
    whole = problem if isinstance(error, _TooMuch) else f"is not YAML: {problem}"
    return f", line {mark.line + 1}," if mark else "", whole


class _TooMuch(yaml.MarkedYAMLError):
    """YAML as it should be, but more than settings can be."""


class _CarefulLoader(yaml.SafeLoader):
    """YAML without keys that stand twice (plain YAML lets the last one win), aliases that explode, and deep nesting.

    `on`, `off`, `yes` and `no` are words, as in YAML 1.2: a key may be called on, and a class no.

    Each node is measured when it is composed, after its children: so nothing that is too much is ever built.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML has it
        first: [(tag, pattern) for tag, pattern in known if tag != _BOOL]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nesting = 0
        self._sizes: dict[yaml.Node, tuple[int, int]] = {}  # node -> values in it, and how deep they lie

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, unless it is too deep or too large."""
        event = self.peek_event()  # type: ignore[no-untyped-call] # as its stubs leave it
        mark = event.start_mark
        self._nesting += 1
        if self._nesting > _MOST_DEPTH:
            raise _TooMuch(problem=f"is nested deeper than {_MOST_DEPTH} levels", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._nesting -= 1
        if node is not None and node not in self._sizes:
            if isinstance(event, yaml.AliasEvent):
                raise _TooMuch(problem="has an alias within what it stands for", problem_mark=mark)
            self._sizes[node] = self._measure(node, mark)
        return node

    def _measure(self, node: yaml.Node, mark: yaml.Mark) -> tuple[int, int]:
        children = [node for pair in node.value for node in pair] if isinstance(node, yaml.MappingNode) else (
            node.value if isinstance(node, yaml.SequenceNode) else []
        )  # fmt: skip
        size = 1 + sum(self._sizes[child][0] for child in children)
        depth = 1 + max((self._sizes[child][1] for child in children), default=0)
        if size > _MOST_VALUES or depth > _MOST_DEPTH:
            much = f"more than {_MOST_VALUES} values" if size > _MOST_VALUES else f"more than {_MOST_DEPTH} levels"
            raise _TooMuch(problem=f"has {much}, its aliases written out", problem_mark=mark)
        if isinstance(node, yaml.MappingNode):
            _refuse_doubles(node)
        return size, depth

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make the value of a node; what has the form of a number or a date and is none is told with its line."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.MarkedYAMLError(
                problem=f"{str(node.value)[:40]!r} is no value: {error}", problem_mark=node.start_mark
            ) from error


_CarefulLoader.add_implicit_resolver(_BOOL, re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF"))


def _refuse_doubles(node: yaml.MappingNode) -> None:
    seen: set[tuple[str, str]] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        if (key.tag, key.value) in seen:
            raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
        seen.add((key.tag, key.value))
