"""Hostile text, pictures that are missing or broken, figures that are not finite: the page stands all of them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image

from koda.errors import DataError
from koda.records import Estimate, Metrics, Theme
from koda.report.plots import line_plot
from tests.report import factory
from tests.report.page import HOSTILE, page_of, small, with_captions


def test_pictures_that_are_missing_or_broken_leave_a_frame_and_a_note(tmp_path: Path) -> None:
    record = small()
    thumbnails = factory.thumbnails(record)
    keys = list(thumbnails)
    del thumbnails[keys[0]]
    thumbnails |= {keys[1]: b"", keys[2]: b"<svg onload=alert(1)>", keys[3]: thumbnails[keys[3]][:600]}
    page, made = page_of(record, tmp_path, thumbnails)
    on_the_cover = 6  # of them three without a first picture of the lobe and one of the other
    assert len(page.named("img", "use")) == len(keys) - 4 + on_the_cover - 4
    assert page.text.count("no picture") == 4 + 4
    assert made.notes[0].startswith("4 of 12") and made.notes[0].replace("\u00a0", " ") in page.text.replace(
        "\u00a0", " "
    )
    assert page_of(record, tmp_path, {})[1].notes[0].startswith("12 of 12")


def test_a_picture_in_another_format_is_encoded_again(tmp_path: Path) -> None:
    record = small()
    out = io.BytesIO()
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(out, "PNG")
    _, made = page_of(record, tmp_path, {key: out.getvalue() for key in factory.thumbnails(record)})
    assert made.notes == [] and "base64,/9j/" in made.html.read_text()


def test_a_thumbnail_that_is_a_program_is_no_picture(tmp_path: Path) -> None:
    record = small()
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "EPS")
    _, made = page_of(record, tmp_path, {key: out.getvalue() for key in factory.thumbnails(record)})
    assert made.notes[0].startswith("12 of 12")


def test_no_caption_gets_out_of_its_place(tmp_path: Path) -> None:
    record = with_captions(factory.record(1, gallery=len(HOSTILE), map_points=0), HOSTILE)
    page, made = page_of(record, tmp_path)
    calm, _ = page_of(factory.record(1, gallery=len(HOSTILE), map_points=0), tmp_path / "calm")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert "<script>alert(1)</script><img src=x onerror=alert(1)>" in page.text and "{{ 7 * 7 }}" in page.text
    raw = made.html.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffe\uffff]", raw)
    assert "z" + "\u0301" * 5 not in raw and "x" * 1001 not in raw
    assert page.text[page.text.index("Contents") :].count("no caption") == 4 * 2
    assert len(raw) < 600_000


def test_every_other_text_of_the_record_is_as_harmless(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\x00\u202e"
    record = with_captions(small(id=evil, title=evil), [evil])
    calm = [tag for tag, _ in page_of(small(), tmp_path / "calm")[0].tags]
    lobe = record.findings[0].positive
    words = [w.model_copy(update={"text": evil}) for w in lobe.words]
    samples = [s.model_copy(update={"key": f"{evil}{i}", "metadata": {evil: evil}}) for i, s in enumerate(lobe.samples)]
    changed = record.findings[0].model_copy(
        update={
            "positive": lobe.model_copy(update={"words": words, "samples": samples, "name": evil}),
            "status": evil,
            "name": evil,
        }
    )
    record = record.model_copy(
        update={
            "findings": [changed, record.findings[1]],
            "themes": [Theme(side="lost", number=1, findings=[changed.subset], name=evil, size=1, confirmed=True)],
            "baseline": record.baseline.model_copy(update={"label": evil, "preprocessing": {evil: [evil]}}),
            "data": record.data.model_copy(update={"name": evil, "path": evil}),
            "config": {evil: {"nested": evil}},
        }
    )
    page, made = page_of(record, tmp_path)
    assert page.tags and made.html.read_text().count("<script") == 2 and "\x00" not in made.html.read_text()
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


def test_names_in_drawings_hold_no_control_characters() -> None:
    drawn = str(line_plot(factory.record(1).metrics.spectra, title="a\x1b[2J\x9b\u202eb", x_axis="n", y_axis="\x00"))
    assert "a\ufffd[2J\ufffd\ufffdb" in drawn
