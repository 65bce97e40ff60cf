"""What the report says: verdicts, findings, figures and their limits, and nothing that it may not claim."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from koda.records import AuditRecord, Estimate, Finding, Metrics, RuleResult, Theme, Word
from tests.report import factory
from tests.report.page import FORBIDDEN, Page, page_of, small


@pytest.mark.parametrize("status", ["pass", "warn", "fail", "inconclusive"])
def test_the_verdict_has_a_symbol_a_word_and_a_sentence_with_value_limit_and_interval(
    status: str, tmp_path: Path
) -> None:
    record = small()
    observed = Estimate(value=0.0019, low=0.0012, high=0.0026, n=1234)
    rule = record.verdict.rules[0].model_copy(
        update={"result": status, "observed": observed, "warn": 0.001, "fail": 0.002}
    )
    verdict = record.verdict.model_copy(update={"status": status, "rules": [rule], "reasons": ["because."]})
    page, _ = page_of(record.model_copy(update={"verdict": verdict}), tmp_path)
    symbol = {"pass": "✓", "warn": "!", "fail": "✗", "inconclusive": "?"}[status]
    assert f"{symbol} {status.upper()}" in page.text
    limit = {"warn": "above the warn limit of 0.10 %", "fail": "above the fail limit of 0.20 %"}.get(status, "0.20 %")
    banner = page.text[page.text.index("Decided by.") :][:330]
    assert "0.19 % (95 % interval 0.12 to 0.26 %)" in banner and "n = 1 234" in banner and limit in banner


def test_the_ledger_accounts_for_every_row(page: Page) -> None:
    for line in (
        "rows in the source 7 000",
        "part of another row's sample: another caption of the same image 100",
        "not asked for by data.where 496",
        "beyond data.limit 504",
        "left out, since they cannot be used 17",
        "compared 5 883",
        "16 bit scaled 21",
        "its fields are separated by semicolons",
        "the image cannot be read 14 bad/0000.jpg : the image cannot be read: no such file or directory: data/bad/0000",
    ):
        assert line in page.text


def test_a_record_without_a_ledger_shows_what_it_has(tmp_path: Path) -> None:
    record = small()
    old = record.model_copy(update={"data": record.data.model_copy(update={"ledger": None})})
    text = page_of(old, tmp_path)[0].text
    assert "rows in the source 7 000" in text
    assert "What went in" not in text
    assert "the image cannot be read 14" in text


def test_a_rule_whose_figure_was_not_observed_is_said_so(tmp_path: Path) -> None:
    record = small()
    rule = record.verdict.rules[0].model_copy(update={"observed": None, "result": "inconclusive"})
    verdict = record.verdict.model_copy(update={"status": "inconclusive", "rules": [rule]})
    assert "was not observed" in page_of(record.model_copy(update={"verdict": verdict}), tmp_path)[0].text


def test_a_finding_says_value_interval_data_and_n(page: Page) -> None:
    assert "In data set street-pairs-2026 (n = 2 941, held out), the baseline (ViT-B-32 step 8000) ties" in page.text
    assert "as a group of 0.81 % (95 % interval 0.73 to 0.90 %) of the data would be" in page.text
    assert "the candidate (ViT-B-32 step 9000) does not: 0.052 %" in page.text
    neutral = "Gained 1: a group of 46 samples against one of 39"  # "left of" says nothing by itself
    assert page.text.index("Lost 1: purple against blue") < page.text.index(neutral)
    assert "Words were chosen by statistics, not by a person" in page.text


def test_a_model_whose_label_is_its_role_is_named_once(tmp_path: Path) -> None:
    record = factory.record(1, gallery=1, map_points=0)
    named = record.findings[0].model_copy(update={"target": "baseline", "reference": "candidate"})
    text = page_of(record.model_copy(update={"findings": [named]}), tmp_path)[0].text
    assert "held out), the baseline ties the samples" in text and "the candidate does not: 0.052 %" in text


def test_a_difference_that_is_not_confirmed_is_not_called_one(tmp_path: Path) -> None:
    record = small()
    weak = record.findings[0].model_copy(update={"confirmed": False, "p_value": 0.4})
    text = page_of(record.model_copy(update={"findings": [weak]}), tmp_path)[0].text
    assert "does not: 0.052" not in text and "not confirmed on held-out samples" in text and "○ not confirmed" in text


def test_the_figures_beside_the_findings_stand_in_their_tables(page: Page) -> None:
    text = page.text
    for caption in (
        "The models as a whole, beside the local findings",
        "Full set against found subset, both models",
        "Retrieval of both models: full set against found subsets",
        "Zero-shot accuracy of both models: full set against found subsets",
        "Quotient against q",
    ):
        assert caption in text
    assert "Such scores alone are no evidence" in text
    assert "candidate − baseline 46 −19.0 [−22.0, −16.0] −3.8 [−6.8, −0.8]" in text
    assert "candidate − baseline, on the rest 2 895 0.0 [−3.0, +3.0]" in text
    assert "lift 18.2 [13.1, 25.3]" in text
    assert text.count("Near-duplicates.") == 1 and "61 % of the members have a twin in this lobe" in text


def test_slices_without_a_clear_difference_are_folded_away_and_on_paper_counted(page: Page, pdf: Path) -> None:
    summary = "1 more set of slice members where the interval of each difference holds 0"
    table, _, folded = page.text.partition("Retrieval of both models:")[2].partition(summary)
    assert "lost 1, counterpart, held-out members" in table and "lost 2, first lobe" in table
    assert "lost 2, counterpart" not in table and "lost 2, counterpart, held-out members" in folded
    if shutil.which("pdftotext"):
        paper = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, check=True, text=True).stdout
        said = " ".join(paper.split())
        assert "On 1 more set of slice members the interval of each difference holds 0: its figures are in" in said
        assert "lost 2, first lobe" in said and "lost 2, counterpart, held-out" not in said


def test_full_set_against_found_subset_is_one_table(page: Page) -> None:
    """The paper's comparison: recall on both sets and cluster scores on the subset, a line a model."""
    text = page.text
    assert text.count("Full set against found subset, both models") == 1
    table = text[text.index("Full set against found subset, both models") :]
    lost, gained = table.index("Lost: 150 samples at the top of"), table.index("Gained: 150 samples at the top of")
    assert "of them confirmed" in table[lost:gained]
    baseline = "ViT-B-32 step 8000 63.0 [60.0, 66.0] 59.0 [56.0, 62.0] 61.0 [58.0, 64.0] 57.0 [54.0, 60.0] −4.0"
    assert f"{baseline} 0.83 0.84 0.73" in table[lost:gained]
    candidate = "ViT-B-32 step 9000 62.0 [59.0, 65.0] 43.0 [40.0, 46.0] 60.0 [57.0, 63.0] 41.0 [38.0, 44.0] −19.0"
    assert f"{candidate} 0.37 0.38 0.27" in table[lost:gained]
    gap = "candidate − baseline −1.0 [−4.0, +2.0] −16.0 [−19.0, −13.0] −1.0 [−4.0, +2.0] −16.0 [−19.0, −13.0] −15.0"
    assert f"{gap} – – –" in table[lost:gained]
    assert "ViT-B-32 step 8000 63.0 [60.0, 66.0]" in table[gained:]  # what was gained has the candidate as its target
    assert "0.37 0.38 0.27 ViT-B-32 step 9000" in table[gained:]
    assert "no label was used" in text and "Such scores alone are no evidence" in text


