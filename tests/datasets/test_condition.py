"""`data.where`: what is asked for, what is unknown, and what is no condition."""

from __future__ import annotations

import pytest

from koda.datasets import Row
from koda.datasets.base import Fault
from koda.datasets.condition import matching
from koda.errors import DataError

ROWS = [
    Row("a", None, "a dog", {"width": "640", "split": "val", "score": 0.5}),
    Row("b", None, "a cat", {"width": "80", "split": "train", "score": None}),
    Row("c", None, None, {"width": "", "split": "val", "score": 2.0}, fault=Fault("no caption")),
    Row(None, None, None, {}, fault=Fault("malformed")),
]
COLUMNS = ("width", "split", "score")


def keys(condition: str) -> list[str | None]:
    return [row.key for row in matching(ROWS, COLUMNS, condition)]


def test_faulty_rows_stay_unless_they_are_known_not_to_match() -> None:
    assert keys("split = 'val'") == ["a", "c", None]
    assert keys("split = 'train'") == ["b", None]
    assert keys("caption LIKE '%dog%'") == ["a", "c", None]
    assert keys("key = 'b'") == ["b", None]
    assert keys("score > 1") == ["c", None]
    assert keys("score IS NULL") == ["b", None]
    assert keys("true -- all") == ["a", "b", "c", None]
    assert keys("KEY IN ('a', 'b') AND NOT Split = 'val'") == ["b", None]


def test_columns_of_numbers_are_compared_as_numbers() -> None:
    assert keys("width > 100") == ["a", "c", None]
    assert keys("width = '80'") == ["b", "c", None]
    rows = [Row("007", None, "3", {"zip": "0123", "x": "1.5e3"}), Row("8", None, "4", {"zip": "123", "x": "-2"})]
    assert [row.key for row in matching(rows, ("zip", "x"), "zip = '0123' AND x > 1000 AND key = '007'")] == ["007"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("day LIKE '2024-01%'", ["a"]),
        ("substr(day, 1, 4) = '2024'", ["a", "b"]),
        ("day >= '2024-05'", ["b"]),
        ("starts_with(day, '2024-05')", ["b"]),
        ("left(day, 4) = '2024'", ["a", "b"]),
        ("regexp_matches(day, '-0[15]-')", ["a", "b"]),
        ("moment < '2024-02'", ["a"]),
        ("moment LIKE '%12:00%'", ["a"]),
        ("day = ''", ["c"]),
        ("day > DATE '2024-02-01'", ["b"]),
        ("day BETWEEN DATE '2024-01-01' AND DATE '2024-02-01'", ["a"]),
        ("year(day) = 2024 AND month(moment) = 5", ["b"]),
        ("moment >= TIMESTAMP '2024-05-06 00:00:00'", ["b"]),
    ],
)
def test_columns_of_dates_are_text_and_dates_as_the_condition_needs(condition: str, expected: list[str]) -> None:
    rows = [
        Row("a", None, "x", {"day": "2024-01-31", "moment": "2024-01-31 12:00:00"}),
        Row("b", None, "y", {"day": "2024-05-06", "moment": "2024-05-06 13:30:00.5"}),
        Row("c", None, "z", {"day": "", "moment": None}),
    ]
    assert [row.key for row in matching(rows, ("day", "moment"), condition)] == expected


def test_what_is_wrong_with_a_condition_on_dates_is_said_as_of_text() -> None:
    rows = [Row("a", None, "x", {"day": "2024-02-30", "other": "2024-01-01"})]
    for condition in ("day > DATE '2024-01-01'", "other LIKE '2024%' AND other > DATE '2024-01-01'"):
        with pytest.raises(DataError, match="cannot be applied: Cannot compare values of type VARCHAR and type DATE"):
            matching(rows, ("day", "other"), condition)


def test_columns_of_several_types_and_of_one_name() -> None:
    rows = [Row("a", None, "x", {"Key": "b", "v": 1}), Row("b", None, "y", {"Key": "a", "v": [1, "two"]})]
    assert [row.key for row in matching(rows, ("Key", "v"), "key = 'a' AND v = '1'")] == ["a"]


def test_a_column_may_be_called_as_what_depends_on_the_moment() -> None:
    rows = [Row("a", None, "x", {"current_date": "2026-01-01", "user": "ann"}), Row("b", None, "y", {"user": "bob"})]
    assert [row.key for row in matching(rows, ("current_date", "user"), "\"user\" = 'ann'")] == ["a"]
    assert [row.key for row in matching(rows, ("current_date", "user"), "lower(\"user\") LIKE 'b%'")] == ["b"]


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("widht > 3", "no column 'widht'; did you mean 'width'"),
        ("zzz = 3", "no column 'zzz'; known are key, caption, width, split, score"),
        ('split = "val"', "no column 'val'(.|\n)*single quotes"),
        ("split", "a value of type VARCHAR and not a condition"),
        ("*", "5 values and not a condition"),
        ("count(*) > 1", "not about a single row"),
        ("width > 3; DROP TABLE x", "cannot be applied"),
        ("true) OR (true", "cannot be applied"),
        ("score = 'many'", "cannot be applied: Could not convert"),
        ("(SELECT count(*) FROM read_text('/etc/hostname')) > 0", "cannot be applied"),
        ("(SELECT count(*) FROM rows) > 0", "cannot be applied"),
        (" ", "cannot be applied"),
        ("NOT " * 800 + "true", r"is nested too deeply"),
        ("random() < 0.5", r"depends on random\(\)(.|\n)*data\.limit"),
        ("key > 'a' AND (width < 3 OR Random() * 2 < 1)", r"depends on random\(\)"),
        ("key IN (SELECT 'a' FROM (VALUES (1), (2)) USING SAMPLE 1)", "depends on a random sample"),
        ("uuid() <> key", r"depends on uuid\(\)"),
        ("now() > DATE '2020-01-01'", r"depends on now\(\)"),
        ("current_date > DATE '2020-01-01'", "depends on current_date"),
        ("current_timestamp > TIMESTAMP '2020-01-01'", "depends on current_timestamp"),
        ("ago(INTERVAL 1 DAY) > DATE '2020-01-01'", r"depends on ago\(\)"),
        ("row_number() OVER () < 3", "depends on the order of the rows"),
        ("rank() OVER (ORDER BY key) < 3", "depends on the order of the rows"),
    ],
)
def test_what_is_no_condition_is_said_in_words(condition: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        keys(condition)
