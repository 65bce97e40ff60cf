"""What the finishing step adds to the PDF, read back by walking its structure tree."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import page as page_validation
import pikepdf
import pytest

from koda.report import render, template_folder
from koda.report.pdf import write_pdf
from koda.report.pdf_finishing import finish
from tests.report import factory
from tests.report.factory_base import picture
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


@pytest.mark.parametrize("profile", ["ua1", "3a"])
def test_a_checker_of_both_standards_finds_nothing(pdf: Path, profile: str) -> None:
    result = page_validation.validate_pdf(str(pdf), profile=profile)
    assert result.rules.total > 100
    assert [(failure.rule_id, failure.message) for failure in result.failures] == []


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
        kinds: list[tuple[str, str]] = []
        for operands, operator in pikepdf.parse_content_stream(page):
            if str(operator) in ("BDC", "BMC"):
                assert not (open_marks and str(operands[0]) == "/Artifact"), "an artifact inside tagged content"
                open_marks.append(str(operands[0]))
                if str(operands[0]) == "/Artifact" and len(operands) > 1:
                    kinds.append((str(operands[1].Type), str(operands[1].Subtype)))
                elif str(operator) == "BDC":
                    seen.append(int(operands[1].MCID))
            elif str(operator) == "EMC":
                open_marks.pop()
            elif str(operator) == "TJ":
                assert open_marks
                texts_of_margins += open_marks[-1] == "/Artifact"
        assert sorted(seen) == sorted(held[page.objgen])
        assert texts_of_margins >= 2  # the running head and the number of the page
        assert {kind for kind, _ in kinds} == {"/Pagination"}
        assert {place for _, place in kinds} == ({"/Header", "/Footer"} if page.index else {"/Footer"})
        entries = above[int(page.StructParents)]
        assert {number for number, entry in enumerate(entries) if entry is not None} == set(seen)


def test_a_running_head_without_text_is_not_placed_by_the_text_of_another() -> None:
    dot = "data:image/jpeg;base64," + base64.b64encode(picture(1, (8, 8))).decode()
    style = f"@page {{ @top-left {{ content: url({dot}) }} @bottom-left {{ content: 'foot' }} }}"
    page = f'<html lang="en"><title>t</title><style>{style}</style><p>body</p></html>'
    drawn = write_pdf(page, template_folder() / "fonts", b"{}", small().ended)
    with pikepdf.open(io.BytesIO(drawn)) as document:
        marks = [operands for operands, _ in pikepdf.parse_content_stream(document.pages[0], "BDC")]
    margins = [mark[1] for mark in marks if mark[0] == "/Artifact" and mark[1].get("/Type") == "/Pagination"]
    assert [str(mark.get("/Subtype")) for mark in margins] == ["None", "/Footer"]


def test_content_is_painted_in_the_order_in_which_the_tree_reads_it(document: pikepdf.Pdf) -> None:
    read: dict[Any, list[int]] = {page.objgen: [] for page in document.pages}

    def follow(element: Any) -> None:
        kids = element.get("/K", [])
        for kid in kids if isinstance(kids, pikepdf.Array) else [kids]:
            if isinstance(kid, int):
                read[element.Pg.objgen].append(int(kid))
            elif "/S" in kid:
                follow(kid)

    follow(document.Root.StructTreeRoot.K[0])
    for number, page in enumerate(document.pages, 1):
        marks = [marked[0] for marked in pikepdf.parse_content_stream(page, "BDC")]
        painted = [int(operands[1].MCID) for operands in marks if str(operands[0]) != "/Artifact"]
        assert painted == read[page.objgen], f"page {number}"


def test_lists_hold_items_and_items_a_label_and_one_body(document: pikepdf.Pdf) -> None:
    kids: dict[str, list[list[str]]] = {"/L": [], "/LI": []}
    for element, _ in tree(document):
        if (kind := str(element.get("/S"))) in kids:
            inside = [element.K] if isinstance(element.K, pikepdf.Dictionary) else list(element.K)
            kids[kind].append([str(kid.S) for kid in inside])
            assert all(kid.P.objgen == element.objgen for kid in inside)
    assert {kind for inside in kids["/L"] for kind in inside} <= {"/LI", "/L"}
    assert {tuple(inside) for inside in kids["/LI"]} == {("/LBody",), ("/Lbl", "/LBody")}


def test_each_heading_that_a_cell_calls_by_its_name_is_listed(document: pikepdf.Pdf) -> None:
    names = list(document.Root.StructTreeRoot.IDTree.Names)
    listed = {bytes(name): element for name, element in zip(names[::2], names[1::2], strict=True)}
    assert list(listed) == sorted(listed) and len(listed) == len(names) / 2
    called = {
        bytes(name)
        for element, _ in tree(document)
        if element.get("/S") == "/TD"
        for name in element.A.get("/Headers", [])
    }
    assert called and called <= set(listed)
    assert {str(listed[name].S) for name in called} == {"/TH"}


def test_no_stream_ends_with_a_carriage_return(pdf: Path) -> None:
    assert b"\r\nendstream" not in pdf.read_bytes()
    data = bytes([12])  # whose checksum, which ends the compressed data, ends with 13
    compressed = zlib.compress(data)
    assert compressed.endswith(b"\r")
    with pikepdf.new() as made:
        made.add_blank_page()
        filtered = pikepdf.Stream(made, compressed, Filter=pikepdf.Name.FlateDecode)
        made.pages[0].obj.Contents = pikepdf.Array([made.make_indirect(filtered), pikepdf.Stream(made, data)])
        file = io.BytesIO()
        made.save(file)
    finished = finish(file.getvalue())
    assert b"\r\nendstream" in file.getvalue() and b"\r\nendstream" not in finished
    with pikepdf.open(io.BytesIO(finished)) as again:
        assert [stream.read_bytes() for stream in again.pages[0].obj.Contents] == [data, data]
        assert not again.check_pdf_syntax()


def test_no_table_of_objects_ends_with_a_carriage_return() -> None:
    ended = 0
    for length in range(600):  # each adds 97 to the checksum, so that it comes to end with 13
        with pikepdf.new() as made:
            made.add_blank_page()
            made.docinfo["/Title"] = "a" * length
            root = made.make_indirect(pikepdf.Dictionary(ParentTree=pikepdf.Dictionary(Nums=pikepdf.Array())))
            element = pikepdf.Dictionary(Type=pikepdf.Name.StructElem, S=pikepdf.Name.Document, P=root)
            root.K = made.make_indirect(element)
            made.Root.StructTreeRoot = root
            file = io.BytesIO()
            made.save(file)
        finished = finish(file.getvalue())
        assert b"\r\nendstream" not in finished
        with pikepdf.open(io.BytesIO(finished)) as again:
            assert again.docinfo["/Title"] == "a" * length
            ended += "/R" in again.Root.StructTreeRoot.K
    assert 0 < ended < 20


def test_the_file_says_what_drew_it(document: pikepdf.Pdf, pdf: Path) -> None:
    drawn_with = str(document.docinfo["/Producer"])
    names = [part.rsplit(" ", 1)[0] for part in drawn_with.split(", ")]
    assert names == ["WeasyPrint", "Pango", "HarfBuzz", "fontconfig", "fontTools", "pikepdf", "qpdf", "zlib"]
    assert f"pikepdf {pikepdf.__version__}, qpdf {pikepdf.__libqpdf_version__}" in drawn_with
    assert f'pdf:Producer="{drawn_with}"'.encode() in document.Root.Metadata.read_bytes()
    assert "drawn with" not in (pdf.parent / "report.html").read_text()  # no font and no Pango drew that
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", str(pdf), "-"], capture_output=True, text=True, check=True).stdout
        assert f"file was drawn with {drawn_with}" in " ".join(text.split())


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
