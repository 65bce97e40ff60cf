"""The HTML file: its structure, what it holds itself, who can read it, its size and its templates."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from koda.errors import PrerequisiteError
from koda.records import AuditRecord
from koda.report import render, template_folder
from tests.report import factory
from tests.report.page import PACKAGE, Page, page_of, small

BESIDE = ("report.pdf", "audit.json", "slices.csv", "verdict.json")  # links of the cover to files of its folder


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
            assert value is None or value in BESIDE or value.startswith(("#", "data:image/jpeg;base64,")), (name, value)
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
    assert [script.get("type") for script in page.named("script")] == ["application/json", None]
    assert len(page.named("style")) == 1


def test_it_can_be_read_without_eyes_or_mouse(page: Page) -> None:
    assert page.named("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in page.named("img"))
    assert all(cell.get("scope") for cell in page.named("th"))
    assert len(page.named("table")) == len(page.named("caption"))
    ids = [str(a["id"]) for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for tag, a in page.tags if tag in ("a", "use") and a["href"] not in BESIDE]
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


def test_each_picture_is_in_the_file_once(tmp_path: Path) -> None:
    record = small()
    again = record.findings[0].model_copy(update={"side": "gained"})
    record = record.model_copy(update={"findings": [record.findings[0], again]})
    page, made = page_of(record, tmp_path)
    data = re.findall(r"data:image/jpeg;base64,([\w+/=]+)", made.html.read_text())
    assert len(data) == len(set(data)) == 6 and len(page.named("use")) == 12 + 6


@pytest.mark.parametrize("noise", [0.1, 0.6])
def test_twenty_findings_of_24_pictures_stay_under_5_mb(noise: float, tmp_path: Path) -> None:
    record = factory.record(20, gallery=12, map_points=2000)
    pictures = [factory.picture(-i - 1, (160, 160), noise=noise) for i in range(8)]
    keys = sorted({s.key for f in record.findings for lobe in (f.positive, f.negative) for s in lobe.samples})
    _, made = page_of(record, tmp_path, {key: pictures[i % 8] for i, key in enumerate(keys)})
    assert len(keys) == 480 and sum(map(len, pictures)) / 8 > 5000
    assert made.html.stat().st_size < 5_000_000
    pages = list(tmp_path.glob("gallery-*.html"))
    assert (len(pages), len(made.notes)) == ((0, 0) if noise < 0.5 else (20, 1))


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
