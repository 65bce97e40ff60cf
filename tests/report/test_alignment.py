"""The alignment in the report: held-out figures first, what it cost named, and nothing where there was none."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from koda.records import REST, AuditRecord, Estimate, RetestedFinding, Subset
from koda.report import render
from tests.report import factory
from tests.report.page import FORBIDDEN, Page, needs_pango, page_of, small

HELD_OUT = factory.sha("held out")


def record(digest: str | None = HELD_OUT, **changes: Any) -> AuditRecord:
    made = small(alignment=factory.aligned(**changes))
    return made.model_copy(update={"data": made.data.model_copy(update={"confirmation_digest": digest})})


def said(folder: Path, made: AuditRecord) -> str:
    """Return the text of the alignment's section, with plain spaces."""
    text = plain(page_of(made, folder)[0])
    sentence = text.rindex("The candidate of this audit, “")
    return text[text.rindex("Alignment ", 0, sentence) : text.rindex("Provenance and how to verify")]


def plain(page: Page) -> str:
    return re.sub("[\u00a0\u202f]", " ", page.text)


@pytest.fixture(scope="module")
def section(tmp_path_factory: pytest.TempPathFactory) -> str:
    return said(tmp_path_factory.mktemp("aligned"), record())


def test_without_an_alignment_nothing_is_said_of_one(tmp_path: Path) -> None:
    page, _ = page_of(small(), tmp_path)
    assert "Alignment" not in page.text and "aligned" not in page.text.lower()
    assert "alignment" not in [attributes.get("id") for attributes in page.named("h2")]


def test_it_says_who_learnt_what_from_whom_after_which_audit(section: str) -> None:
    assert "“ViT-B-32 step 9000”, is “ViT-B-32 step 8900” after koda fine-tuned it on findings lost 1 and 2" in section
    assert "of audit audit-77b0aa. It was the student; the teacher was “ViT-B-32 step 8000”, the baseline" in section
    assert "image and text towers, 151 277 312 of 151 277 313 parameters" in section
    assert "150 of at most 400, 192 samples each, 50 % of them in slices" in section
    assert "weights kept of step 100" in section and "had not risen in 4 looks" in section
    assert "stops if R@1 of the validation samples falls by more than 2 points" in section


def test_held_out_scores_come_first_and_recovery_is_put_in_words(section: str) -> None:
    assert "was 0.27 before and is 0.49 after; under the teacher it is 0.52. Recovery, held out: 88 % of" in section
    held_out, trained_on = section.index("Held out: the figures to go by 291"), section.index("Trained on, in sample")
    assert held_out < trained_on and "0.25 0.30 0.15" in section[trained_on:]
    assert "no evidence of what holds for new samples" in section


def test_findings_are_tested_again(section: str) -> None:
    assert "Of 2 differences, 2 were confirmed before (at α = 0.05) and 1 is after: lost 2." in section
    assert "0.23 % [0.20, 0.26] < 0.0001 ● confirmed 0.010 % [0.005, 0.015] 1 ○ not confirmed" in section
    assert "0.23 % [0.20, 0.26] < 0.0001 ● confirmed 0.17 % [0.14, 0.20] 0.003 ● confirmed" in section
    assert "2.9 9.4 9.7 3.30 1.03 1.00" in section  # coherence and quotients
    assert "over the materiality of 0.10 %" in section and "not that there is none" in section


@pytest.mark.parametrize(
    ("p_after", "outcome"),
    [
        ((1.0, 0.003), "1 of 2 findings is no longer confirmed on held-out samples; 1 still is."),
        ((0.0017, 0.003), "Nothing mended: 2 of 2 findings are still confirmed on held-out samples."),
        ((None, None), "Not shown to be mended: 0 of 2 findings could be tested again"),
    ],
)
def test_it_leads_with_what_was_mended(p_after: tuple[float | None, ...], outcome: str, tmp_path: Path) -> None:
    retests = [
        retest.model_copy(update={"p_after": p}) for retest, p in zip(factory.aligned().retests, p_after, strict=True)
    ]
    assert said(tmp_path, record(retests=retests)).startswith(f"Alignment {outcome}")


@pytest.mark.parametrize(
    ("unseen", "words"),
    [
        (True, "No search, training or early stopping of it saw the samples that are held out here."),
        (False, "Which samples it was trained on is not known"),
    ],
)
def test_the_cover_says_whether_what_is_held_out_was_seen(unseen: bool, words: str, tmp_path: Path) -> None:
    made = record(factory.sha("others"))
    made = made.model_copy(update={"data": made.data.model_copy(update={"unseen": unseen})})
    text = plain(page_of(made, tmp_path)[0])
    assert words in text[: text.index("Contents")] and "Section 9 says how." in text


