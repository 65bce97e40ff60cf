from __future__ import annotations

import base64
import hashlib
import html as html_module
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from koda.errors import DataError, KodaError, PrerequisiteError
from koda.records import AuditRecord, Estimate, Metrics, Word
from koda.report import RenderedReport, render, template_folder, text
from koda.report.figures import changed
from koda.report.pdf import write_pdf
from tests.report import factory as factory

PACKAGE = Path(__file__).resolve().parents[2] / "koda"


def has_pango() -> bool:
    try:
        import weasyprint  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


needs_pango = pytest.mark.skipif(not has_pango(), reason="Pango is not installed")
FORBIDDEN = (
    r"\bbetter\b", r"\bsafer\b", r"\bfairer\b", r"\bunbiased\b", r"\bcomplian", r"\bcertif", r"\bprove[sdn]?\b",
    r"\bproof\b", r"explains? why", r"\bno differences?\b", r"\bworse\b", r"\bguarantee",
)  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "</style></script></title>{{ 7 * 7 }}{% raw %}",
    "a\x00b\x1b[31m\x07\x9f",
    "\u202egnitirw sdrawkcab\u2066 \u200f",
    "x" * 10_000,
    "日本語のキャプション",
    "صورة قطة على الطاولة",
    "चित्र में एक बिल्ली",
    "👩‍👩‍👧 family 🏳️‍🌈",
    "z" + "\u0301" * 300,
    "",
    None,
    "word " * 2_000,
    "\ufffe\uffff\U0010ffff",
    "\"' onmouseover='alert(1)' & &amp; &#60;script&#62;",
    "line\none\r\ttwo\u2028three",
    "file:///etc/passwd url(http://example.org/x.png)",
]


