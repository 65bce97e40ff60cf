"""Join two embedding tables by key, and set aside what no kernel can use."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from koda.embeddings.rows import TableLike
from koda.errors import DataError

MIN_SAMPLES = 3  # samples under which no group and no rest can be told apart
_WITNESSES = ("key", "image_path", "caption")  # columns that say whether two rows are of one sample
_SAME_ORDER = "Joining by row needs the same samples in the same order on both sides; else give the samples keys."


def join_tables(
    target: TableLike, reference: TableLike, modalities: tuple[str, ...]
) -> tuple[TableLike, TableLike, dict[str, str]]:
    """Return both tables over the keys that both can use, in the target's order, and key -> reason for the rest.

    Raises:
        DataError: no common keys, or fewer than three usable samples.
    """
    ours, theirs = set(target.keys), set(reference.keys)
    common = ours & theirs
    if not common:
        raise DataError(
            f"The two tables have no key in common: the target has {target.n} keys such as {min(ours)!r}, "
            f"the reference {reference.n} such as {min(theirs)!r}.",
            _alike(ours, theirs) or "Use the same keys for the same samples under both models.",
        )
    rejected = dict.fromkeys(sorted(ours - theirs), "the reference model has no embedding of it")
    rejected |= dict.fromkeys(sorted(theirs - ours), "the target model has no embedding of it")
    for role, table in (("target", target), ("reference", reference)):
        for key, reason in table.only(modalities).invalid_rows().items():
            rejected.setdefault(key, f"{reason} ({role} model)")
    usable = common - rejected.keys()
    keys = [key for key in target.keys if key in usable]
    if len(keys) < MIN_SAMPLES:
        example = next((f"; {key!r}: {rejected[key]}" for key in sorted(common & rejected.keys())), "")
        raise DataError(
            f"{len(keys)} usable samples are left of {len(ours | theirs)}; at least {MIN_SAMPLES} are needed{example}.",
            "Compare the models on more samples (some hundreds at least for a finding that holds).",
        )
    return target.select(keys), reference.select(keys), rejected


def _alike(ours: set[str], theirs: set[str]) -> str:
    """Say that the keys would meet if they were written alike, where that is so; else nothing."""
    ways = (
        ("as numbers, without leading zeros or decimals", lambda key: re.sub(r"^0+(?=\d)|\.0*$", "", key)),
        ("without their folders and suffixes", lambda key: re.sub(r"^.*/|\.\w+$", "", key)),
        ("in small letters and without spaces around them", lambda key: key.strip().lower()),
    )
    for words, plain in ways:
        if meeting := len({plain(key) for key in ours} & {plain(key) for key in theirs}):
            return f"Read {words}, {meeting} of them would meet: write the keys of both sides in the same way."
    return ""


def check_same_rows(target: TableLike, reference: TableLike) -> str:
    """Check that two tables that are joined by row may hold the same samples; return what speaks for it, in words.

    The columns that both have and that tell samples apart (key, image_path of which the file names count, caption) must
    agree in every row; one that is another in each row is enough, where others do not (the captions were rewritten).

    Raises:
        DataError: other numbers of rows, or rows that are of different samples.
    """
    if target.n != reference.n:
        raise DataError(
            f"The rows cannot be joined by their numbers: the one side has {target.n} rows, the other {reference.n}.",
            _SAME_ORDER,
        )
    differing: dict[str, list[int]] = {}
    unique = False
    for name in _WITNESSES:
        if name in target.metadata and name in reference.metadata:
            ours, theirs = (_compared(name, table.metadata[name]) for table in (target, reference))
            differing[name] = [row for row, pair in enumerate(zip(ours, theirs, strict=True)) if pair[0] != pair[1]]
            unique |= not differing[name] and len(set(map(str, ours))) == target.n
    agreeing = [name for name, rows in differing.items() if not rows]
    if agreeing and (unique or len(agreeing) == len(differing)):
        return f"the samples were joined by their row numbers; the column {agreeing[0]!r} is the same in every row"
    if not differing:
        return "the samples were joined by their row numbers, and nothing else says that the rows are the same samples"
    name, rows = min(((name, rows) for name, rows in differing.items() if rows), key=lambda item: len(item[1]))
    raise DataError(
        f"The rows are not of the same samples: {len(rows)} of {target.n} differ in the column {name!r}, the first is "
        f"row {rows[0] + 1} ({target.metadata[name][rows[0]]!r} and {reference.metadata[name][rows[0]]!r}).",
        _SAME_ORDER,
    )


def _compared(name: str, values: Sequence[Any]) -> list[Any]:
    return [str(value).rpartition("/")[2] for value in values] if name == "image_path" else list(values)