def test_figures_of_held_out_samples_alone_say_so(tmp_path: Path) -> None:
    made = record()
    assert "Only held-out samples" not in page_of(made, tmp_path / "all")[0].text
    figures = factory.record().metrics.model_copy(update={"queries": "held out"})
    text = page_of(made.model_copy(update={"metrics": figures}), tmp_path)[0].text
    assert "Only held-out samples are queries" in text and "Only held-out samples are classified" in text
    assert "One figure over all held-out samples" in text


def test_a_rule_that_a_retest_decides_is_told_so(tmp_path: Path) -> None:
    made = record()
    rule = next(rule for rule in made.verdict.rules if rule.figure == "lost.max_share")
    decided = rule.model_copy(
        update={"finding": None, "retests": [RetestedFinding(finding=Subset("lost", 2), p_value=0.0017)]}
    )
    verdict = made.verdict.model_copy(update={"rules": [decided], "status": decided.result})
    text = plain(page_of(made.model_copy(update={"verdict": verdict}), tmp_path)[0])
    assert "decided by a retest: of the audit before the alignment lost 2 (p = 0.0017)" in text
    assert text[: text.index("Contents")].count("by the retest of lost 2 of the audit before the alignment") == 2


def test_the_falls_are_named_before_the_tables(section: str) -> None:
    fall = "lost 1, first lobe, held-out members (purple, umbrella; n = 46): image to text R@1 36.0 % before"
    assert (
        "Of 36 differences between before and after, 1 is a fall whose interval lies wholly below zero. It is"
        in section
    )
    assert section.index(fall) < section.index("What came of it")
    assert "None of the 12 differences between before and after has an interval that lies wholly below zero" in section
    assert (
        "in no slice: image to text R@1 63.0 % before, 62.4 % after (−0.6 points [−2.1, +0.9], teacher 63.0 %)"
        in section
    )
    order = [section.index(f"{name} n = 46 R@1") for name in ("all held out", "the rest, in no slice")]
    assert order == sorted(order) and order[-1] < section.index("purple, umbrella; n = 46 R@1 36.0 25.0 56.0 −11.0")


def test_samples_are_named_by_digest(section: str) -> None:
    flat = section.replace(" ", "")
    for name in ("train", "validation", "held out"):
        assert factory.sha(name) in flat
    assert "2 354 140 in a slice 588 2 941" in section and "The held-out samples of this audit are the same" in section


def test_the_curves_of_the_looks_have_the_limit_of_the_guard(tmp_path: Path) -> None:
    text = page_of(record(), tmp_path)[1].html.read_text(encoding="utf-8")
    assert "against the steps" in text and "the guard stops below" in text and text.count("kept: step 100") == 2
    looks = [look.model_copy(update={"retrieval": None}) for look in factory.aligned().looks]
    text = said(tmp_path, record(looks=looks))
    assert "the guard stops below" not in text and "not in force: image and text share no space" in text


@pytest.mark.parametrize(
    ("digest", "words"),
    [
        (HELD_OUT, "koda fine-tuned it on samples that the search of this audit used. Only figures on held-out"),
        (factory.sha("others"), "whose held-out samples are not those of this audit"),
        (None, "Where this audit has the data and split of that one"),
    ],
)
def test_the_cover_says_which_figures_speak(digest: str | None, words: str, tmp_path: Path) -> None:
    text = plain(page_of(record(digest), tmp_path)[0])
    assert words in text[: text.index("Contents")] and "Section 9 says how." in text


def test_the_role_is_that_of_the_weights_in_this_audit(tmp_path: Path) -> None:
    made = record(weights_digest=factory.sha("weights 8000"), teacher_fingerprint=factory.sha("another"))
    text = plain(page_of(made, tmp_path)[0])
    assert "The baseline is an aligned model" in text and "which is not a model of this audit" in text


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    text = said(tmp_path, record(retrieval=[], retrieval_changes=[], zero_shot=[], zero_shot_changes=[]))
    assert "Retrieval was not measured" in text and "Zero-shot accuracy was not measured" in text
    assert "bootstrap" not in text
    text = said(tmp_path, record(retrieval_changes=[]))
    assert "Nothing was measured both before and after." in text
    rest = [change for change in factory.aligned().retrieval_changes if change.subset != REST]
    assert "there is no rest to look at" in said(tmp_path, record(retrieval_changes=rest))


def test_a_recovery_that_means_nothing_is_not_stated(tmp_path: Path) -> None:
    text = said(tmp_path, record(recovery=None))
    assert "No recovery is stated" in text and "Recovery, held out" not in text
    assert "No recovery can be stated" in said(tmp_path, record(recovery=None, clusters=[]))
    assert "Recovery, held out: −12 % of the way" in said(tmp_path, record(recovery=-0.12))


