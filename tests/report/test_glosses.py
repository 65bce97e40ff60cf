"""The words of the first page that a newcomer does not know are explained where they first stand, and once."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from markupsafe import Markup

from koda.report.glosses import Glosses
from tests.report.page import Page, needs_pango

GLOSS = re.compile(r'<span class="gloss">\(([^<]*)\)</span>')


def test_each_word_has_its_gloss_at_its_first_use_alone() -> None:
    gloss = Glosses()
    first = str(gloss("zero-shot accuracy on 30 held-out pictures; R@1, R@5 or R@10 of either direction; 3 directions"))
    assert GLOSS.sub(r"[\1]", first) == (
        "zero-shot accuracy [class by its name alone] on 30 held-out pictures [unseen by the search]; "
        "R@1, R@5 or R@10 [own partner among the first 1, 5, 10] of either direction; "
        "3 directions [contrasts of two groups of samples]"
    )
    assert gloss("zero-shot, held out, R@1, 2 directions") == "zero-shot, held out, R@1, 2 directions"


def test_a_gloss_stands_behind_the_name_of_what_is_held_out_and_its_text_stays_text() -> None:
    gloss = Glosses()
    assert gloss("<b>held out") == '&lt;b&gt;held out <span class="gloss">(unseen by the search)</span>'
    assert Glosses()("R@1 <script>").endswith("(own partner ranked first)</span> &lt;script&gt;")


def test_names_of_the_data_tags_and_parts_of_words_have_no_gloss() -> None:
    named = Markup("<em><bdi>theme = top-1, R@5</bdi></em> at top-10 of anthems")
    assert Glosses()(named) == named
    said = Markup('{} and <b title="share lost">themes</b>').format(named)
    assert GLOSS.findall(str(Glosses()(said))) == ["differences that share samples"]
    assert str(Glosses()(said)).endswith(")</span></b>")


@pytest.mark.parametrize(
    "said",
    ["zero-shot", "held out", "R@1, R@5 or R@10", "top-1", "fall of recall", "share lost", "themes", "1 direction"],
)
def test_a_gloss_is_short(said: str) -> None:
    (words,) = GLOSS.findall(str(Glosses()(said)))
    assert 1 < len(words.split()) <= 8


def test_the_first_page_explains_the_words_that_it_uses(page: Page) -> None:
    cover = page.text[: page.text.index("Contents")]
    for word, plain in (
        ("zero-shot accuracy", "class by its name alone"),
        ("held-out", "unseen by the search"),
        ("directions", "contrasts of two groups of samples"),
    ):
        assert cover.count(plain) == 1 and cover.index(word) < cover.index(plain)
    assert "ties" not in cover and "as alike as a tight group of" in cover


@needs_pango
def test_the_first_page_of_the_pdf_holds_all_of_the_cover(pdf: Path) -> None:
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not installed")
    command = ["pdftotext", "-l", "2", str(pdf), "-"]
    first, second, *_ = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\f")
    assert "Data digest" in first and "its digest is in section" in first
    assert "Contents" in second and "Data digest" not in second
