"""Nouns, verbs and pronouns agree with the numbers beside them, in all that a report says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from koda.records import AuditRecord, Controls, RejectionRecord, SelfControlRecord, SpikeInRecord
from koda.report.headline import headline
from tests.report import factory
from tests.report.page import page_of, small

ONE_OF_MANY = re.compile(
    r"(?<![\d.,\u202f\u00a0 /–−-])1[ \u00a0](?:samples|directions|findings|themes|rules|trials|pictures|captions|pairs|"
    r"parameters|references|classes|templates|tests|values|columns|searches|audits|figures|entries|characters|images|"
    r"queries|points|epochs|steps|sets|waivers|pages|differences|members)\b"
)


def _ones(record: AuditRecord) -> AuditRecord:
    """Return a record in which as much as can be is one."""
    spike = SpikeInRecord(share=0.04, size=1, trials=1, confirmed=1)
    self_control = SelfControlRecord(
        role="baseline", model="a", precision="fp32", noise=1e-6, n_directions=1, confirmed=1
    )
    sides = {
        side: getattr(record.method, side).model_copy(update={"n_directions": 1, "stats": {"last_is_material": True}})
        for side in ("lost", "gained")
    }
    method = record.method.model_copy(update=sides)
    data = record.data.model_copy(
        update={
            "n_compared": 1, "n_discovery": 1, "n_confirmation": 1, "n_rejected": 1, "ledger": None,
            "rejections": [RejectionRecord(key="a", reason="b")], "rejection_reasons": {"b": 1},
        }
    )  # fmt: skip
    models = {role: getattr(record, role).model_copy(update={"parameters": 1}) for role in ("baseline", "candidate")}
    first = record.findings[0]
    lobes = {sign: getattr(first, sign).model_copy(update={"size": 1}) for sign in ("positive", "negative")}
    changes: dict[str, Any] = {
        "controls": Controls(n_discovery=1, n_confirmation=1, spike_ins=[spike], self_controls=[self_control]),
        "findings": [first.model_copy(update=lobes)],
        "config": {"discrepancy": {"n_directions": 1}},
    }
    return record.model_copy(update={**models, **changes, "method": method, "data": data})


def test_one_of_a_thing_is_never_said_to_be_several(tmp_path: Path) -> None:
    text = page_of(_ones(small()), tmp_path)[0].text  # in which all spaces are plain
    assert "1 of 1 trial" in text
    assert ONE_OF_MANY.findall(text) == []
    for said in (
        "The search stopped at 1 direction, which is still material: there are more.",
        "the search stops after at most 1 direction a side",
        "The one sample left out.",
        " at the top of 1 direction, which is confirmed",
    ):
        assert said in text


def test_what_stands_in_the_place_of_pictures_agrees_with_their_number(tmp_path: Path) -> None:
    record = factory.record(1, gallery=2, map_points=0)
    pictures = factory.thumbnails(record)
    made = page_of(record, tmp_path, dict(list(pictures.items())[1:]))[1]
    assert made.notes == ["1 of 4\u00a0gallery pictures could not be had; an empty frame stands in its place."]


@pytest.mark.parametrize(("trials", "said"), [(1, "1 of 1 trial."), (3, "1 of 3 trials.")])
def test_trials_are_counted_in_the_sentence_of_the_first_page(trials: int, said: str) -> None:
    controls = Controls(
        n_discovery=9, n_confirmation=9, spike_ins=[SpikeInRecord(share=0.04, size=9, trials=trials, confirmed=1)]
    )
    sentence = str(headline(factory.record(0, map_points=0, controls=controls)).sentence).replace("\u00a0", " ")
    assert sentence.endswith(said)
