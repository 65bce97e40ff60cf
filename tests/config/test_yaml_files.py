"""YAML that is ambiguous, endless, too large or no settings at all is refused at once, with its line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from koda.config import load_config, parse_override
from koda.config.yaml_files import read_mapping
from koda.errors import ConfigError

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{here}: &{here} [{', '.join([f'*{before}'] * 10)}]\n" for before, here in zip("abcdefgh", "bcdefghi", strict=True)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 3000))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "line 6, has more than 200000 values, its aliases written out"),
        (CHAIN, "line 40, has more than 40 levels, its aliases written out"),
        ("a: &a [*a]\n", "line 1, has an alias within what it stands for"),
        ("a: &a\n  b: *a\n", "line 2, has an alias within what it stands for"),
        ("a: " + "[" * 20_000, "line 1, is nested deeper than 40 levels"),
        ("".join(" " * i + f"k{i}:\n" for i in range(200)), "line 40, is nested deeper than 40 levels"),
        ("baseline:\n\tname: x\n", "line 2, is not YAML: found character '\\t'"),
        ("# c\n- a\n- b\n", "line 2, holds no settings: a list stands where KEY: VALUE should"),
        ("hello\n", "line 1, holds no settings: a text stands"),
        ("", "holds no settings: it is empty"),
        ("# nothing\n", "holds no settings: it is empty"),
        ("a: 1\nb: 2\na: 3\n", "line 3, is not YAML: the key 'a' stands twice"),
        ("a: {b: 1}\nc: {d: [{e: 1, e: 2}]}\n", "line 2, is not YAML: the key 'e' stands twice"),
        ("a: " + "1" * 5000 + "\n", "line 1, is not YAML: '1111"),
        ("a: 1\nb: 2026-13-45\n", "line 2, is not YAML: '2026-13-45' is no value"),
        ("a: 1\nb: x\x1b[31m\n", r"line 2, is not YAML: it has the character '\x1b'"),
        ("a: 1\n---\nb: 2\n", "line 2, is not YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "line 1, is not YAML: could not determine a constructor"),
        ("a: {b: 1\nc: 2\n", "line 2, is not YAML"),
        ("a: '" + "x" * 2**20 + "'\n", "is larger than 1 MiB"),
    ],
)  # fmt: skip
def test_it_is_refused_in_words_and_at_once(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    begun = time.monotonic()
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert words in refused.value.message and str(path) in refused.value.message
    assert len(str(refused.value)) < 1000 and time.monotonic() - begun < 5


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError, match="line 2, is not text in UTF-8: it has the byte 0xe9"):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot be read: it is a folder"):
        load_config(tmp_path)


def test_aliases_merges_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("\ufeffa: &a {x: 1, y: 2}\nb: {c: &c {<<: *a, y: 3}}\nd: {<<: *c, x: 4}\ne: [*a, *a]\n", "utf-8")
    assert read_mapping(path) == {
        "a": {"x": 1, "y": 2}, "b": {"c": {"x": 1, "y": 3}}, "d": {"x": 4, "y": 3}, "e": [{"x": 1, "y": 2}] * 2,
    }  # fmt: skip


def test_of_many_wrong_keys_some_are_told_and_all_counted(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text("".join(f"key{i}: 1\n" for i in range(500)) + "on: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    assert "unknown key 'key0'" in str(refused.value) and "484 more like these" in str(refused.value)


def test_a_wrong_value_is_quoted_in_short_and_says_what_belongs_there(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    path.write_text(f"baseline: {'v' * 5000}\ncandidate: {{name: b}}\ndata: [{'x, ' * 5000}]\non: 1\n", "utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    said = str(refused.value)
    assert "baseline: KEY: VALUE belongs here, with the keys name, pretrained" in said and len(said) < 2000
    assert "unknown key 'on'" in said


def test_a_value_of_the_command_line_is_read_as_carefully() -> None:
    for value in ("[" * 5000, "{a: 1, a: 2", "&a [*a]"):
        with pytest.raises(ConfigError, match="--set x: the value"):
            parse_override(f"x={value}")


def test_a_wrong_setting_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.yaml"
    text = "baseline: {name: a}\ncandidate:\n  name: b\n  nam: c\ndata:\n  path: x\npolicy:\n  - {figure: a}\n"
    path.write_text(text + "discrepancy:\n  eps: 0\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_config(path)
    said = str(refused.value)
    assert f"{path}, line 4: unknown key 'candidate.nam'" in said and f"{path}, line 10: discrepancy.eps" in said
    assert f"{path}, line 8: policy.0: the rule" in said
    with pytest.raises(ConfigError) as refused:
        load_config(path, {"discrepancy.eps": -1})  # which stands on no line
    assert "line" not in str(refused.value)