def test_one_finding_and_a_test_that_could_not_be_made(tmp_path: Path) -> None:
    one = small(alignment=factory.aligned(1))
    text = said(tmp_path, one)
    assert "on finding lost 1 of audit" in text
    assert "The difference was confirmed before (at α = 0.05) and is not confirmed after." in text
    untested = factory.aligned(2)
    retests = [retest.model_copy(update={"p_after": None}) for retest in untested.retests]
    text = said(tmp_path, record(retests=retests))
    assert "and none are after. Not tested: lost 1, lost 2." in text and "– not tested" in text
    assert "tested again" not in said(tmp_path, record(retests=[], shares=[]))


def test_images_that_could_not_be_used_are_named_up_to_five(tmp_path: Path) -> None:
    split = factory.aligned().split
    one = split.model_copy(update={"unreadable": {"a.jpg": "truncated"}})
    told = "1 image of the training and validation samples could not be used and was left out: a.jpg (truncated)."
    assert told in said(tmp_path, record(split=one))
    many = split.model_copy(update={"unreadable": {f"{i}.jpg": "truncated" for i in range(8)}})
    text = said(tmp_path, record(split=many))
    assert "8 images" in text and "4.jpg" in text and "5.jpg" not in text and "and 3 more" in text


def test_many_falls_are_listed_up_to_ten(tmp_path: Path) -> None:
    down = {f"R@{k}": Estimate(value=-0.2, low=-0.3, high=-0.1) for k in (1, 5, 10)}
    changes = [
        change.model_copy(update={"image_to_text": down, "text_to_image": down})
        for change in factory.aligned().retrieval_changes
    ]
    text = said(tmp_path, record(retrieval_changes=changes))
    assert "Of 36 differences between before and after, 36 are falls" in text and "and 26 more, in the table." in text
    assert text.index("all held out (n = 46)") < text.index("the rest, in no slice (n = 46)")
    every = Estimate(value=-1.0)  # no interval, since no draw varies: every query fell
    changes[0] = changes[0].model_copy(update={"image_to_text": {"R@1": every}})
    assert "−100.0 points, teacher" in said(tmp_path, record(retrieval_changes=changes))


def test_figures_that_are_not_finite_are_dashes(tmp_path: Path) -> None:
    nothing = Estimate(value=float("nan"))
    made = factory.aligned()
    scores = [score.model_copy(update={"ami": float("nan")}) for score in made.clusters]
    shares = [share.model_copy(update={"share": nothing, "quotient": None}) for share in made.shares]
    retests = [retest.model_copy(update={"after": nothing}) for retest in made.retests]
    looks = [look.model_copy(update={"agreement": float("nan")}) for look in made.looks]
    text = said(tmp_path, record(clusters=scores, shares=shares, retests=retests, looks=looks))
    assert not re.search(r"\b(nan|inf)\b", text)


def test_it_claims_nothing_it_may_not_and_is_as_harmless_as_the_rest(section: str, tmp_path: Path) -> None:
    for pattern in FORBIDDEN:
        assert not re.search(pattern, section, re.I), pattern
    evil = "<script>alert(1)</script>\x00\u202e"
    made = factory.aligned()
    groups = [group.model_copy(update={"words": [evil]}) for group in made.groups]
    split = made.split.model_copy(update={"unreadable": {evil: evil}})
    calm = {tag for tag, _ in page_of(record(), tmp_path / "calm")[0].tags}
    page, drawn = page_of(
        record(student=evil, teacher=evil, groups=groups, split=split, stopped=evil, id=evil, settings={evil: evil}),
        tmp_path,
    )
    assert drawn.html.read_text(encoding="utf-8").count("<script") == 2
    assert {tag for tag, _ in page.tags} <= calm


def test_the_page_with_an_alignment_can_be_read_without_eyes_or_mouse(tmp_path: Path) -> None:
    page, _ = page_of(record(), tmp_path)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(cell.get("scope") for cell in page.named("th"))
    assert len(page.named("table")) == len(page.named("caption"))


def test_the_record_reads_back_and_one_of_before_still_reads() -> None:
    made = record()
    assert AuditRecord.from_json(made.to_json()) == made
    raw = json.loads(small().to_json())
    del raw["alignment"], raw["data"]["confirmation_digest"]
    assert AuditRecord.from_json(json.dumps(raw)) == small()
    raw = json.loads(made.to_json())
    del raw["alignment"]["alpha"], raw["alignment"]["materiality"]  # as the first alignments were recorded
    found = AuditRecord.from_json(json.dumps(raw)).alignment
    assert found is not None and found.alpha is None


@needs_pango
def test_the_pdf_has_the_section_and_its_curves(tmp_path: Path) -> None:
    made = render(record(), {}, tmp_path)
    assert made.pdf is not None
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    command = ["pdftotext", "-layout", str(made.pdf), "-"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    pages = text.split("\f")
    found = re.search(r"Alignment ?\.+ *(\d+)", pages[1])  # the contents
    assert found and re.search(r"^ *\d+ +Alignment$", pages[int(found[1]) - 1], re.M)
    assert "the guard stops below" in text and "an aligned model" in pages[0]