class Page(HTMLParser):
    """What the tests look at in an HTML file."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.content: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.content[self.inside[-1]] = self.content.get(self.inside[-1], "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def named(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


def page_of(
    record: AuditRecord, folder: Path, thumbnails: dict[str, bytes] | None = None
) -> tuple[Page, RenderedReport]:
    made = render(record, factory.thumbnails(record) if thumbnails is None else thumbnails, folder, pdf=False)
    return Page(made.html.read_text(encoding="utf-8")), made


def with_captions(record: AuditRecord, captions: list[str | None]) -> AuditRecord:
    """Give the samples of every gallery the captions, in turn."""

    def lobe(old: Any) -> Any:
        samples = [s.model_copy(update={"caption": captions[i % len(captions)]}) for i, s in enumerate(old.samples)]
        return old.model_copy(update={"samples": samples})

    findings = [
        f.model_copy(update={"positive": lobe(f.positive), "negative": lobe(f.negative)}) for f in record.findings
    ]
    return record.model_copy(update={"findings": findings})


def small(**changes: Any) -> AuditRecord:
    return factory.record(2, gallery=3, map_points=40, **changes)


@pytest.fixture(scope="module")
def full() -> AuditRecord:
    return factory.record(6, gallery=6, map_points=200)


@pytest.fixture(scope="module")
def page(full: AuditRecord, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(full, tmp_path_factory.mktemp("full"))[0]


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = small()
    made = render(record, factory.thumbnails(record), tmp_path_factory.mktemp("pdf"))
    assert made.pdf is not None
    return made.pdf


# The HTML file


def test_headings_go_down_one_level_at_a_time_and_sections_are_numbered(page: Page) -> None:
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    order = [
        "Policy",
        "What this report says",
        "Models",
        "Data",
        "Method",
        "Findings",
        "Maps",
        "Retrieval",
        "Provenance",
    ]
    places = [page.text.index(f"{number} {title}") for number, title in enumerate(order, 1)]
    assert places == sorted(places)


def test_everything_is_in_the_one_file(page: Page) -> None:
    for _, attributes in page.tags:
        for name in ("src", "href", "data", "action", "srcset", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/jpeg;base64,")), (name, value)
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
        assert "loading" not in attributes
    urls = re.findall(r"url\((.{12})", page.content["style"])
    assert urls and all(url.startswith("data:font") for url in urls)
    assert "@import" not in page.content["style"] and "http" not in page.content["script"]


def test_the_policy_of_the_page_allows_its_own_style_and_script_only(page: Page) -> None:
    policy = next(str(m["content"]) for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for part in ("style", "script"):
        hashed = base64.b64encode(hashlib.sha256(page.content[part].encode()).digest()).decode()
        assert f"{part}-src 'sha256-{hashed}'" in policy
    assert len(page.named("script")) == len(page.named("style")) == 1


def test_it_can_be_read_without_eyes_or_mouse(page: Page) -> None:
    assert page.named("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.named("img"))
    assert all(cell.get("scope") for cell in page.named("th"))
    assert len(page.named("table")) == len(page.named("caption"))
    ids = [str(a["id"]) for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in page.tags if tag in ("a", "use")]
    targets += [str(a[k]) for _, a in page.tags for k in ("aria-labelledby", "for", "data-copy") if k in a]
    assert targets and set(targets) <= set(ids)


def test_colours_have_contrast_in_light_and_dark() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def contrast(a: str, b: str) -> float:
        low, high = sorted((luminance(a), luminance(b)))
        return (high + 0.05) / (low + 0.05)

    for sheet in ("report.css", "screen.css"):
        block = re.search(r":root \{(.*?)\}", (template_folder() / sheet).read_text(), re.S)
        assert block
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block[1]))
        pairs = [(ink, paper) for ink in ("ink", "muted", "link") for paper in ("paper", "panel")]
        pairs += [(f"{k}-ink", f"{k}-bg") for k in ("pass", "warn", "fail", "inconclusive", "note", "quiet")]
        for ink, paper in pairs:
            assert contrast(colours[ink], colours[paper]) >= 4.5, (sheet, ink, paper)


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
    banner = page.text[page.text.index(status.upper()) :][:330]
    assert "0.19 % (95 % interval 0.12 to 0.26 %)" in banner and "n = 1 234" in banner and limit in banner


def test_a_rule_whose_figure_was_not_observed_is_said_so(tmp_path: Path) -> None:
    record = small()
    rule = record.verdict.rules[0].model_copy(update={"observed": None, "result": "inconclusive"})
    verdict = record.verdict.model_copy(update={"status": "inconclusive", "rules": [rule]})
    assert "was not observed" in page_of(record.model_copy(update={"verdict": verdict}), tmp_path)[0].text


def test_a_finding_says_value_interval_data_and_n(page: Page) -> None:
    assert "In data set street-pairs-2026 (n = 2 941, held out), the baseline (ViT-B-32 step 8000) ties" in page.text
    assert "as a group of 0.81 % (95 % interval 0.73 to 0.90 %) of the data would be" in page.text
    assert "the candidate (ViT-B-32 step 9000) does not: 0.052 %" in page.text
    assert page.text.index("Lost 1: purple against blue") < page.text.index("Gained 1: left of against right of")
    assert "Words were chosen by statistics, not by a person" in page.text


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


def test_full_set_against_found_subset_is_one_table(page: Page) -> None:
    """The paper's comparison: recall on both sets and cluster scores on the subset, a line a model."""
    text = page.text
    assert text.count("Full set against found subset, both models") == 1
    table = text[text.index("Full set against found subset, both models") :]
    lost, gained = table.index("Lost: 150 samples at the top of"), table.index("Gained: 150 samples at the top of")
    assert "of them confirmed" in table[lost:gained]
    baseline = "ViT-B-32 step 8000 63.0 [60.0, 66.0] 59.0 [56.0, 62.0] 61.0 [58.0, 64.0] 57.0 [54.0, 60.0] 4.0"
    assert f"{baseline} 0.83 0.84 0.73" in table[lost:gained]
    candidate = "ViT-B-32 step 9000 62.0 [59.0, 65.0] 43.0 [40.0, 46.0] 60.0 [57.0, 63.0] 41.0 [38.0, 44.0] 19.0"
    assert f"{candidate} 0.37 0.38 0.27" in table[lost:gained]
    gap = "candidate − baseline −1.0 [−4.0, +2.0] −16.0 [−19.0, −13.0] −1.0 [−4.0, +2.0] −16.0 [−19.0, −13.0] +15.0"
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
    assert ("Mean fall" in table) == (absent == "clusters")
    assert ("AMI" in table) == (absent == "retrieval")
    assert "Lost: 150 samples" in table and "Gained: 150 samples" in table


