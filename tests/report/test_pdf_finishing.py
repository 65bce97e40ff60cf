"""What the finishing step adds to the PDF, read back by walking its structure tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pikepdf
import pytest

from koda.report import render
from koda.report.pdf_finishing import finish
from tests.report import factory
from tests.report.page import needs_pango, small

pytestmark = needs_pango


@pytest.fixture(scope="module")
def document(pdf: Path) -> Iterator[pikepdf.Pdf]:
    with pikepdf.open(pdf) as opened:
        yield opened


def walk(element: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield everything in the structure tree with the types of the elements above it."""
    if isinstance(element, pikepdf.Array):
        for kid in element:
            yield from walk(kid, above)
    elif isinstance(element, pikepdf.Dictionary):
        yield element, above
        if "/S" in element and "/K" in element:
            yield from walk(element.K, (*above, str(element.S)))


def tree(document: pikepdf.Pdf) -> list[tuple[Any, tuple[str, ...]]]:
    return list(walk(document.Root.StructTreeRoot.K))


def parents(document: pikepdf.Pdf) -> dict[int, Any]:
    numbers = document.Root.StructTreeRoot.ParentTree.Nums
    return {int(numbers[i]): numbers[i + 1] for i in range(0, len(numbers), 2)}


def test_each_table_heading_says_what_it_heads(document: pikepdf.Pdf) -> None:
    headings = [(element, above) for element, above in tree(document) if element.get("/S") == "/TH"]
    assert headings
    for element, above in headings:
        assert element.A.O == "/Table"
        assert element.A.Scope == ("/Column" if "/THead" in above else "/Row")
    assert {str(element.A.Scope) for element, _ in headings} == {"/Column", "/Row"}


def test_the_metadata_name_both_standards_and_keep_what_was_there(document: pikepdf.Pdf) -> None:
    with document.open_metadata(set_pikepdf_as_editor=False, update_docinfo=False) as said:
        assert (said["pdfuaid:part"], said["pdfaid:part"], said["pdfaid:conformance"]) == ("1", "3", "A")
        assert said["pdf:Producer"].startswith("WeasyPrint")
        assert said["xmp:ModifyDate"] == said["xmp:CreateDate"] == "2026-11-23T02:11:37Z"
    assert b"<pdfaSchema:prefix>pdfuaid</pdfaSchema:prefix>" in document.Root.Metadata.read_bytes()
    assert str(document.docinfo["/Producer"]).startswith("WeasyPrint")


def test_the_record_is_associated_once_and_unchanged(document: pikepdf.Pdf) -> None:
    (file,) = document.Root.AF
    assert file.AFRelationship == "/Source"
    assert document.attachments["audit.json"].get_file().read_bytes() == small().to_json().encode()


def test_marked_content_is_in_the_tree_or_an_artifact(document: pikepdf.Pdf) -> None:
    held: dict[Any, list[int]] = {page.objgen: [] for page in document.pages}
    for element, _ in tree(document):
        if element.get("/Type") == "/MCR":
            held[element.Pg.objgen].append(int(element.MCID))
        elif "/S" in element and isinstance(element.get("/K"), pikepdf.Array):
            marks = [int(kid) for kid in element.K if isinstance(kid, int)]
            if marks:
                held[element.Pg.objgen] += marks
    above = parents(document)
    for page in document.pages:
        open_marks: list[str] = []
        seen, texts_of_margins = [], 0
        for operands, operator in pikepdf.parse_content_stream(page):
            if str(operator) in ("BDC", "BMC"):
                assert not (open_marks and str(operands[0]) == "/Artifact"), "an artifact inside tagged content"
                open_marks.append(str(operands[0]))
                if str(operator) == "BDC":
                    seen.append(int(operands[1].MCID))
            elif str(operator) == "EMC":
                open_marks.pop()
            elif str(operator) == "TJ":
                assert open_marks
                texts_of_margins += open_marks[-1] == "/Artifact"
        assert sorted(seen) == sorted(held[page.objgen])
        assert texts_of_margins >= 2  # the running head and the number of the page
        entries = above[int(page.StructParents)]
        assert {number for number, entry in enumerate(entries) if entry is not None} == set(seen)


def test_each_link_hangs_on_a_link_element(document: pikepdf.Pdf) -> None:
    links = [(element, above[-1]) for element, above in tree(document) if element.get("/Type") == "/OBJR"]
    assert {kind for _, kind in links} == {"/Link"}
    annotations = sum(
        annotation.Subtype == "/Link" for page in document.pages for annotation in page.get("/Annots", [])
    )
    assert len(links) == annotations > 20
    above = parents(document)
    for element, _ in links:
        home = above[int(element.Obj.StructParent)]
        assert home.S == "/Link"
        assert any(isinstance(kid, pikepdf.Dictionary) and kid.objgen == element.objgen for kid in home.K)


def test_a_link_outside_any_link_element_gets_one_and_all_is_done_once(pdf: Path, tmp_path: Path) -> None:
    with pikepdf.open(pdf) as document:
        for element, _ in tree(document):
            if element.get("/S") == "/Link":
                element.S = pikepdf.Name.Span
        document.save(tmp_path / "spans.pdf")
    (tmp_path / "again.pdf").write_bytes(finish((tmp_path / "spans.pdf").read_bytes()))
    with pikepdf.open(tmp_path / "again.pdf") as document:
        assert {above[-1] for element, above in tree(document) if element.get("/Type") == "/OBJR"} == {"/Link"}
        assert document.Root.Metadata.read_bytes().count(b'pdfuaid:part="1"') == 1
        assert not document.check_pdf_syntax()


def test_the_file_is_sound_and_finishing_it_again_gives_the_same_bytes_each_time(
    document: pikepdf.Pdf, pdf: Path
) -> None:
    assert not document.check_pdf_syntax()
    assert finish(pdf.read_bytes()) == finish(pdf.read_bytes())


def test_the_bytes_do_not_depend_on_harfbuzz_having_a_subsetter(
    pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weasyprint.pdf import fonts

    here = object()  # a library whose use would raise
    monkeypatch.setattr(fonts, "harfbuzz_subset", here)
    record = small()
    made = render(record, factory.thumbnails(record), tmp_path)
    assert made.pdf is not None and made.pdf.read_bytes() == pdf.read_bytes()
    assert fonts.harfbuzz_subset is here
