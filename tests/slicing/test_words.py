"""Words and metadata that set a group of samples apart."""

from __future__ import annotations

import math

import pytest

from koda.slicing.words import TermCounts, distinctive_words, log_odds_z, over_represented, terms, tokenise


def test_tokens_are_lower_case_words_in_every_script():
    assert tokenise("A PURPLE Circle, isn't it? well-known_thing") == [
        "a", "purple", "circle", "isn't", "it", "well-known", "thing",
    ]  # fmt: skip
    assert tokenise("Straße ÉTÉ") == ["straße", "été"]
    assert tokenise("E\u0301te\u0301") == ["été"]  # decomposed letters are the composed ones
    assert tokenise("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert tokenise("紫色の円") == ["紫", "色", "の", "円"]
    assert "紫色" in terms("紫色の円")


@pytest.mark.parametrize(
    "caption", [None, float("nan"), "", "   ", "!!! ???", "\x00\x1b[31m", "\ud800", "<script>", 17, b"bytes", ["a"]]
)
def test_no_caption_is_too_strange(caption):
    assert isinstance(terms(caption), frozenset)
    assert isinstance(distinctive_words([caption] * 3, ["a dog"] * 3), tuple)


def test_a_huge_caption_is_cut():
    assert len(tokenise("word " * 1_000_000)) == 256


def test_z_against_the_formula_written_out():
    y_in, n_in, y_out, n_out, prior = 7, 20, 30, 500, 10.0
    share = (y_in + y_out + 0.5) / (n_in + n_out + 1)
    a, b = prior * share, prior * (1 - share)
    four = [y_in + a, n_in - y_in + b, y_out + a, n_out - y_out + b]
    want = math.log(four[0] * four[3] / (four[1] * four[2])) / math.sqrt(sum(1 / v for v in four))
    assert log_odds_z(y_in, n_in, y_out, n_out) == pytest.approx(want)
    assert log_odds_z(y_out, n_out, y_in, n_in) == pytest.approx(-want)
    assert abs(log_odds_z(20, 20, 480, 500)) < 1.5  # a word that nearly all captions hold says nothing
    assert log_odds_z(0, 0, 0, 0) == 0.0


def test_a_caption_counts_a_term_once():
    counts = TermCounts.of(["red red red", "red dog", None, ""])
    assert counts.n == 2
    assert counts.counts["red"] == 2
    rest = counts.without(TermCounts.of(["red dog"]))
    assert rest.n == 1
    assert rest.counts == {"red": 1, "red red": 1}


def test_the_word_that_differs_comes_first_and_its_pairs_do_not_repeat_it():
    inside = [f"a purple circle number {i}" for i in range(30)]
    outside = [f"a {c} circle number {i}" for i in range(100) for c in ("red", "blue", "green")]
    words = distinctive_words(inside, outside)
    assert [w.text for w in words] == ["purple"]
    assert words[0].share_in == 1.0
    assert words[0].share_out == 0.0
    assert words[0].z > 5


def test_a_pair_is_named_where_its_words_alone_are_common():
    inside = ["the red square"] * 20
    outside = ["the red circle", "the blue square"] * 200
    assert [w.text for w in distinctive_words(inside, outside)] == ["red square"]


def test_pairs_of_unspaced_scripts_stand_for_words():
    words = distinctive_words(["紫色"] * 20, ["紫雲", "赤色"] * 100)
    assert [w.text for w in words] == ["紫色"]


def test_nothing_to_say():
    same = ["a dog", "a cat"] * 50
    assert distinctive_words(same, same) == ()
    assert distinctive_words([], same) == ()
    assert distinctive_words(same, []) == ()
    assert distinctive_words(["unique phrase"], same) == ()  # one caption is no pattern


def test_order_does_not_depend_on_the_order_of_captions():
    inside, outside = ["b a"] * 10 + ["a b"] * 10, ["c"] * 100
    assert distinctive_words(inside, outside) == distinctive_words(inside[::-1], outside)


def test_lift_of_categories():
    columns = {
        "colour": ["purple"] * 18 + ["red"] * 2 + ["red"] * 90 + ["purple"] * 10,
        "id": [str(i) for i in range(120)],
        "split": ["test"] * 120,
        "caption": ["x", "y"] * 60,
        "noise": ["a", "b"] * 60,
        "gaps": [None, float("nan"), ""] * 40,
    }
    (found,) = over_represented(columns, range(20), range(20, 120))
    assert (found.column, found.value) == ("colour", "purple")
    assert found.share_in == pytest.approx(0.9)
    assert found.share_out == pytest.approx(0.1)
    assert found.lift == pytest.approx((18.5 / 21) / (10.5 / 101))


def test_lift_is_finite_where_nothing_outside_has_the_value():
    columns = {"kind": ["flag"] * 10 + ["face"] * 90}
    (found,) = over_represented(columns, range(10), range(10, 100))
    assert found.share_out == 0.0
    assert math.isfinite(found.lift)
    assert over_represented(columns, [], range(100)) == ()
    assert over_represented({}, range(3), range(3, 9)) == ()
