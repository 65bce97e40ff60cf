"""Sets of samples: one text for each, and one set for each text."""

from __future__ import annotations

import json
from itertools import product

import pytest
from pydantic import ValidationError

from koda.errors import DataError
from koda.records import ALL, REST, SIGNS, AccuracyState, AuditRecord, RuleResult, Subset
from koda.typing import SIDES
from tests.report import factory

KINDS = {
    "all": ALL,
    "rest": REST,
    "found lost": Subset("lost"),
    "rest of found gained": Subset("gained", rest=True),
    "lost 1": Subset("lost", 1),
    "rest of gained 12": Subset("gained", 12, rest=True),
    "lost 1 positive": Subset("lost", 1, "positive"),
    "rest of gained 3 negative": Subset("gained", 3, "negative", rest=True),
}


@pytest.mark.parametrize("text", KINDS)
def test_every_kind_is_written_and_read_again(text: str) -> None:
    subset = KINDS[text]
    assert str(subset) == text and Subset.parse(text) == subset
    state = AccuracyState(state="after", subset=subset, n=1, top={})
    assert state.model_dump()["subset"] == state.model_dump(mode="json")["subset"] == text
    again = AccuracyState.model_validate_json(state.model_dump_json())
    assert again == state and again.subset == subset


def test_no_two_sets_have_one_text() -> None:
    lobes = [Subset(side, number, lobe) for side, number, lobe in product(SIDES, (1, 2, 11), (None, *SIGNS))]
    every = [ALL, *lobes, *(Subset(side) for side in SIDES)]
    every += [subset.others for subset in every]
    assert len({str(subset) for subset in every}) == len(set(every)) == len(every)
    assert [Subset.parse(str(subset)) for subset in every] == every


def test_a_lobe_knows_its_finding_and_a_finding_its_lobes() -> None:
    finding = Subset("lost", 2)
    assert [finding.of_lobe(sign).finding for sign in SIGNS] == [finding, finding]
    assert finding.of_lobe("negative").others == Subset("lost", 2, "negative", rest=True)
    assert (ALL.others, finding.others.finding) == (REST, finding)


@pytest.mark.parametrize(
    "text",
    [
        *("", "whole", "All", "all ", "found", "found all", "lost", "lost 0", "lost 01", "lost -1", "lost 1 first"),
        *("lost  1", "rest of", "rest of all", "rest of rest", "rest of rest of lost 1", "found lost 1", "lost 1\n"),
        *("lost ١", "lost 1 positive negative"),
    ],
)
def test_an_unknown_text_is_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"names no set of samples: 'all', 'rest', 'found lost', 'lost 1'"):
        Subset.parse(text)
    with pytest.raises(ValidationError, match="names no set of samples"):
        AccuracyState(state="after", subset=text, n=1, top={})  # type: ignore[arg-type]


def test_what_is_no_text_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="named by a text, not by int"):
        AccuracyState(state="after", subset=1, n=1, top={})  # type: ignore[arg-type]


def test_sets_that_mean_nothing_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="a lobe is of a finding"):
        Subset("lost", lobe="positive")
    with pytest.raises(ValueError, match="has a side"):
        Subset(direction=1)
    with pytest.raises(ValueError, match="from 1 on"):
        Subset("lost", 0)


def test_a_record_holds_the_texts_and_says_where_one_is_unknown() -> None:
    record = factory.record(map_points=0)
    raw = json.loads(record.to_json())
    assert {item["subset"] for item in raw["metrics"]["retrieval"]} >= {"all", "lost 1 positive"}
    assert AuditRecord.from_json(record.to_json()) == record
    raw["metrics"]["retrieval"][0]["subset"] = "most"
    with pytest.raises(DataError, match=r"metrics\.retrieval\.0\.subset: Value error, 'most' names no set of samples"):
        AuditRecord.from_json(json.dumps(raw))
    rule = {"figure": "lost.max_share", "observed": None, "warn": 0, "fail": 1, "direction": "above", "result": "fail"}
    assert RuleResult.model_validate({**rule, "finding": "lost 1"}).finding == Subset("lost", 1)
    assert RuleResult.model_validate({**rule, "finding": "lost 1"}).model_dump()["finding"] == "lost 1"
