"""The table of metadata values on which the models differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.records import AuditRecord, Estimate, Metrics, ValueDifference
from tests.report.page import HOSTILE, Page, page_of, small


def _with(record: AuditRecord, **changes: object) -> AuditRecord:
    return record.model_copy(update={"metrics": record.metrics.model_copy(update=changes)})


def _purple(record: AuditRecord) -> ValueDifference:
    return record.metrics.by_value[0]


def test_the_values_that_differ_stand_in_a_table_the_most_significant_first(page: Page) -> None:
    text = page.text
    assert "each value of colour, camera, with all samples as the gallery" in text
    assert "On 2 of 3 values the models differ significantly" in text and "over all 14 tests" in text
    purple = "colour = purple R@1, image to caption 472 62.0 31.0 −31.0 [−36.0, −26.0] < 0.0001"
    gained = "camera = A R@1, image to caption 472 62.0 70.0 +8.0 [+3.0, +13.0] 0.012"
    assert text.index(purple) < text.index(gained) and "colour = red" not in text
    assert "taken: not measured, it has 5883 values" in text


def test_more_than_fifteen_values_are_counted_and_so_are_those_left_out(tmp_path: Path) -> None:
    record = small()
    purple, gained = _purple(record), record.metrics.by_value[2]  # which is the smaller
    many = [gained, *(purple.model_copy(update={"value": f"v{i:02d}"}) for i in range(19))]
    page, _ = page_of(_with(record, by_value=many, by_value_left_out=7), tmp_path)
    assert "camera = A" not in page.text
    assert page.text.count("colour = v") == 15 and "5 more values differ by less" in page.text
    assert "nor are 7 further values beyond the 200 most frequent" in page.text


def test_models_that_differ_on_no_value_have_a_sentence_and_no_table(tmp_path: Path) -> None:
    record = small()
    same = [item for item in record.metrics.by_value if item.value == "red"]
    page, _ = page_of(_with(record, by_value=same), tmp_path)
    assert "On 0 of 1 value the models differ significantly" in page.text
    assert "Values on which the models differ most" not in page.text


@pytest.mark.parametrize("metrics", [Metrics(), None])
def test_without_metadata_nothing_is_said(metrics: Metrics | None, tmp_path: Path) -> None:
    record = small()
    bare = _with(record, by_value=[], by_value_unmeasured={}) if metrics is None else record
    bare = bare if metrics is None else record.model_copy(update={"metrics": metrics})
    assert "By metadata value" not in page_of(bare, tmp_path)[0].text


def test_hostile_columns_and_values_stay_in_their_place(tmp_path: Path) -> None:
    record = small()
    calm, _ = page_of(_with(record, by_value=[_purple(record)] * len(HOSTILE)), tmp_path / "calm")
    evil = [_purple(record).model_copy(update={"column": str(text), "value": str(text)}) for text in HOSTILE]
    unmeasured = {str(HOSTILE[0]): str(HOSTILE[2])}
    page, made = page_of(_with(record, by_value=evil, by_value_unmeasured=unmeasured), tmp_path)
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    raw = made.html.read_text(encoding="utf-8")
    assert "\x00" not in raw and "\u202e" not in raw


def test_the_value_that_decides_a_rule_is_named_beside_it_and_on_the_cover(tmp_path: Path) -> None:
    record = small()
    where = "colour = purple, R@1, image to caption"
    rule = record.verdict.rules[0].model_copy(update={"figure": "by.colour.retrieval_drop", "detail": where})
    verdict = record.verdict.model_copy(update={"rules": [rule]})
    page, _ = page_of(record.model_copy(update={"verdict": verdict}), tmp_path)
    assert f"observed at {where}" in page.text and f"({where}) is 0.8 points" in page.text
    assert "largest significant fall of R@1, R@5 or R@10, of either direction, on a value of colour" in page.text


def test_the_first_page_names_the_value_on_which_a_rule_failed(tmp_path: Path) -> None:
    record = small()
    (first, *_) = record.verdict.rules
    fall = Estimate(value=0.677, low=0.578, high=0.776, n=263)
    changed = {"figure": "by.retrieval_drop", "observed": fall, "fail": 0.2, "direction": "above", "finding": None}
    rules = [
        first.model_copy(update={"result": "fail"}),
        first.model_copy(update={**changed, "result": "fail", "detail": "colour = <purple>, R@5"}),
    ]
    verdict = record.verdict.model_copy(update={"status": "fail", "rules": rules})
    text = page_of(record.model_copy(update={"verdict": verdict}), tmp_path)[0].text
    assert "(colour = <purple>, R@5) 67.7 points (limit 20.0 points)" in text