@pytest.mark.parametrize("absent", ["retrieval", "clusters"])
def test_what_was_not_measured_has_no_column(absent: str, tmp_path: Path) -> None:
    record = small()
    update = {absent: []} if absent == "clusters" else {"retrieval": [], "retrieval_differences": []}
    metrics = record.metrics.model_copy(update=update)
    text = page_of(record.model_copy(update={"metrics": metrics}), tmp_path)[0].text
    table = text[text.index("Full set against found subset, both models") :]
    table = table[
        : table.index("held-out test is the evidence") if absent == "retrieval" else table.index("Lost: tied")
    ]
    assert ("Found − full" in table) == (absent == "clusters")
    assert ("AMI" in table) == (absent == "retrieval")
    assert "Lost: 150 samples" in table and "Gained: 150 samples" in table


def test_the_words_of_a_heading_tell_the_lobes_apart(tmp_path: Path) -> None:
    """A word that both lobes have counts by how much commoner it is in one of them; one of a minority does not."""
    found = factory.finding(0)
    words = {
        "positive": [("purple", 0.66, 0.1), ("blue", 0.42, 0.11), ("at", 0.9, 0.38), ("hole on", 0.82, 0.07)],
        "negative": [("blue", 0.71, 0.1), ("hollow purple", 0.05, 0.001), ("purple", 0.28, 0.12), ("in", 0.8, 0.2)],
    }
    lobes = {
        sign: getattr(found, sign).model_copy(
            update={"words": [Word(text=t, z=5.0, share_in=p, share_out=q) for t, p, q in listed]}
        )
        for sign, listed in words.items()
    }
    record = small().model_copy(update={"findings": [found.model_copy(update=lobes)]})
    text = page_of(record, tmp_path)[0].text
    assert "Lost 1: purple against blue " in text and "purple against blue, " not in text


