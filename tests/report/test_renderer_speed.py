"""What is worked out once while a PDF is drawn leaves the file as it is."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

import pydyf
import pytest
import tinyhtml5.inputstream

from koda.report import renderer, template_folder
from koda.report.pdf import write_pdf
from tests.report.page import needs_pango

PAGE = """<!DOCTYPE html><html lang="en"><head><title>A page</title><style>
@page { size: 60mm 70mm; margin: 8mm; @bottom-right { content: counter(page) " of " counter(pages) } }
body { font: 9pt Inter, "DejaVu Sans" } .even { text-align: justify } .one { white-space: nowrap; width: 10mm }
.spaced { letter-spacing: 1pt; word-spacing: 3pt } .cut { max-lines: 2; block-ellipsis: auto }
.dots { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
</style></head><body>
<h1>Shares of a <a href="#end">direction</a></h1>
<p class="even">The candidate ties these samples together as a group would be, and the baseline does not: each line ends
where the next word no longer fits, and <b>bold</b> or <i>other</i> words <u>begin</u> a text of their own.</p>
<p class="cut">This one is cut after its second line, so that its last words are never drawn at all on any page.</p>
<p class="dots">This one is cut at the end of its only line.</p><p class="one">It runs over its edge.</p>
<p class="spaced">Letters and words apart.</p><pre>a: 1
b:	2

c: a line that is far longer than the page is wide, unbroken</pre>
<p>Averyveryverylongwordthatnolinehasroomforatallanywhere</p>
<p dir="rtl">חתול אדום יושב על הגג ומביט בציפורים</p><p>12<span>34</span><br>56&#8232;78</p>
<table><thead><tr><th scope="col">Figure</th></tr></thead><tbody>
<tr><td>1</td></tr><tr><td>22</td></tr><tr><td>333</td></tr></tbody></table>
<svg width="90" height="20" viewBox="0 0 90 20"><title>A plot</title><text x="2" y="12">of a plot</text></svg>
<p id="end">The end.</p></body></html>"""


def drawn() -> bytes:
    return write_pdf(PAGE, template_folder() / "fonts", b"{}", datetime(2026, 1, 2, tzinfo=UTC))


@needs_pango
def test_a_pdf_is_the_same_bytes_as_one_that_is_drawn_without_the_shortcuts(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = drawn()
    monkeypatch.setattr(renderer, "shortcuts", nullcontext)
    assert quick == drawn()


@needs_pango
def test_the_shortcuts_are_taken_and_set_back() -> None:
    before = pydyf.PDF.page_references, tinyhtml5.inputstream.characters_until_regex
    with renderer.settings():
        stream = tinyhtml5.inputstream.HTMLInputStream("ab<")
        assert stream.chars_until("<&") == "ab"
        assert list(tinyhtml5.inputstream.characters_until_regex) == [("<&", False)]
        file = pydyf.PDF()
        file.add_page(pydyf.Dictionary())
        first = file.page_references
        assert file.page_references is first
        file.add_page(pydyf.Dictionary())
        assert file.page_references == (*first, b"4 0 R")
    assert (pydyf.PDF.page_references, tinyhtml5.inputstream.characters_until_regex) == before
