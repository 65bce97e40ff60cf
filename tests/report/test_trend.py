"""The trend over the audits of a line, and what changed since the one before."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from koda.records import (
    AuditRecord,
    Changes,
    Difference,
    Estimate,
    FigureDifference,
    FigureName,
    FindingKept,
    FindingSeen,
    Trend,
    TrendPoint,
)
from koda.report.changed_figures import changed_figures, quiet
from koda.report.trend_plot import trend, trend_plot
from tests.report.page import page_of, small

START = datetime(2026, 11, 1, tzinfo=UTC)


def _estimate(value: float, reach: float = 0.001) -> Estimate:
    return Estimate(value=value, low=value - reach, high=value + reach, n=900)


def _point(number: int, breaks: list[str], **figures: Estimate) -> TrendPoint:
    return TrendPoint(
        audit=f"audit-{number}",
        candidate=f"step {number}",
        ended=START + timedelta(days=number),
        verdict="pass",
        figures={name.replace("__", "."): value for name, value in figures.items()},
        breaks=breaks,
    )


def _line(*breaks: list[str], reach: float = 0.001) -> list[TrendPoint]:
    return [_point(k, b, lost__max_share=_estimate(0.002 * (k + 1), reach)) for k, b in enumerate(breaks)]


def _after(record: AuditRecord, metrics: list[FigureDifference], **changes: Any) -> AuditRecord:
    made = Changes(
        before="audit-0", before_ended=START, after=record.id, comparable=True, verdict_before="pass",
        verdict_after="fail", findings_compared=True, metrics=metrics, **changes,
    )  # fmt: skip
    return record.model_copy(update={"changes": made})


def test_a_mark_for_each_audit_joined_only_where_they_can_be_compared() -> None:
    drawn = str(trend_plot("lost.max_share", _line([], [], ["data", "policy"], []), small().verdict.rules[0]))
    assert drawn.count("<circle") == 4 and drawn.count("v6") == 0
    assert len(re.findall(r'stroke="#545d6e"', drawn)) == 2  # 0 to 1, and 2 to 3
    assert "other data, other policy" in drawn
    assert "warn 0.10" in drawn and "fail 0.20" in drawn and "2026-11-01" in drawn and "2026-11-04" in drawn


@pytest.mark.parametrize(
    "values",
    [[float("nan"), 0.002], [0.0, 0.0], [1e-12, 1e12], [-0.5, float("inf")]],
)
def test_odd_figures_leave_a_plot_without_nan(values: list[float]) -> None:
    points = [_point(k, [], lost__max_share=Estimate(value=v)) for k, v in enumerate(values)]
    drawn = str(trend_plot("lost.max_share", points))
    assert "nan" not in drawn and "inf" not in drawn
    assert drawn.count("<circle") == sum(abs(v) < float("inf") for v in values)


def test_nothing_is_drawn_without_a_figure_or_an_earlier_audit() -> None:
    assert trend_plot("lost.max_share", [_point(0, []), _point(1, [])]) == ""
    assert trend(small()) is None
    assert trend(small(trend=Trend(points=_line([])))) is None


def test_the_section_shows_plots_and_the_values_with_breaks(tmp_path: Path) -> None:
    points = _line([], ["settings"])
    text = page_of(small(trend=Trend(points=points, left_out=2)), tmp_path)[0].text
    section = text[text.index("The figures of the policy in the audits of this line") :]
    assert "2 earlier audits are left out" in section
    assert "step 1 , audit-1; not to be compared with the row above: other settings" in section
    assert "0.20 % [0.10, 0.30] at 95 %" in section.replace("\u00a0", " ")
    lonely = _point(1, [], gained__max_share=_estimate(0.001))
    text = page_of(small(trend=Trend(points=[points[0], lonely])), tmp_path)[0].text
    assert "No figure of this audit was observed in an earlier one." in text


def test_only_what_its_intervals_tell_apart_is_said_to_have_changed() -> None:
    record = small()
    observed = record.verdict.rules[0].observed
    assert observed is not None
    difference = FigureDifference(name=FigureName.parse("lost.max_share"), before=0.002, after=observed.value)
    directions = FigureDifference(name=FigureName.parse("lost.found"), before=5, after=2)

    def sort(before: Estimate) -> tuple[int, int, int]:
        points = [_point(0, [], lost__max_share=before), _point(1, [], lost__max_share=observed)]
        changed = changed_figures(
            _after(record.model_copy(update={"trend": Trend(points=points)}), [difference, directions])
        )
        assert changed is not None
        return len(changed.beyond), len(changed.within), len(changed.unknown)

    assert sort(_estimate(0.002)) == (1, 0, 1)
    assert sort(_estimate(0.002, reach=0.01)) == (0, 1, 1)
    assert sort(Estimate(value=0.002)) == (0, 0, 2)
    assert sort(_estimate(0.003)) == (0, 0, 2)  # not the value that changed
    assert changed_figures(record) is None


def test_the_rest_is_folded_away_and_the_report_before_is_linked(tmp_path: Path) -> None:
    kept = [
        FindingKept(side="lost", before=k, after=k, overlap=0.9, share_before=0.01, share_after=0.01,
                    confirmed_before=True, confirmed_after=k == 1)
        for k in (1, 2)
    ]  # fmt: skip
    recall = FigureDifference(name=FigureName.parse("baseline I2T R@1"), before=0.5, after=0.63)
    made = _after(small(), [recall], kept=kept, software=[Difference(name="torch", before="1", after="2")])
    page, out = page_of(made, tmp_path)
    assert "../audit-0/report.html" in {a.get("href") for _, a in page.tags}
    assert "No figure is known to have changed by more than its intervals leave open." in page.text
    raw = out.html.read_text()
    opened, rest = raw.index("kept: lost 2"), raw.index("<details")
    assert opened < rest < raw.index("kept: lost 1") and raw.index("Everything else that is not the same") > rest
    assert "63.0 % [60.0, 66.0] at 95 %" in page.text.replace("\u00a0", " ")


def _calm(kept: list[FindingKept], metrics: list[FigureDifference], **changes: Any) -> AuditRecord:
    made = _after(small(), metrics, kept=kept, **changes)
    assert made.changes is not None
    return made.model_copy(update={"changes": made.changes.model_copy(update={"verdict_after": "pass"})})


def _kept(number: int, **changes: Any) -> FindingKept:
    same = {"confirmed_before": True, "confirmed_after": True, "share_before": 0.01, "share_after": 0.011}
    return FindingKept(side="lost", before=number, after=number, overlap=0.9, **(same | changes))


def test_where_nothing_material_changed_the_section_is_one_sentence_and_a_fold(tmp_path: Path) -> None:
    torch = [Difference(name="torch", before="1", after="2")]
    page, made = page_of(_calm([_kept(1), _kept(2)], [], software=torch), tmp_path / "two")
    assert (
        "Nothing material changed since audit audit-0 , which ended 2026-11-01 00:00:00 UTC: the verdict is PASS then "
        "and now, the 2 directions are kept with the same results of their tests, and the figures are the same."
    ) in page.text
    raw = made.html.read_text(encoding="utf-8")
    fold = raw[raw.index("Nothing material") :]
    assert fold.index("<details") < fold.index("kept: lost 1") < fold.index("torch") < fold.index("</details>")
    assert "everything else that is not the same: 1\u00a0entry of software and hardware</summary>" in fold
    for said in ("Directions: ", "0 new", "0\u00a0figure", "No figure is known", "software are the same"):
        assert said not in fold[: fold.index("<h2")]
    page, made = page_of(_calm([], []), tmp_path / "none")
    assert "no direction was found then or now" in page.text
    section = made.html.read_text(encoding="utf-8").partition("Nothing material")[2].partition("<h2")[0]
    assert "<details" not in section and "<table" not in section


@pytest.mark.parametrize(
    "changes",
    [
        {"comparable": False, "not_comparable": ["other settings"]},
        {"verdict_after": "fail"},
        {"rules": [Difference(name="lost.max_share", before="pass", after="warn")]},
        {"kept": [_kept(1, confirmed_after=False)]},
        {"kept": [_kept(1, share_before=0.01, share_after=0.09)]},
        {"gone": [FindingSeen(side="lost", direction=1, target_share=0.01)]},
        {"findings_compared": False},
    ],
)
def test_what_changed_or_cannot_be_compared_is_not_called_immaterial(changes: dict[str, Any]) -> None:
    calm = _calm([_kept(1)], [])
    assert calm.changes is not None and quiet(calm, changed_figures(calm))
    record = calm.model_copy(update={"changes": calm.changes.model_copy(update=changes)})
    assert quiet(record, changed_figures(record)) == ""
