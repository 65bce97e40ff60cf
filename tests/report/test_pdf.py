"""The PDF: the same bytes everywhere, sound, tagged, with the record attached and nothing from outside."""

from __future__ import annotations

import gc
import hashlib
import html as html_module
import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pikepdf
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen

from koda.errors import ConfigError, KodaError, PrerequisiteError
from koda.report import render, template_folder
from koda.report.fonts import fontconfig
from koda.report.pdf import write_pdf
from koda.report.renderer import settings
from koda.report.system_fonts import font_files, fonts_for
from tests.report import factory
from tests.report.page import HOSTILE, PACKAGE, needs_pango, small, with_captions


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
    # Japanese and Hindi, in both lobes: no font of the report has them. Arabic is drawn.
    (note,) = [note for note in made.notes if "No font on this machine draws" in note]
    assert re.search(r"\(Devanagari, Han, Hiragana, Katakana, symbols.*\) that stand in 6\u00a0captions shown", note)
    assert "fonts-noto-cjk" in note
    assert os.environ["FONTCONFIG_FILE"] == "/their/own.conf"
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", str(made.pdf), "-"], capture_output=True, text=True, check=True).stdout
        assert "□" not in text and "No font on this machine draws" in text
        assert "U+65E5 672C 8A9E 306E" in " ".join(text.split())  # the beginning of the Japanese caption


