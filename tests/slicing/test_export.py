"""Slices as CSV: no cell is a formula, every text can be had back, and koda's columns stay koda's."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from koda.slicing.export import FLAG_COLUMNS, SLICE_COLUMNS, original, slices_csv, table_csv

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\n=1", "＝1", "'=1", "''+x"]


def row(**changes: Any) -> dict[str, Any]:
    return {
        "side": "lost", "direction": 1, "lobe": "positive", "rank": 1, "key": "k1", "score": -0.5, "in_slice": True,
        "split": "discovery", "caption": "a thing", "metadata": "{}", **changes,
    }  # fmt: skip


def read(content: bytes) -> tuple[list[str], list[dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
    rows = list(reader)
    return list(reader.fieldnames or []), rows


@pytest.mark.parametrize("text", FORMULAS)
def test_a_text_that_a_spreadsheet_would_run_is_made_harmless_and_can_be_had_back(text: str) -> None:
    content = slices_csv([row(caption=text, key=text, metadata=json.dumps({text: text}))], [text])
    names, [back] = read(content)
    for cell in (back["caption"], back["key"], names[7], back[names[7]]):
        assert cell[0] == "'" and original(cell) == text


@pytest.mark.parametrize("text", ["a = b", "-3", "+4.5e-3", "'tis", "", "ünï", "a\nb", "x\ty"])
def test_other_texts_and_numbers_stay_as_they_are(text: str) -> None:
    _, [back] = read(slices_csv([row(caption=text)], []))
    assert back["caption"] == text == original(back["caption"])
    assert float(back["score"]) == -0.5


def test_control_characters_are_spelled_out() -> None:
    content = slices_csv([row(caption="\x1b[2J\r=1\u202e", key="\x00\x9bk")], [])
    _, [back] = read(content)
    assert (back["caption"], back["key"]) == (r"\x1b[2J\r=1\u202e", r"\x00\x9bk")


def test_no_column_of_the_data_takes_the_place_of_one_of_kodas() -> None:
    names = [*SLICE_COLUMNS, *FLAG_COLUMNS, "metadata", "data.split"]
    header, [back] = read(
        slices_csv([row(metadata=json.dumps({name: f"of the user: {name}" for name in names}))], names)
    )
    assert len(set(header)) == len(header) == len(SLICE_COLUMNS) + len(FLAG_COLUMNS) + len(names)
    assert (back["side"], back["key"], back["rank"], back["split"], back["in_slice"]) == (
        "lost", "k1", "1", "discovery", "True",
    )  # fmt: skip
    for name in names:
        mine = [column for column in header if back[column] == f"of the user: {name}"]
        assert len(mine) == 1 and mine[0].endswith(name)


def test_a_header_may_not_be_a_formula_either() -> None:
    assert table_csv(["=x"], [{"=x": 1}]) == b"'=x\r\n1\r\n"
