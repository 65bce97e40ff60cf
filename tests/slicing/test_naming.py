"""Names of lobes and findings: by what dominates them, and by nothing that the other lobe holds as well."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest

from koda.slicing.naming import LobeFacts, Names, names_of
from koda.slicing.words import distinctive_words, over_represented

N = 400


def named(
    columns: dict[str, list[Any]], positive: Sequence[int], negative: Sequence[int], modality: str = "joint"
) -> Names:
    """Name two sets of rows as the slices are named."""

    def facts(rows: Sequence[int]) -> LobeFacts:
        rest = [row for row in range(N) if row not in set(rows)]
        captions = columns.get("caption")
        words = () if captions is None else distinctive_words([captions[i] for i in rows], [captions[i] for i in rest])
        return LobeFacts.of(len(rows), words, over_represented(columns, rows, rest), columns, rows)

    return names_of(facts(positive), facts(negative), modality)


def column(values: dict[str, range | list[int]], other: Any = "other") -> list[Any]:
    """A column with the given values on some rows and another on the rest."""
    made: list[Any] = [other] * N
    for value, rows in values.items():
        for row in rows:
            made[row] = value
    return made


POSITIVE, NEGATIVE = range(40), range(40, 80)


def test_a_value_that_dominates_a_lobe_names_it_with_its_share_and_lift() -> None:
    names = named({"colour": column({"purple": range(30), "blue": range(40, 80)})}, POSITIVE, NEGATIVE)
    assert names.finding == "colour = purple against colour = blue"
    assert names.positive.startswith("colour = purple (75 % of it, ")
    assert names.positive.endswith(" times as common as elsewhere)")
    assert names.negative.startswith("colour = blue (100 % of it, ")


@pytest.mark.parametrize(("holding", "name"), [(24, "colour = purple"), (23, "group of 40 pairs")])
def test_a_value_has_to_cover_three_fifths_of_the_members(holding: int, name: str) -> None:
    colour = column({"purple": range(holding)})
    assert named({"colour": colour}, POSITIVE, NEGATIVE).positive.startswith(name)


def test_a_value_that_is_as_common_elsewhere_names_nothing() -> None:
    size = column({"large": [row for row in range(N) if row % 5]})  # 80 % in and out
    names = named({"size": size}, POSITIVE, NEGATIVE)
    assert names.finding == "a group of 40 pairs against one of 40"


def test_of_several_values_the_one_with_the_largest_lift_times_share_is_taken() -> None:
    columns = {
        "shape": column({"star": list(range(38)) + list(range(100, 200))}),  # 95 %, nowhere near as rare
        "colour": column({"purple": range(30)}),
    }
    assert named(columns, POSITIVE, NEGATIVE).finding == "colour = purple, held apart from a group of 40 pairs"


def test_a_value_of_both_lobes_is_the_name_of_neither() -> None:
    columns = {"colour": column({"blue": range(70)})}
    names = named(columns, POSITIVE, NEGATIVE)
    assert names.finding == "mostly colour = blue: a group of 40 pairs against one of 40"
    assert (names.positive, names.negative) == ("group of 40 pairs", "group of 40 pairs")
    columns["shape"] = column({"star": range(35)})  # tells the first lobe from the second
    assert named(columns, POSITIVE, NEGATIVE).finding == "shape = star, held apart from a group of 40 pairs"


def test_absent_values_do_not_make_a_value_dominant() -> None:
    """Of the members with a value all are purple, but most have none."""
    for absent in (None, math.nan, " "):
        colour = column({"purple": range(12), "red": range(100, 300)}, absent)
        assert named({"colour": colour}, POSITIVE, NEGATIVE).finding == "a group of 40 pairs against one of 40"


@pytest.mark.parametrize(("holding", "name"), [(24, "“purple”"), (23, "group of 40 pairs")])
def test_words_name_a_lobe_where_they_cover_three_fifths_of_it_and_little_of_the_other(holding: int, name: str) -> None:
    captions = [f"a {'purple' if row < holding else 'blue' if 40 <= row < 80 else 'red'} thing" for row in range(N)]
    names = named({"caption": captions}, POSITIVE, NEGATIVE)
    assert names.positive.startswith(name) and names.finding.endswith("“blue”" if holding == 24 else "40 pairs")
    if holding == 24:
        assert names.positive == "“purple” (in 60 % of its captions, 0 % of the other lobe's)"


@pytest.mark.parametrize(("leading", "name"), [(6, "purple"), (5, None)])
def test_what_the_first_pictures_do_not_show_names_nothing(leading: int, name: str | None) -> None:
    """Most members are purple; of the twelve that a gallery shows first, most are blue."""
    purple = [*range(leading), *range(12, 40)]
    colours = column({"blue": range(80), "purple": purple}, "red")
    by_value = named({"colour": colours}, POSITIVE, NEGATIVE).positive
    by_word = named({"caption": [f"a {colour} thing" for colour in colours]}, POSITIVE, NEGATIVE).positive
    assert by_value.startswith(f"colour = {name}" if name else "group of 40")
    assert by_word.startswith(f"“{name}”" if name else "group of 40")


def test_a_lobe_of_mostly_blue_pictures_is_not_called_purple() -> None:
    """A third of the captions says purple, which the other lobe hardly says; ten of the first twelve say blue."""
    purple = [0, 1, *range(28, 40)]  # 14 of 40
    colours = column({"blue": range(80), "purple": purple}, "red")
    names = named({"caption": [f"a {colour} thing" for colour in colours]}, POSITIVE, NEGATIVE)
    assert "purple" not in names.finding and "purple" not in names.positive


@pytest.mark.parametrize("seed", range(12))
def test_names_say_what_most_members_and_most_of_the_first_hold(seed: int) -> None:
    """Lobes of mixed colours and places, in captions of several forms: a name is never of a minority."""
    rng = random.Random(seed)
    forms = ("a {} thing in the {}", "in the {1} of a board, something {0}", "one {0} at the {1}, with a hole")
    share = rng.random()
    colours = ["purple" if rng.random() < share else "blue" for _ in range(80)] + ["red"] * (N - 80)
    places = [rng.choice(("centre", "centre", "top", "left")) for _ in range(N)]
    captions = [rng.choice(forms).format(*pair) for pair in zip(colours, places, strict=True)]
    columns = {"caption": captions, "colour": colours, "place": places}
    for given in (columns, {"caption": captions}):
        names = named(given, POSITIVE, NEGATIVE)
        for name, rows in ((names.positive, POSITIVE), (names.negative, NEGATIVE)):
            if (found := re.match(r"“(.+)”|\w+ = (\w+)", name)) is None:
                assert name == "group of 40 pairs"
                continue
            word = found[1] or found[2]
            assert not {"in", "the", "at", "of", "a", "with"} & set(word.split())
            held = [all(part in captions[row].replace(",", "").split() for part in word.split()) for row in rows]
            assert sum(held) >= 24 and sum(held[:12]) >= 6, (name, sum(held), sum(held[:12]))


def test_a_word_that_the_other_lobe_holds_half_as_much_names_nothing() -> None:
    captions = [f"a {'purple' if row < 60 else 'red'} thing" for row in range(N)]  # 40 of 40, 20 of 40
    assert named({"caption": captions}, POSITIVE, NEGATIVE).positive.startswith("“purple”")
    captions[60] = "a purple thing"
    assert named({"caption": captions}, POSITIVE, NEGATIVE).positive == "group of 40 pairs"


def test_a_word_that_only_joins_others_names_nothing() -> None:
    captions = column({"at the edge": POSITIVE, "seen in rain": NEGATIVE}, "plain")
    assert "“edge”" in named({"caption": captions}, POSITIVE, NEGATIVE).positive
    assert "“rain”" in named({"caption": captions}, POSITIVE, NEGATIVE).negative
    captions = column({"at the": POSITIVE, "seen in rain": NEGATIVE}, "plain")
    assert named({"caption": captions}, POSITIVE, NEGATIVE).positive == "group of 40 pairs"


def test_metadata_goes_before_words() -> None:
    columns = {
        "caption": [f"a {'violet' if row < 40 else 'red'} thing" for row in range(N)],
        "colour": column({"purple": range(30)}),
    }
    assert named(columns, POSITIVE, NEGATIVE).finding.startswith("colour = purple")


@pytest.mark.parametrize(("modality", "noun"), [("image", "pictures"), ("text", "captions"), ("joint", "pairs")])
def test_without_captions_and_metadata_a_lobe_is_named_by_its_size(modality: str, noun: str) -> None:
    names = named({}, POSITIVE, range(40, 41), modality)
    assert names.finding == f"a group of 40 {noun} against one of 1"
    assert (names.positive, names.negative) == (f"group of 40 {noun}", f"group of 1 {noun[:-1]}")


def test_captions_that_are_absent_name_nothing() -> None:
    captions: list[Any] = [None, math.nan, "", "  "] * (N // 4)
    assert named({"caption": captions}, POSITIVE, NEGATIVE).finding == "a group of 40 pairs against one of 40"


def test_an_empty_counterpart_is_not_named() -> None:
    assert named({}, POSITIVE, []) == Names("group of 40 pairs", "no samples", "group of 40 pairs")
    columns = {"colour": column({"purple": range(30)})}
    assert named(columns, POSITIVE, []).finding == "colour = purple"
    assert named({}, [], []).finding == "no samples"


def test_a_hostile_value_is_one_short_line() -> None:
    evil = "purple\n\x1b[31m" + "x" * 500
    name = named({"colour": column({evil: range(40)})}, POSITIVE, NEGATIVE).finding
    assert name.startswith("colour = purple \ufffd[31mxxx") and "…" in name
    assert name.isprintable() and len(name) < 120
