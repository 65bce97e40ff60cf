"""Findings go by their names; those of records that are older than names by their first words."""

from __future__ import annotations

import json

from koda.records import AuditRecord, FindingSeen, SweepSide
from tests.policy.facts import finding
from tests.report.factory import record


def test_a_finding_without_a_name_goes_by_its_words() -> None:
    words = ["purple", "blue", "large", "on", "grey", "left", "top"]
    old = finding(0.004).model_copy(update={"words": words})
    assert old.title == "purple, blue, large, on"
    assert old.model_copy(update={"name": "colour = purple"}).title == "colour = purple"
    assert FindingSeen(side="lost", direction=1, words=words, target_share=0.1).title == "purple, blue, large, on"
    assert SweepSide(confirmed=1, words=words).title == "purple, blue, large, on, grey, left"
    assert SweepSide(confirmed=0).title == ""


def test_a_record_without_names_and_themes_is_read() -> None:
    raw = json.loads(record(2, map_points=0).to_json())
    del raw["themes"]
    for found in raw["findings"]:
        del found["name"], found["positive"]["name"], found["negative"]["name"]
    again = AuditRecord.from_json(json.dumps(raw))
    assert again.themes == []
    assert [(found.name, found.positive.name) for found in again.findings] == [("", "")] * 2