def test_a_finding_and_its_lobes_go_by_their_names(tmp_path: Path) -> None:
    found = factory.finding(0)
    named = found.model_copy(
        update={
            "name": "colour = purple against colour = blue",
            "positive": found.positive.model_copy(update={"name": "colour = purple (91 % of it, 18 times as common)"}),
        }
    )
    text = page_of(small().model_copy(update={"findings": [named]}), tmp_path)[0].text
    assert "Lost 1: colour = purple against colour = blue" in text
    assert "First lobe: colour = purple (91 % of it, 18 times as common); 46 samples" in text
    assert "Counterpart: 39 samples" in text


def test_the_cover_has_a_line_for_each_theme_with_its_directions(tmp_path: Path) -> None:
    record = factory.record(6, gallery=1, map_points=0)
    old = page_of(record, tmp_path / "old")[0].text
    assert "confirmed directions, lost / gained" in old
    lost = [finding.subset for finding in record.findings if finding.side == "lost"]
    theme = Theme(side="lost", number=1, findings=lost[:3], name="purple against blue", size=904, confirmed=True)
    page, _ = page_of(record.model_copy(update={"themes": [theme]}), tmp_path / "new")
    cover = page.text[: page.text.index("Contents")]
    assert "Lost: purple against blue ● confirmed share of Lost 1: 0.81 % [0.73, 0.90]" in cover
    assert "3 directions, 904 samples: Lost 1 , Lost 2 , Lost 3" in cover
    assert "1 / 0 confirmed themes, lost / gained" in cover
    assert {"#lost-1", "#lost-2", "#lost-3"} <= {attributes.get("href") for _, attributes in page.tags}


def test_the_cover_has_room_for_six_themes_and_counts_the_others(tmp_path: Path) -> None:
    record = factory.record(6, gallery=1, map_points=0)
    first = record.findings[0].subset
    themes = [Theme(side="lost", number=n, findings=[first], name=f"n{n}", size=9, confirmed=True) for n in range(1, 9)]
    page, _ = page_of(record.model_copy(update={"themes": themes}), tmp_path)
    cover = page.text[: page.text.index("Contents")]
    assert "Lost: n6 " in cover and "Lost: n7 " not in cover and "2 more themes: see section" in cover


def test_a_reference_that_ties_the_samples_too_is_not_said_not_to(tmp_path: Path) -> None:
    found = factory.finding(0)
    strong = found.reference_share.model_copy(update={"value": 0.0013, "low": 0.0009, "high": 0.0017})
    record = small().model_copy(update={"findings": [found.model_copy(update={"reference_share": strong})]})
    text = page_of(record, tmp_path)[0].text
    assert "under the candidate (ViT-B-32 step 9000) the figure is 0.13 %" in text
    assert "does not: 0.13 %" not in text
    assert "The difference is over the materiality of 0.10 % (p < 0.0001, one-sided, Holm)." in text


def test_a_model_without_zero_shot_is_named_with_the_reason(tmp_path: Path) -> None:
    record = small()
    found = record.metrics.zero_shot
    assert found is not None
    reason = {factory.CANDIDATE: "it has no text embeddings"}
    kept = [a for a in found.accuracies if a.role == "baseline"]
    found = found.model_copy(update={"unavailable": reason, "accuracies": kept, "differences": []})
    metrics = Metrics(zero_shot=found)
    text = page_of(record.model_copy(update={"metrics": metrics}), tmp_path)[0].text
    assert f"Not available for {factory.CANDIDATE}: it has no text embeddings." in text
    assert "Zero-shot accuracy of both models" in text and "Retrieval of both models" not in text


def test_a_record_of_before_the_figures_still_reads_and_renders(tmp_path: Path) -> None:
    raw = json.loads(small().to_json())
    for name in ("retrieval_differences", "zero_shot", "clusters", "quotients", "whole"):
        del raw["metrics"][name]
    raw["metrics"]["retrieval"] = [r for r in raw["metrics"]["retrieval"] if not r["subset"].startswith("found")]
    for finding in raw["findings"]:
        for lobe in (finding["positive"], finding["negative"]):
            del lobe["near_duplicates"]
            for entry in lobe["metadata"]:
                del entry["low"], entry["high"]
    old = AuditRecord.from_json(json.dumps(raw))
    text = page_of(old, tmp_path)[0].text
    assert "Retrieval of both models" in text and "lift 18.2" in text
    for absent in (
        "candidate − baseline",
        "Zero-shot accuracy",
        "found subset, both",
        "models as a whole",
        "against q",
    ):
        assert absent not in text