def test_the_words_of_a_heading_tell_the_lobes_apart(tmp_path: Path) -> None:
    """A word that both lobes have counts by how much commoner it is in one of them."""
    found = factory.finding(0)
    words = {
        "positive": [("purple", 0.56, 0.1), ("blue", 0.42, 0.11), ("at", 0.5, 0.38), ("hole on", 0.12, 0.07)],
        "negative": [("blue", 0.71, 0.1), ("hollow purple", 0.05, 0.001), ("purple", 0.28, 0.12), ("in", 0.3, 0.2)],
    }
    lobes = {
        sign: getattr(found, sign).model_copy(
            update={"words": [Word(text=t, z=5.0, share_in=p, share_out=q) for t, p, q in listed]}
        )
        for sign, listed in words.items()
    }
    record = small().model_copy(update={"findings": [found.model_copy(update=lobes)]})
    text = page_of(record, tmp_path)[0].text
    assert "Lost 1: purple against blue, hollow purple" in text


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
    for absent in ("Retrieval", "Spectra", "Maps", "samples of the slices"):
        assert absent not in page.text
    assert "Search captions" not in page.text


def test_the_card_shows_the_finding_that_the_policy_counts(tmp_path: Path) -> None:
    record = small()
    rule = record.verdict.rules[0].model_copy(update={"observed": record.findings[1].target_share})
    verdict = record.verdict.model_copy(update={"rules": [rule]})
    text = page_of(record.model_copy(update={"verdict": verdict}), tmp_path)[0].text
    assert "0.52 % largest share lost, held out" in text
    nothing = verdict.model_copy(update={"rules": [rule.model_copy(update={"observed": Estimate(value=0.0)})]})
    text = page_of(record.model_copy(update={"verdict": nothing}), tmp_path)[0].text
    assert "none no direction lost that counts of 2 found" in text


@pytest.mark.parametrize("count", [0, 6])
def test_it_claims_nothing_it_may_not(count: int, tmp_path: Path) -> None:
    text = page_of(factory.record(count, gallery=2, map_points=20), tmp_path)[0].text
    for pattern in FORBIDDEN:
        assert not re.search(pattern, text, re.I), pattern
    assert "it is not a conformity assessment" in text and "no measure of harm" in text


def test_each_picture_is_in_the_file_once(tmp_path: Path) -> None:
    record = small()
    again = record.findings[0].model_copy(update={"side": "gained"})
    record = record.model_copy(update={"findings": [record.findings[0], again]})
    page, made = page_of(record, tmp_path)
    data = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", made.html.read_text())
    assert len(data) == len(set(data)) == 6 and len(page.named("use")) == 12


@pytest.mark.parametrize("noise", [0.1, 0.6])
def test_twenty_findings_of_24_pictures_stay_under_5_mb(noise: float, tmp_path: Path) -> None:
    record = factory.record(20, gallery=12, map_points=2000)
    pictures = [factory.picture(-i - 1, (160, 160), noise=noise) for i in range(8)]
    keys = sorted({s.key for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples})
    _, made = page_of(record, tmp_path, {key: pictures[i % 8] for i, key in enumerate(keys)})
    assert len(keys) == 480 and sum(map(len, pictures)) / 8 > 5000
    assert made.html.stat().st_size < 5_000_000 and made.notes == []


def test_pictures_that_are_missing_or_broken_leave_a_frame_and_a_note(tmp_path: Path) -> None:
    record = small()
    thumbnails = factory.thumbnails(record)
    keys = list(thumbnails)
    del thumbnails[keys[0]]
    thumbnails |= {keys[1]: b"", keys[2]: b"<svg onload=alert(1)>", keys[3]: thumbnails[keys[3]][:600]}
    page, made = page_of(record, tmp_path, thumbnails)
    assert len(page.named("img")) == len(keys) - 4 and page.text.count("no picture") == 4
    assert made.notes[0].startswith("4 of 12") and made.notes[0].replace("\u00a0", " ") in page.text.replace(
        "\u00a0", " "
    )
    assert page_of(record, tmp_path, {})[1].notes[0].startswith("12 of 12")


def test_a_picture_in_another_format_is_encoded_again(tmp_path: Path) -> None:
    import io

    from PIL import Image

    record = small()
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(out, "PNG")
    _, made = page_of(record, tmp_path, {key: out.getvalue() for key in factory.thumbnails(record)})
    assert made.notes == [] and "base64,/9j/" in made.html.read_text()


# Hostile text


def test_no_caption_gets_out_of_its_place(tmp_path: Path) -> None:
    record = with_captions(factory.record(1, gallery=len(HOSTILE), map_points=0), HOSTILE)
    page, made = page_of(record, tmp_path)
    calm, _ = page_of(factory.record(1, gallery=len(HOSTILE), map_points=0), tmp_path / "calm")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in page.text and "{{ 7 * 7 }}" in page.text
    raw = made.html.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]", raw)
    assert "z" + "\u0301" * 5 not in raw and "x" * 401 not in raw and page.text.count("no caption") == 4 * 2
    assert len(raw) < 600_000


