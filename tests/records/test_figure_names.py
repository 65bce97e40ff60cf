"""Names of compared figures: one text for each, and one name for each text."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from koda.policy import FIGURES
from koda.records import FigureDifference, FigureName

KINDS = {
    "lost.found": FigureName(side="lost"),
    "gained.found": FigureName(side="gained"),
    "candidate I2T R@1": FigureName(role="candidate", task="I2T", depth="R@1"),
    "baseline T2I R@10": FigureName(role="baseline", task="T2I", depth="R@10"),
    "candidate zero-shot top-5": FigureName(role="candidate", task="zero-shot", depth="top-5"),
    "similarity.cka.image": FigureName(policy="similarity.cka.image"),
    "by.a column, of two words.retrieval_drop": FigureName(policy="by.a column, of two words.retrieval_drop"),
    "by.größe\n.zero_shot_drop": FigureName(policy="by.größe\n.zero_shot_drop"),
    "later.than_this_koda": FigureName(policy="later.than_this_koda"),
    **{name: FigureName(policy=name) for name in FIGURES},
}


@pytest.mark.parametrize("text", KINDS)
def test_every_kind_is_written_and_read_again(text: str) -> None:
    row = FigureDifference(name=KINDS[text], before=1, after=None)
    assert str(row.name) == row.model_dump()["name"] == text
    assert FigureDifference.model_validate_json(row.model_dump_json()) == row


@pytest.mark.parametrize(
    "text", ["", "lost", "candidate I2T", "candidate X2Y R@1", "nobody I2T R@1", "lost.found ", "a b.c"]
)
def test_a_text_that_names_no_figure_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValidationError, match="names no figure"):
        FigureDifference(name=text)