def write_font(path: Path, name: str, characters: str) -> None:
    """Write a font that draws each of some characters as a square."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((100, 700), (900, 700), (900, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    glyphs = [".notdef", *(f"u{ord(char):04X}" for char in characters)]
    builder = FontBuilder(1000)
    builder.setupGlyphOrder(glyphs)
    builder.setupCharacterMap({ord(char): f"u{ord(char):04X}" for char in characters})
    builder.setupGlyf(dict.fromkeys(glyphs, square))
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800)
    builder.setupPost()
    builder.save(path)


@needs_pango
def test_what_kodas_fonts_lack_is_drawn_with_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fonts").mkdir()
    write_font(tmp_path / "fonts/han.ttf", "Some Han", "红色")
    write_font(tmp_path / "fonts/more.ttf", "More Han", "红色猫")
    (tmp_path / "fonts.conf").write_text(fontconfig([tmp_path / "fonts"], tmp_path / "cache"))
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    assert fonts_for("红色猫狗") == (tmp_path / "fonts/more.ttf",)
    record = with_captions(factory.record(1, gallery=2, map_points=0), ["红色猫", "红狗"])
    record = record.model_copy(update={"title": "狗 & 猫"})
    made = render(record, factory.thumbnails(record), tmp_path / "out")
    assert made.pdf is not None
    with pikepdf.open(made.pdf) as document:  # no font is needed for what nobody draws
        assert document.docinfo["/Title"] == "狗 & 猫"
        assert document.open_metadata()["dc:title"] == "狗 & 猫"
        described = {
            str(entry.Alt) for entry in document.objects if isinstance(entry, pikepdf.Dictionary) and "/Alt" in entry
        }
        assert {"红色猫", "红狗"} <= described
    assert any(
        "draws 3\u00a0characters (Han) with fonts of the machine that made it: More Han" in n for n in made.notes
    )
    assert any("draws 1\u00a0character (Han)" in note and "[U+72D7]" in note for note in made.notes)
    if all(map(shutil.which, ("pdftotext", "pdffonts"))):
        commands = (["pdftotext", made.pdf, "-"], ["pdffonts", made.pdf])
        words, used = (subprocess.run(c, capture_output=True, text=True, check=True).stdout for c in commands)
        assert "红色猫" in words and "红[U+72D7]" in words and "[U+72D7] & 猫" in words and "More" in used


@needs_pango
def test_fonts_that_the_audit_was_given_come_before_those_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, name in (("machine", "Machine Han"), ("given", "Given Han")):
        (tmp_path / folder).mkdir()
        write_font(tmp_path / folder / "han.ttf", name, "红色猫" if folder == "machine" else "红色")
    (tmp_path / "fonts.conf").write_text(fontconfig([tmp_path / "machine"], tmp_path / "cache"))
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    given = font_files([tmp_path / "given"])
    assert fonts_for("红色", given) == (tmp_path / "given/han.ttf",)
    assert fonts_for("红色猫", given) == (tmp_path / "given/han.ttf", tmp_path / "machine/han.ttf")
    record = with_captions(factory.record(1, gallery=2, map_points=0), ["红色", "红"])
    asked = {**record.config, "report": {"fonts": [str(tmp_path / "given")]}}
    made = render(record.model_copy(update={"config": asked}), {}, tmp_path / "out")
    assert any("(Han) with fonts that it was given: Given Han." in note for note in made.notes)
    (tmp_path / "given/han.ttf").unlink()
    made = render(record.model_copy(update={"config": asked}), {}, tmp_path / "out")
    assert any("given has no font in it" in note for note in made.notes)
    assert any("of the machine that made it: Machine Han" in note for note in made.notes)


def test_what_is_no_font_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "text.ttf").write_text("no font")
    for given, words in (("nowhere.ttf", "is not there"), ("text.ttf", "cannot be read as a font")):
        with pytest.raises(ConfigError, match=words):
            font_files([tmp_path / given])


@needs_pango
@pytest.mark.parametrize("address", ["file:///etc/hostname", "http://127.0.0.1:9/x.css"])
def test_a_document_that_refers_outside_itself_is_refused(address: str) -> None:
    page = f'<html lang="en"><title>t</title><link rel="stylesheet" href="{address}"><p>x</p></html>'
    with pytest.raises(KodaError, match="outside"):
        write_pdf(page, template_folder() / "fonts", b"{}", factory.record(0, map_points=0).ended)


def drawing() -> list[object]:
    """Return all that koda sets while WeasyPrint draws, and whether Python collects cycles."""
    from weasyprint.pdf import fonts
    from weasyprint.svg import Node

    return [gc.isenabled(), fonts.harfbuzz_subset, fonts.TTFont, Node.text]


@needs_pango
def test_what_is_set_for_a_drawing_is_set_back_after_one_that_fails() -> None:
    before = drawing()
    with pytest.raises(KodaError, match="outside itself"):
        write_pdf(
            '<html lang="en"><link rel="stylesheet" href="file:///x.css"><p>x</html>',
            template_folder() / "fonts",
            b"{}",
            factory.record(0, map_points=0).ended,
        )
    assert drawing() == before and before[0]
    with settings():
        assert all(old != new for old, new in zip(before, drawing(), strict=True))


@needs_pango
def test_a_setting_that_another_version_of_weasyprint_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from weasyprint import svg
    from weasyprint.pdf import fonts

    for name in ("harfbuzz_subset", "TTFont"):
        monkeypatch.delattr(fonts, name)
    monkeypatch.delattr(svg, "Node")
    with settings():
        assert not hasattr(fonts, "TTFont") and not hasattr(svg, "Node") and not gc.isenabled()
    monkeypatch.setitem(sys.modules, "weasyprint.svg", None)
    with settings():
        assert not gc.isenabled()
    assert gc.isenabled()


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
        found = re.search(rf"{title} ?\.+ *(\d+)", pages[1])
        assert found and re.search(rf"^ *\d +{title}$", pages[int(found[1]) - 1], re.M), title
    assert all(f"Page {number} of {len(pages)}" in page for number, page in enumerate(pages, 1))
    assert "The candidate no longer keeps purple" in pages[0] and "Contents" not in pages[0]
    assert all("Model audit 2026-11-23" in page for page in pages)


def test_without_pango_it_is_said_and_nothing_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """WeasyPrint prints a banner where it cannot load a library, which would stand before an answer in JSON."""
    (tmp_path / "weasyprint").mkdir()
    (tmp_path / "weasyprint" / "__init__.py").write_text("print('a banner')\nraise OSError('cannot load library x')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "weasyprint", raising=False)
    with pytest.raises(PrerequisiteError, match="cannot load library x"):
        write_pdf("<p>a</p>", template_folder() / "fonts", b"{}", datetime(2026, 1, 1, tzinfo=UTC))
    assert capsys.readouterr().out == ""