def test_every_other_text_of_the_record_is_as_harmless(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x00\u202e"
    record = with_captions(small(id=evil, title=evil), [evil])
    calm = [tag for tag, _ in page_of(small(), tmp_path / "calm")[0].tags]
    lobe = record.findings[0].positive
    words = [w.model_copy(update={"text": evil}) for w in lobe.words]
    samples = [s.model_copy(update={"key": f"{evil}{i}", "metadata": {evil: evil}}) for i, s in enumerate(lobe.samples)]
    changed = record.findings[0].model_copy(
        update={"positive": lobe.model_copy(update={"words": words, "samples": samples}), "status": evil}
    )
    record = record.model_copy(
        update={
            "findings": [changed, record.findings[1]],
            "baseline": record.baseline.model_copy(update={"label": evil, "preprocessing": {evil: [evil]}}),
            "data": record.data.model_copy(update={"name": evil, "path": evil}),
            "config": {evil: {"nested": evil}},
        }
    )
    page, made = page_of(record, tmp_path)
    assert page.tags and made.html.read_text().count("<script") == 1 and "\x00" not in made.html.read_text()
    assert {tag for tag, _ in page.tags} <= set(calm)


def test_figures_that_are_missing_or_not_finite_are_dashes(tmp_path: Path) -> None:
    record = small()
    nothing = Estimate(value=float("nan"), low=float("-inf"), high=float("inf"))
    changed = record.findings[0].model_copy(
        update={
            "target_share": nothing, "difference": Estimate(value=0.0), "p_value": None, "confirmed": None,
            "gap": float("inf"), "multiplier": 0.0, "similarity": {},
        }
    )  # fmt: skip
    page, _ = page_of(record.model_copy(update={"findings": [changed]}), tmp_path)
    assert "not tested" in page.text and not re.search(r"\b(nan|inf)\b", page.text)


def test_a_map_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    record = small()
    assert record.metrics.map is not None
    broken = record.metrics.map.model_copy(update={"group": [0]})
    with pytest.raises(DataError, match="map"):
        page_of(record.model_copy(update={"metrics": Metrics(map=broken)}), tmp_path)


# Files


def test_the_same_record_gives_the_same_html_and_leaves_nothing_else(tmp_path: Path) -> None:
    record = small()
    first = page_of(record, tmp_path)[1].html.read_bytes()
    assert page_of(record, tmp_path)[1].html.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    again = AuditRecord.from_json(record.to_json())
    assert page_of(again, tmp_path)[1].html.read_bytes() == first


def test_without_pango_the_html_comes_out_and_an_old_pdf_does_not_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.pdf").write_bytes(b"old")
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    made = render(small(), {}, tmp_path)
    assert made.html.is_file() and made.pdf is None and not (tmp_path / "report.pdf").exists()
    assert "libpango" in made.notes[-1]


def test_templates_are_found_in_an_installed_package(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "koda", ignore=shutil.ignore_patterns("__pycache__"))
    code = "import sys, koda.report as r; print(r.template_folder()); print({'torch', 'weasyprint'} & set(sys.modules))"

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "PrerequisiteError" in run().stderr  # neither in the package nor beside it
    shutil.copytree(template_folder(), tmp_path / "koda" / "_templates")
    assert run().stdout.split() == [str(tmp_path / "koda" / "_templates"), "set()"]


def test_missing_templates_are_a_prerequisite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("koda.report.environment.__file__", str(tmp_path / "koda" / "report" / "environment.py"))
    with pytest.raises(PrerequisiteError, match="pip install"):
        template_folder()


# The PDF


@needs_pango
def test_the_same_record_gives_the_same_pdf_in_a_fresh_process_of_another_place(pdf: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.report import factory as f; "
        "from koda.report import render; r = f.record(2, gallery=3, map_points=40); "
        "render(r, f.thumbnails(r), Path(sys.argv[1]))"
    )
    environment = {
        **os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "FONTCONFIG_FILE": "/nowhere.conf",
        "PYTHONPATH": str(PACKAGE.parent), "LC_ALL": "C",
    }  # fmt: skip
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "report.pdf").read_bytes() == pdf.read_bytes()


