"""Texts in every script: counted where no font draws them, drawn whole and the right way where one does."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pikepdf
import pytest

from koda.records import Annotation, AuditRecord
from koda.report import RenderedReport, render
from koda.report.fonts import fontconfig
from koda.report.renderer import with_directions
from koda.report.svg import text_at
from tests.report import factory
from tests.report.page import needs_pango, with_captions
from tests.report.test_pdf import write_font

KNOWN = ["μια γάτα", "кошка на столе", "صورة قطة", "תמונה של חתול"]  # to koda's own fonts
UNKNOWN = ["एक बिल्ली", "แมวบนโต๊ะ", "一只猫", "cat 🐈"]
BASELINE, CANDIDATE = "קו בסיס", "नमूना"
SAID = Annotation(
    number=1, when=datetime(2026, 11, 24, tzinfo=UTC), what="note", who="李娜", text="看过了", previous="", digest=""
)


def in_many_scripts() -> AuditRecord:
    made = with_captions(factory.record(1, gallery=4, map_points=0), KNOWN)
    (found,), (other,) = made.findings, with_captions(made, UNKNOWN).findings
    sample = found.positive.samples[0].model_copy(update={"metadata": {"couleur": "สีแดง"}})
    word = found.positive.words[0].model_copy(update={"text": "बिल्ली"})
    positive = {"samples": [sample, *found.positive.samples[1:]], "words": [word, *found.positive.words[1:]]}
    finding = {
        "positive": found.positive.model_copy(update=positive), "negative": other.negative, "name": "लाल against blue",
        "target": BASELINE, "reference": CANDIDATE,
    }  # fmt: skip
    rule = made.verdict.rules[0].model_copy(update={"owner": "王芳"})
    return made.model_copy(
        update={
            "title": "एक audit",
            "findings": [found.model_copy(update=finding)],
            "baseline": made.baseline.model_copy(update={"label": BASELINE}),
            "candidate": made.candidate.model_copy(update={"label": CANDIDATE}),
            "data": made.data.model_copy(update={"name": "街景"}),
            "verdict": made.verdict.model_copy(update={"rules": [rule, *made.verdict.rules[1:]]}),
        }
    )


@pytest.fixture(scope="module")
def no_fonts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a fontconfig file of a machine without fonts."""
    folder = tmp_path_factory.mktemp("machine")
    (folder / "fonts.conf").write_text(fontconfig([folder / "none"], folder / "cache"))
    return str(folder / "fonts.conf")


@pytest.fixture(scope="module")
def spelled(no_fonts: str, tmp_path_factory: pytest.TempPathFactory) -> RenderedReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FONTCONFIG_FILE", no_fonts)
        return render(in_many_scripts(), {}, tmp_path_factory.mktemp("spelled"), annotations=[SAID])


def words_of(pdf: Path | None) -> str:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    text = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
    return " ".join(text.split())


@needs_pango
def test_all_texts_that_no_font_draws_are_counted_by_what_they_are(spelled: RenderedReport) -> None:
    (note,) = [note for note in spelled.notes if "No font on this machine draws" in note]
    for words in (
        "(Devanagari, Han, Thai, symbols)",
        "4 captions, 1 word, 1 metadata value, 1 name of a finding or theme, 1 line on the models, "
        "2 lines on the data set, 2 names of persons and 1 statement of a person shown",
        "apt-get install fonts-noto-cjk fonts-noto-core fonts-symbola",
        "report.fonts",
    ):
        assert words in note.replace("\u00a0", " ")


@needs_pango
def test_the_html_and_the_metadata_of_the_pdf_hold_the_texts_themselves(spelled: RenderedReport) -> None:
    page = spelled.html.read_text(encoding="utf-8")
    assert all(caption in page for caption in (*KNOWN, *UNKNOWN))
    assert spelled.pdf is not None
    with pikepdf.open(spelled.pdf) as document:
        assert document.docinfo["/Title"] == "एक audit"
    text = words_of(spelled.pdf)
    assert "[U+4E00 53EA 732B]" in text and "猫" not in text


@needs_pango
def test_hebrew_in_figures_and_tables_of_the_pdf_runs_from_right_to_left(spelled: RenderedReport) -> None:
    text = words_of(spelled.pdf)
    assert text.count(BASELINE) > 5 and BASELINE[::-1] not in text


def test_a_text_that_is_set_apart_says_its_direction_on_paper() -> None:
    said = '<bdi>red</bdi> <bdi dir="rtl">חתול = red</bdi> <bdi dir="rtl">3 = צבע</bdi>'
    assert with_directions(said.replace(' dir="rtl"', "")) == said


@needs_pango
def test_with_a_font_for_them_all_texts_are_drawn(
    no_fonts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FONTCONFIG_FILE", no_fonts)
    record = in_many_scripts()
    characters = {char for char in record.to_json() + SAID.text + SAID.who if ord(char) > 0x7E}
    write_font(tmp_path / "all.ttf", "All Scripts", "".join(sorted(characters)))
    asked = {**record.config, "report": {"fonts": [str(tmp_path / "all.ttf")]}}
    made = render(record.model_copy(update={"config": asked}), {}, tmp_path / "out", annotations=[SAID])
    (note,) = made.notes[1:]  # the first is on the pictures
    assert "(Devanagari, Han, Thai, symbols) with fonts that it was given: All Scripts." in note
    text = words_of(made.pdf)
    assert "U+" not in text and all(said in text for said in ("一只猫", "街景", "王芳", "看过了", "🐈"))


def test_a_text_of_a_figure_that_begins_from_the_right_keeps_its_place() -> None:
    assert 'text-anchor="start">' in text_at(5, 5, "a חתול")
    assert 'text-anchor="end" direction="rtl">' in text_at(5, 5, "חתול a")
    assert 'text-anchor="start" direction="rtl">' in text_at(5, 5, "صورة", anchor="end")
    assert 'text-anchor="middle" direction="rtl">' in text_at(5, 5, "صورة", anchor="middle")
