"""The crosswalk file: read strictly, wrong in words, and part of what a record is known by."""

from __future__ import annotations

import hashlib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from koda.audit.crosswalk import SECTIONS, read_crosswalk, shipped_crosswalk
from koda.config import load_config, load_sweep
from koda.errors import ConfigError
from koda.report.cover import sections
from tests.report import factory

ROW: dict[str, Any] = {
    "framework": "House rules",
    "reference": "Rule 1",
    "asks_for": "a test",
    "status": "part",
    "supplies": "this one",
    "owner": "the lab",
    "section": "method",
    "applies_from": date(2027, 1, 1),
}
FILE: dict[str, Any] = {"title": "Ours", "as_of": date(2026, 11, 1), "kept_by": "the lab", "rows": [ROW]}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "crosswalk.yaml"
    path.write_text(yaml.safe_dump(FILE | changes, sort_keys=False), encoding="utf-8")
    return path


def test_the_one_that_comes_with_koda_is_read() -> None:
    crosswalk = read_crosswalk()
    status = {f"{row.framework.split()[0]} {row.reference}": row.status for row in crosswalk.rows}
    assert status["EU Annex IV 2(g)"] == "filled" and status["EU Art. 15"] == "not here"
    assert status["NIST MEASURE 2.11"] == "not here" and status["ISO/IEC A.7.5"] == "part"
    assert {row.status for row in crosswalk.rows} == {"filled", "part", "not here", "link only"}
    assert all(row.owner for row in crosswalk.rows)
    assert all(row.supplies and row.section for row in crosswalk.rows if row.status != "not here")
    assert all(row.applies_from is None for row in crosswalk.rows)  # dates are for a team's lawyers to state
    assert crosswalk.digest == hashlib.sha256(shipped_crosswalk().read_bytes()).hexdigest()


def test_every_section_of_a_report_may_be_named() -> None:
    record = factory.record(6, map_points=40).model_copy(update={"crosswalk": read_crosswalk()})
    assert {section.id for part in sections(record) for section in part} <= set(SECTIONS)


def test_a_team_puts_its_own_in_its_place(tmp_path: Path) -> None:
    other = {**ROW, "framework": "Another", "reference": "A"}
    read = read_crosswalk(write(tmp_path, rows=[ROW, other, {**ROW, "reference": "Rule 2", "status": "filled"}]))
    assert (read.title, read.as_of, read.kept_by) == ("Ours", date(2026, 11, 1), "the lab")
    assert [row.reference for row in read.rows] == ["Rule 1", "Rule 2", "A"]  # those of one framework stand together
    assert read.rows[0].model_dump() == ROW


def test_a_row_needs_four_keys_only(tmp_path: Path) -> None:
    least = {key: ROW[key] for key in ("framework", "reference", "asks_for", "status")}
    (row,) = read_crosswalk(write(tmp_path, rows=[least])).rows
    assert (row.supplies, row.owner, row.section, row.applies_from) == ("", "", None, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"statsu": "part"}, ["line 13", "rows.0.statsu", "did you mean 'status'"]),
        ({"status": "done"}, ["rows.0.status", "'filled', 'part', 'not here' or 'link only'", "'done'"]),
        ({"section": "polcy"}, ["rows.0.section", "'polcy'", "did you mean 'policy'"]),
        ({"section": "zzz"}, ["rows.0.section", "the sections are changes, policy"]),
        ({"applies_from": "soon"}, ["rows.0.applies_from", "'soon'"]),
        ({"reference": "  "}, ["rows.0.reference", "it is empty"]),
        ({"supplies": ["a"]}, ["rows.0.supplies", "string"]),
        ({"owner": None}, ["rows.0.owner", "string"]),
    ],
)
def test_a_row_that_is_wrong_is_named_by_file_row_and_key(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    path = write(tmp_path, rows=[{**ROW, **changes}])
    with pytest.raises(ConfigError) as caught:
        read_crosswalk(path)
    assert all(word in str(caught.value) for word in [str(path), *words]), str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [ROW, ROW]}, "two rows are of 'House rules: Rule 1'"),
        ({"rows": []}, "rows is empty"),
        ({"rows": ["Rule 1"]}, "rows.0: KEY: VALUE belongs here, with the keys framework, reference"),
        ({"as_of": None}, "as_of: "),
        ({"title": ""}, "title: it is empty"),
        ({"keptby": "me"}, "did you mean 'kept_by'"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=r"crosswalk\.yaml") as caught:
        read_crosswalk(write(tmp_path, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a\n", "KEY: VALUE"),
        ("title: a\ntitle: b\n", "stands twice"),
        ("title: [", "is not YAML"),
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"{key}: &{key} [{', '.join([f'*{before}'] * 9)}]\n" for before, key in zip("abcdef", "bcdefg", strict=True)
        ), "values"),
    ],
)  # fmt: skip
def test_yaml_that_is_none_or_too_much_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "crosswalk.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_crosswalk(path)
    assert words in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml"):
        read_crosswalk(tmp_path / "gone.yaml")


def test_the_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    models = {name: {"name": f"local-dir:{name}"} for name in ("baseline", "candidate")}
    common = {"data": {"path": "p.tsv"}, "report": {"crosswalk": "ours.yaml"}}
    audit, sweep = tmp_path / "audit.yaml", tmp_path / "sweep.yaml"
    audit.write_text(yaml.safe_dump(models | common), encoding="utf-8")
    sweep.write_text(yaml.safe_dump({"models": list(models.values())} | common), encoding="utf-8")
    assert load_config(audit).report.crosswalk == load_sweep(sweep).report.crosswalk == str(tmp_path / "ours.yaml")