@needs_pango
def test_hostile_captions_make_a_pdf_and_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FONTCONFIG_FILE", "/their/own.conf")
    record = with_captions(factory.record(1, gallery=len(HOSTILE), map_points=0), HOSTILE)
    made = render(record, {}, tmp_path)
    assert made.pdf is not None and made.pdf.read_bytes().startswith(b"%PDF-1.7")
    # Japanese, Hindi, emoji, in both lobes: no font of the report has them. Arabic is drawn.
    assert any("lack characters of 6\u00a0captions" in note for note in made.notes)
    assert os.environ["FONTCONFIG_FILE"] == "/their/own.conf"
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", str(made.pdf), "-"], capture_output=True, text=True, check=True).stdout
        assert "□□□" in text and "lack characters of 6" in text


@needs_pango
@pytest.mark.parametrize("address", ["file:///etc/hostname", "http://127.0.0.1:9/x.css"])
def test_a_document_that_refers_outside_itself_is_refused(address: str) -> None:
    page = f'<html lang="en"><title>t</title><link rel="stylesheet" href="{address}"><p>x</p></html>'
    with pytest.raises(KodaError, match="outside"):
        write_pdf(page, template_folder() / "fonts", b"{}", factory.record(0, map_points=0).ended)


@needs_pango
def test_the_record_is_attached_unchanged(pdf: Path, tmp_path: Path) -> None:
    if not shutil.which("pdfdetach"):
        pytest.skip("pdfdetach is not installed")
    subprocess.run(["pdfdetach", "-saveall", "-o", str(tmp_path), str(pdf)], check=True)
    attached = (tmp_path / "audit.json").read_bytes()
    assert attached == small().to_json().encode()
    said = html_module.unescape((pdf.parent / "report.html").read_text()).replace("<wbr>", "")
    assert hashlib.sha256(attached).hexdigest() in said


@needs_pango
def test_the_pdf_is_tagged_dated_sound_and_holds_its_fonts(pdf: Path) -> None:
    if not all(map(shutil.which, ("pdfinfo", "pdffonts", "qpdf"))):
        pytest.skip("poppler-utils or qpdf is not installed")

    def said(*command: str) -> str:
        return subprocess.run(
            [*command, str(pdf)], capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC"}
        ).stdout

    info = said("pdfinfo")
    assert re.search(r"Tagged:\s+yes", info) and re.search(r"CreationDate:\s+Mon Nov 23 02:11:37 2026", info)
    assert "No syntax or stream encoding errors" in said("qpdf", "--check")
    fonts = said("pdffonts").splitlines()[2:]
    assert fonts and all(re.search(r"(Inter|DejaVu)", line) and re.search(r"yes yes yes", line) for line in fonts)


@needs_pango
def test_contents_have_page_numbers_and_pages_have_headers(pdf: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    text = subprocess.run(["pdftotext", "-layout", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    pages = text.split("\f")[:-1]
    for title in ("Findings", "Retrieval and zero-shot", "Provenance and how to verify"):
        found = re.search(rf"{title} ?\.+ *(\d+)", pages[0])
        assert found and re.search(rf"^ *\d +{title}$", pages[int(found[1]) - 1], re.M), title
    assert all(f"Page {number} of {len(pages)}" in page for number, page in enumerate(pages, 1))
    assert all("Model audit 2026-11-23" in page for page in pages)


@pytest.mark.parametrize(
    ("figure", "before", "after", "written"),
    [
        ("lost.max_share", 0.003286, 0.002936, ("largest share lost", "0.33 %", "0.29 %")),
        ("lost.found", 5, 3, ("number of directions lost", "5", "3")),
        ("baseline T2I R@1", 0.474, None, ("baseline text to image, R@1", "47.4 %", "–")),
        ("similarity.cka.image", 0.9381, 0.9, ("CKA of the image embeddings", "0.9381", "0.9")),
    ],
)
def test_a_figure_that_changed_is_written_in_its_own_unit(
    figure: str, before: float, after: float | None, written: tuple[str, str, str]
) -> None:
    assert tuple(part.replace("\u00a0", " ") for part in changed(figure, before, after)) == written


def test_shares_are_not_rounded_to_nothing_and_energies_are_in_one_unit() -> None:
    assert [text.rough(share).replace("\u00a0", " ") for share in (0.31, 0.004, 0.0, None)] == [
        "31 %",
        "< 0.5 %",
        "0 %",
        "–",
    ]
    assert [text.power(energy).replace("\u00a0", " ") for energy in (0.00325, 9.997e-4, 0.0)] == [
        "3.25 × 10⁻³", "1.00 × 10⁻³", "0",
    ]  # fmt: skip


def test_a_shortened_text_keeps_figures_and_units_together() -> None:
    assert text.shorten("[0.27, 0.38];  candidate: 0.10\u00a0%\n", 80) == "[0.27, 0.38]; candidate: 0.10\u00a0%"