def test_no_findings_is_said_in_a_sentence_with_its_limits(tmp_path: Path) -> None:
    page, _ = page_of(factory.record(0, map_points=0, metrics=Metrics()), tmp_path)
    assert page.text.count("No direction over the limit was found with this search; others may exist.") == 2
    assert page.text.count("Retrieval") == 1  # of what the kernels do not see
    for absent in ("Spectra", "Maps", "samples of the slices"):
        assert absent not in page.text
    assert "Search captions" not in page.text


def test_a_card_is_of_confirmed_findings_and_says_what_the_policy_looks_at(tmp_path: Path) -> None:
    record = small()
    second = record.findings[1]
    rule = record.verdict.rules[0].model_copy(update={"observed": second.target_share, "finding": second.subset})

    def cover(findings: list[Finding], changed: RuleResult) -> str:
        verdict = record.verdict.model_copy(update={"rules": [changed]})
        text = page_of(record.model_copy(update={"verdict": verdict, "findings": findings}), tmp_path)[0].text
        return text[: text.index("Contents")]

    text = cover(record.findings, rule)
    assert "0.52 % largest confirmed share lost that counts, held out" in text
    assert "Lost 2; the candidate has" in text and "Lost 1 has 0.81 %, but of that the candidate has" in text
    text = cover(record.findings, record.verdict.rules[0])
    assert "0.81 % largest confirmed share lost, held out" in text and "that counts" not in text
    unconfirmed = [f.model_copy(update={"confirmed": False}) for f in record.findings]
    text = cover(unconfirmed, rule)
    assert "none largest confirmed share lost, held out" in text
    assert "of 2 directions (contrasts of two groups of samples) found none was confirmed" in text
    assert "0.81 %" not in text and "No loss over 0.10 % of the data was confirmed" in text
    untested = [f.model_copy(update={"confirmed": None, "p_value": None}) for f in record.findings]
    text = cover(untested, rule)
    assert "not tested largest confirmed share lost" in text
    assert "the policy looks at lost 2, which is not confirmed" in text
    nothing = rule.model_copy(update={"observed": Estimate(value=0.0), "finding": None})
    assert "the policy counts none" in cover(record.findings, nothing)


@pytest.mark.parametrize("ruled", [False, True])
def test_card_and_sentence_of_what_was_gained_give_one_figure_the_policys(ruled: bool, tmp_path: Path) -> None:
    record = small()
    first, second = (f.model_copy(update={"side": "gained"}) for f in record.findings[:2])
    half = first.reference_share.model_copy(update={"value": 0.7 * first.target_share.value})
    findings = [first.model_copy(update={"reference_share": half}), second]
    seen = {"figure": "gained.max_share", "observed": second.target_share, "finding": second.subset}
    rules = [record.verdict.rules[0].model_copy(update=seen)] if ruled else []
    verdict = record.verdict.model_copy(update={"rules": rules})
    record = record.model_copy(update={"verdict": verdict, "findings": findings, "themes": []})
    text = page_of(record, tmp_path)[0].text
    cover = text[: text.index("Contents")]
    assert "0.52 % largest confirmed share gained that counts, held out" in cover
    assert "by gained 2 the candidate keeps" in cover and "its share is 0.52 % [" in cover
    assert "Gained 1 has 0.81 %, but of that the baseline has 0.57 %" in cover


@pytest.mark.parametrize("count", [0, 6])
def test_it_claims_nothing_it_may_not(count: int, tmp_path: Path) -> None:
    text = page_of(factory.record(count, gallery=2, map_points=20), tmp_path)[0].text
    for pattern in FORBIDDEN:
        assert not re.search(pattern, text, re.I), pattern
    assert "it is not a conformity assessment" in text and "no measure of harm" in text


def test_the_file_that_the_weights_were_read_from_is_named(tmp_path: Path) -> None:
    record = small()
    candidate = record.candidate.model_copy(update={"weights_file": "epoch_10.pt [state_dict]"})
    assert "epoch_10.pt [state_dict]" in page_of(record.model_copy(update={"candidate": candidate}), tmp_path)[0].text
    assert "weights file" not in page_of(record, tmp_path)[0].text
