"""Paths that name several shards: ranges in braces, lists with `::`, folders; and the shards that are not there."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from koda.datasets.blobs import READS_AT_ONCE, is_file, is_folder, join, list_folder
from koda.datasets.tars import COMPRESSED_SUFFIXES
from koda.datasets.text import listed
from koda.errors import DataError

MAX_SHARDS = 100_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})", re.ASCII)


def find_shards(path: str) -> list[str]:
    """Return the shards that a path names, in its order.

    A path may be one shard, a folder of `.tar` files, several of either joined by `::`, and hold ranges
    (`{00000..00010}`) and alternatives (`{train,val}`) in braces.

    Raises:
        DataError: a shard that is not there, with all of those; a folder without shards; too many.
    """
    shards: list[str] = []
    named: list[str] = []
    for part in path.split("::"):
        if not part:
            raise DataError(f"The list of shards {path} has an empty entry.", "Shards are listed as a.tar::b.tar.")
        places = [part] if "{" in part and is_file(part) else expand(part)
        if len(places) == 1 and is_folder(places[0]):
            shards += _inside(places[0])
        else:
            shards += places
            named += places
    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        missing = [place for place, there in zip(named, pool.map(is_file, named), strict=True) if not there]
    if missing:
        which = f"{len(missing)} of {len(shards)} shards are missing: {listed(missing)}."
        raise DataError(
            f"The shard {missing[0]} is missing." if len(shards) == 1 else which,
            "Fetch them, or name only those that are there: data.path may list several, a.tar::b.tar.",
        )
    return shards


def _inside(folder: str) -> list[str]:
    """Return the shards in a folder.

    Raises:
        DataError: there are none, or compressed ones among them, which cannot be read and must not be missed.
    """
    names = list_folder(folder)
    if compressed := [name for name in names if name.lower().endswith(COMPRESSED_SUFFIXES)]:
        raise DataError(
            f"The folder {folder} has compressed shards: {listed(compressed)}.",
            "Decompress them, since the images in them are compressed already, or name the others as data.path.",
        )
    inside = [join(folder, name) for name in names if name.lower().endswith(".tar")]
    if not inside:
        raise DataError(f"The folder {folder} has no .tar files.", "Set data.path to the shards.")
    return inside


def distinct_names(shards: Sequence[str]) -> list[str]:
    """Return a name for each shard: that of its file, or its path from where the paths part.

    >>> distinct_names(["x/a/0.tar", "x/a/1.tar"]), distinct_names(["x/a/0.tar", "x/b/0.tar"])
    (['0', '1'], ['a/0', 'b/0'])
    """
    places = [(place[:-4] if place.lower().endswith(".tar") else place).split("/") for place in shards]
    names = [place[-1] for place in places]
    if len(set(names)) == len(set(shards)):
        return names
    common = next(
        (depth for depth, parts in enumerate(zip(*places, strict=False)) if len(set(parts)) > 1), len(places[0]) - 1
    )
    return ["/".join(place[common:]) for place in places]


def expand(text: str) -> list[str]:
    """Return what a path with braces stands for; braces that hold neither a range nor a comma stay as they are.

    Raises:
        DataError: more shards than anybody has, or braces in braces.
    """
    pieces = _BRACES.split(text)  # outside, inside, outside, ..., outside
    if has_braces(text) and any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise DataError(f"{text} has braces within braces, or one that is not closed.", "List them: a.tar::b.tar.")
    if math.prod(_count(inside) for inside in pieces[1::2]) > MAX_SHARDS:
        raise DataError(f"{text} names more than {MAX_SHARDS} shards.", "Check the range in the braces.")
    choices = [_choices(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


def has_braces(text: str) -> bool:
    """Tell whether a path holds a range or alternatives in braces."""
    return any(_count(inside) > 1 or _RANGE.fullmatch(inside) for inside in _BRACES.findall(text))


def name_of(path: str) -> str:
    """Return a name for the data set that a path of shards stands for: its file or folder."""
    place = path.rstrip("/")
    if "::" in place or has_braces(place):
        place = place.partition("::")[0].partition("{")[0].rpartition("/")[0]
    name = place.rpartition("/")[2]
    return Path(name).stem if name.lower().endswith(".tar") else name or "shards"


def _count(inside: str) -> int:
    """Return the number of choices that braces hold, without making them."""
    if ends := _RANGE.fullmatch(inside):
        return abs(int(ends[2]) - int(ends[1])) + 1
    return inside.count(",") + 1


def _choices(inside: str) -> list[str]:
    if ends := _RANGE.fullmatch(inside):
        first, last = int(ends[1]), int(ends[2])
        # 001..100 is padded to the longer end, 1..100 is not: what the shells do
        padded = any(len(end) > 1 and end.lstrip("-").startswith("0") for end in ends.groups())
        width = max(map(len, ends.groups())) if padded else 0
        step = 1 if first <= last else -1
        return [f"{number:0{width}d}" for number in range(first, last + step, step)]
    return inside.split(",") if "," in inside else ["{" + inside + "}"]
