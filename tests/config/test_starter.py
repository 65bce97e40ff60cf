"""The audit file to begin with: it loads, says of each key what the models say, and so do its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from koda.config import AuditConfig, load_config
from koda.config.models import ModelSpec
from koda.config.reference import audit_settings
from koda.config.starter import starter

BASELINE, CANDIDATE = ModelSpec(name="ViT-B-32", pretrained="laion2b_s34b_b79k"), ModelSpec(name="local-dir:new")


def write(folder: Path, text: str) -> Path:
    path = folder / "audit.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def switched_on(text: str) -> str:
    """Take away each # that no space follows, as the file says to."""
    lines = []
    for line in text.splitlines():
        indent, mark, rest = line.partition("#")
        example = bool(mark) and not indent.strip() and not rest.startswith(" ")
        lines.append(indent + rest if example else line)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def text() -> str:
    return starter(BASELINE, CANDIDATE, "pairs.tsv", "crosswalk.yaml")


def test_the_file_loads_and_states_what_it_was_given(text: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, text))
    assert (config.baseline.name, config.baseline.pretrained) == ("ViT-B-32", "laion2b_s34b_b79k")
    assert config.candidate.name == f"local-dir:{tmp_path / 'new'}"
    assert config.data.path == str(tmp_path / "pairs.tsv")
    assert config.report.crosswalk == str(tmp_path / "crosswalk.yaml")


def test_nothing_else_is_set(text: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, text))
    plain = AuditConfig(baseline=config.baseline, candidate=config.candidate, data=config.data)
    assert config.model_copy(update={"report": plain.report}) == plain


def test_it_loads_with_every_example_in_force(text: str, tmp_path: Path) -> None:
    config = load_config(write(tmp_path, switched_on(text)))
    assert config.schedule and config.watch and config.notify and config.promote and config.policy and config.waivers
    assert config.zero_shot and config.limits.minutes == 120 and config.report.title
    assert {waiver.figure for waiver in config.waivers} <= {rule.figure for rule in config.policy}
    assert all(line.lstrip().startswith("# ") for line in switched_on(text).splitlines() if "#" in line.split(":")[0])


def test_it_asks_for_what_a_report_states(text: str) -> None:
    asked = [found[1] for line in text.splitlines() if (found := re.fullmatch(r"  (\w+):", line))]
    each = ["licence", "source"]
    assert asked == [*each, *each, *each, "datasheet", "purpose", "out_of_scope", "owner", "contact"]


def test_each_key_is_explained_in_the_words_of_its_model(text: str) -> None:
    words = " ".join(part for line in text.splitlines() for part in line.strip().removeprefix("#").split())
    meanings = {setting.key: setting.meaning for setting in audit_settings()}
    for key in ("intended_use.purpose", "data.datasheet", "promote.run", "watch.as", "policy[].warn", "schedule"):
        assert " ".join(meanings[key].replace("# ", "").split()) in words.replace(" # ", " "), key
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    "hostile", ['a"b: #c\\.tsv', "ü 日本/a'b.tsv", "a\x1b[2J\u202e.tsv", "x" * 300 + ".tsv", "- a.tsv"]
)
def test_a_place_with_any_name_is_read_as_it_is(hostile: str, tmp_path: Path) -> None:
    text = starter(BASELINE, CANDIDATE, hostile, "crosswalk.yaml")
    assert load_config(write(tmp_path, text)).data.path == str(tmp_path / hostile)
    assert "\x1b" not in text and "\u202e" not in text
