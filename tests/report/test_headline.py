"""The first page: what is lost in plain words, from confirmed findings and clear effects alone."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from koda.records import (
    AccuracyDifference,
    AccuracyRecord,
    AuditRecord,
    ConfusionRecord,
    Controls,
    Estimate,
    Finding,
    IntendedUse,
    Looks,
    OverRepresented,
    SpikeInRecord,
    Subset,
    Theme,
    WaiverRecord,
    Word,
)
from koda.report.headline import Headline, effect_of, headline, leading, subject
from tests.report import factory
from tests.report.page import page_of, small


def _plain(text: object) -> str:
    for tag in ("<em>", "</em>", "<bdi>", "</bdi>", "<b>", "</b>"):
        text = str(text).replace(tag, "")
    return str(text).replace("\u00a0", " ")


def _with_zero_shot(record: AuditRecord, lobe: str, n: int, before: float, after: float, **ends: Any) -> AuditRecord:
    """Return a record whose zero-shot figures are of one lobe; by default with an interval that holds no 0."""
    figures = record.metrics.zero_shot
    assert figures is not None
    fall = Estimate(
        value=after - before, **({"low": after - before - 0.1, "high": after - before + 0.1, "n": n} | ends)
    )
    roles = (("baseline", before), ("candidate", after))
    subset = Subset.parse(lobe)
    update = {
        "accuracies": [
            AccuracyRecord(model=role, role=role, subset=subset, n=n, top={"top-1": Estimate(value=value, n=n)})  # type: ignore[arg-type]
            for role, value in roles
        ],
        "differences": [AccuracyDifference(subset=subset, n=n, top={"top-1": fall})],
    }
    metrics = {"zero_shot": figures.model_copy(update=update), "retrieval_differences": []}
    return record.model_copy(update={"metrics": record.metrics.model_copy(update=metrics)})


def _lobes(finding: Finding, **changes: Any) -> Finding:
    lobes = {sign: getattr(finding, sign).model_copy(update=changes) for sign in ("positive", "negative")}
    return finding.model_copy(update=lobes)


@pytest.fixture
def record() -> AuditRecord:
    return _with_zero_shot(small(), "lost 1 positive", 158, 0.987, 0.297)


def test_it_says_what_is_lost_with_the_fall_its_n_and_its_interval(record: AuditRecord) -> None:
    said = headline(record)
    assert _plain(said.sentence) == (
        "The candidate no longer keeps purple apart from blue: zero-shot accuracy on 158 held-out pictures, most of "
        "them purple, falls from 98.7 to 29.7 %."
    )
    assert _plain(said.notes[0]) == "A fall of 69.0 points (95 % interval 59.0 to 79.0)."
    assert "as alike as a tight group of 0.81 % (95 % interval 0.73 to 0.90 %) of the data would be" in _plain(
        said.notes[1]
    )
    assert [_plain(lobe.name) for lobe in said.lobes] == ["purple", "blue"]


def _confusion(chosen: list[str], counts: list[list[int]], **changes: Any) -> Looks:
    subset = Subset.parse("lost 1 positive")
    table = ConfusionRecord(
        subset=subset, role="candidate", n=sum(map(sum, counts)), right=["purple"], chosen=chosen, counts=counts
    )
    return Looks(confusions=[table.model_copy(update=changes)])


def test_it_says_what_the_samples_that_fall_are_taken_for(record: AuditRecord) -> None:
    looks = _confusion(["purple", "pink", "<b>", "other classes"], [[47, 30, 31, 50]])
    said = headline(record.model_copy(update={"looks": looks}))
    assert _plain(said.notes[1]).endswith("takes 31 of the 158 for &lt;b&gt;.")
    assert len(said.notes) == 3


@pytest.mark.parametrize(
    "looks",
    [
        _confusion(["purple", "blue"], [[20, 10]]),  # of other samples
        _confusion(["purple", "blue"], [[48, 110]], role="baseline"),
        _confusion(["purple", "blue"], [[48, 110]], subset=Subset.parse("lost 1 negative")),
        _confusion(["purple", "blue"], [[158, 0]]),
        _confusion(["purple", "other classes"], [[48, 110]]),
        Looks(),
    ],
)
def test_it_says_nothing_of_mistakes_that_are_not_those_of_the_fall(record: AuditRecord, looks: Looks) -> None:
    assert len(headline(record.model_copy(update={"looks": looks})).notes) == 2


def test_each_lobe_says_how_many_go_by_its_name_and_what_became_of_them(record: AuditRecord) -> None:
    purple, blue = headline(record).lobes
    assert _plain(purple.extent).endswith(" pictures, 91 % of them purple: zero-shot 98.7 to 29.7 %")
    assert "% of them blue" in _plain(blue.extent) and "zero-shot" not in blue.extent


def test_the_lobe_that_falls_comes_first_and_goes_by_its_word_alone_where_nearly_all_have_it() -> None:
    record = small()
    first = record.findings[0]
    values = [OverRepresented(column="colour", value="blue", share_in=1.0, share_out=0.1, lift=10.0)]
    negative = first.negative.model_copy(update={"metadata": values})
    findings = [first.model_copy(update={"negative": negative}), record.findings[1]]
    said = headline(_with_zero_shot(record.model_copy(update={"findings": findings}), "lost 1 negative", 30, 1.0, 0.2))
    assert _plain(said.sentence).endswith(
        "apart from purple: zero-shot accuracy on 30 held-out blue pictures falls from 100.0 to 20.0 %."
    )
    assert [_plain(lobe.name) for lobe in said.lobes] == ["blue", "purple"]


@pytest.mark.parametrize("ends", [{"high": 0.01}, {"high": 0.0}, {"low": None, "high": None}])
def test_a_fall_whose_interval_holds_0_is_not_said(ends: dict[str, Any]) -> None:
    record = _with_zero_shot(small(), "lost 1 positive", 20, 0.6, 0.5, **ends)
    assert effect_of(record, record.findings[0]) is None
    assert _plain(headline(record).sentence) == "The candidate no longer keeps purple apart from blue."


def test_the_largest_of_the_falls_is_said_with_how_many_it_was_chosen_of(full: AuditRecord) -> None:
    effect = effect_of(full, full.findings[0])
    assert effect is not None and effect.task == "zero-shot" and effect.n_compared == 5
    assert "the largest of 5 falls measured on the two groups, not adjusted for that choice" in str(
        headline(full).notes[0]
    )
    figures = full.metrics.model_copy(update={"zero_shot": None})
    assert "the share of 46 held-out pictures, most of them purple, whose own caption is ranked first falls" in _plain(
        headline(full.model_copy(update={"metrics": figures})).sentence
    )


def test_what_does_not_dominate_is_not_named(record: AuditRecord) -> None:
    few = [OverRepresented(column="colour", value="purple", share_in=0.4, share_out=0.05, lift=8.0)]
    joining = [Word(text="in", z=9.0, share_in=0.9, share_out=0.2)]
    neutral = _lobes(record.findings[0], metadata=few, words=joining)
    assert subject(neutral, "positive") is subject(neutral, "negative") is None
    said = headline(record.model_copy(update={"findings": [neutral]}))
    assert _plain(said.sentence).startswith(
        "The candidate no longer keeps apart two groups of 46 and 39 pictures that the baseline keeps apart: zero-shot "
        "accuracy on 158 held-out pictures of the first of them falls"
    )
    assert "purple" not in _plain(said.sentence) and "without a common word" in str(said.lobes[0].name)
    both = _lobes(record.findings[0], metadata=[few[0].model_copy(update={"share_in": 0.9})], words=joining)
    assert subject(both, "positive") is None  # it tells the lobes not apart


def test_a_value_that_no_caption_says_goes_with_its_column(record: AuditRecord) -> None:
    camera = [OverRepresented(column="camera", value="A", share_in=0.9, share_out=0.2, lift=4.5)]
    first = record.findings[0]
    found = first.model_copy(update={"positive": first.positive.model_copy(update={"metadata": camera})})
    assert subject(found, "positive") == "camera = A"


def test_only_a_confirmed_finding_leads_and_the_one_that_decides_before_others() -> None:
    record = factory.record(6, gallery=2, map_points=0)
    lost = [finding for finding in record.findings if finding.side == "lost"]
    rule = record.verdict.rules[0].model_copy(update={"finding": lost[2].subset})
    verdict = record.verdict.model_copy(update={"rules": [rule]})
    assert leading(record.model_copy(update={"verdict": verdict})) == lost[2]
    theme = Theme(side="lost", number=1, findings=[lost[1].subset], name="", size=9, confirmed=True)
    assert leading(record.model_copy(update={"themes": [theme]})) == lost[1]
    assert leading(record) == lost[0]
    waived = record.verdict.model_copy(
        update={"status": "warn", "rules": [rule.model_copy(update={"result": "waived", "waived": "fail"})]}
    )  # of which the first page has the figure and the waiver
    assert leading(record.model_copy(update={"verdict": waived, "themes": [theme]})) == lost[2]
    weak = [f.model_copy(update={"confirmed": False}) for f in record.findings]
    assert leading(record.model_copy(update={"findings": weak, "verdict": verdict, "themes": [theme]})) is None


def _nothing(**changes: Any) -> Headline:
    return headline(factory.record(0, map_points=0, **changes))


def test_where_nothing_was_lost_it_says_what_would_have_been_seen() -> None:
    assert _plain(_nothing().sentence).endswith("was confirmed; what this audit could have seen was not tried.")
    trials = [SpikeInRecord(share=s, size=9, trials=5, confirmed=c) for s, c in ((0.04, 5), (0.02, 5), (0.01, 3))]
    seen = _nothing(controls=Controls(n_discovery=90, n_confirmation=90, spike_ins=trials))
    assert _plain(seen.sentence) == (
        "No loss over 0.10 % of the data was confirmed; with these data a lost group of 2 % would have been seen in 5 "
        "of 5 trials."
    )
    blind = [trials[0].model_copy(update={"confirmed": 0})]
    said = _nothing(controls=Controls(n_discovery=90, n_confirmation=90, spike_ins=blind)).sentence
    assert _plain(said).endswith("a lost group of 4 % would have been seen in 0 of 5 trials.")
    assert _plain(_nothing().gained) == "Gained: nothing over 0.10 % of the data was confirmed."


def test_what_was_not_tested_is_said_so_on_both_sides() -> None:
    record = factory.record(6, gallery=2, map_points=0)
    untested = [f.model_copy(update={"confirmed": None, "p_value": None}) for f in record.findings]
    said = headline(record.model_copy(update={"findings": untested}))
    assert _plain(said.sentence).endswith("may have lost; none was tested on held-out samples.")
    assert _plain(said.gained) == "Gained: 2 directions found; none was tested on held-out samples."
    assert "0.81" not in str(said) and said.lobes == []


def test_pictures_are_of_members_held_out_first(record: AuditRecord) -> None:
    first = record.findings[0]
    picks = [("discovery", "top"), ("confirmation", "near miss"), ("confirmation", "member")]
    samples = [
        sample.model_copy(update={"split": split, "pick": pick})
        for sample, (split, pick) in zip(first.positive.samples, picks, strict=True)
    ]
    found = first.model_copy(update={"positive": first.positive.model_copy(update={"samples": samples})})
    shown = headline(record.model_copy(update={"findings": [found]})).lobes[0].samples
    assert [sample.key for sample in shown] == [samples[2].key, samples[0].key]


def test_the_cover_shows_waivers_in_full_links_and_no_path(record: AuditRecord, tmp_path: Path) -> None:
    waiver = WaiverRecord(
        person="A. Reviewer", reason="not used in production.", expires=date(2027, 1, 31), expired=False
    )
    rules = [
        record.verdict.rules[0].model_copy(update={"result": "waived", "waived": "fail", "waiver": waiver}),
        record.verdict.rules[2].model_copy(update={"waiver": waiver.model_copy(update={"expired": True})}),
    ]
    verdict = record.verdict.model_copy(update={"status": "pass", "rules": rules})
    page, _ = page_of(record.model_copy(update={"verdict": verdict}), tmp_path)
    cover = _plain(page.text[: page.text.index("Contents")])
    assert "0.81 % [0.73, 0.90]: waived until 2027-01-31 by A. Reviewer: not used in production." in cover
    assert "Without it the result is fail." in cover
    assert "a waiver expired on 2027-01-31 and counts for nothing; it was by A. Reviewer" in cover
    assert "checkpoints/step" not in cover and "ViT-B-32, 151 277 313 parameters" in cover.replace("\u202f", " ")
    links = {a.get("href") for _, a in page.tags}
    assert {"audit.json", "slices.csv", "verdict.json"} <= links and "report.pdf" not in links  # none was asked for
    assert "Intended use not stated" in cover and page.text.count("not stated") >= 5


def test_what_is_stated_stands_in_its_row(tmp_path: Path) -> None:
    use = IntendedUse(purpose="search of <b>pictures</b>", out_of_scope="people", owner="vision-team")
    text = page_of(small(intended_use=use), tmp_path)[0].text
    assert text.count("search of <b>pictures</b>") == 2 and "out of scope people" in text
    assert "datasheet not stated" in text and "licence CC-BY-4.0" in text and "contact not stated" in text


def test_equal_labels_are_told_apart_by_their_role(tmp_path: Path) -> None:
    record = small()
    same = record.candidate.model_copy(update={"label": record.baseline.label})
    text = page_of(record.model_copy(update={"candidate": same}), tmp_path)[0].text
    table = text[text.index("Retrieval of both models:") :]
    assert f"{record.baseline.label} (baseline) 2 941" in table and f"{same.label} (candidate) 2 941" in table
