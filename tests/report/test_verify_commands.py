"""The commands that the report prints to verify itself run as they are printed."""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from koda.audit.annotations import Statement, with_statement
from koda.report import render
from tests.report import factory
from tests.report.page import needs_pango, small


def test_the_printed_commands_name_every_file_that_is_there_and_no_other(tmp_path: Path) -> None:
    record = small()
    (tmp_path / "audit.json").write_text(record.to_json(), encoding="utf-8")
    said = with_statement(tmp_path, record, Statement("reviewed", "A. Reviewer"), datetime.now(UTC)).entries
    for spoken in ((), tuple(said)):
        made = render(record, factory.thumbnails(record), tmp_path / "drawn", pdf=False, annotations=spoken)
        printed = re.search(r"<pre>sha256sum (.*?)</pre>", made.html.read_text(encoding="utf-8"), re.S)
        names = ["audit.json", "report.html", "slices.csv", "verdict.json"]
        assert printed is not None and "pdfdetach" not in printed[1]
        assert printed[1].splitlines()[0].split() == (["annotations.json", *names] if spoken else names)


@needs_pango
@pytest.mark.skipif(shutil.which("pdfdetach") is None, reason="pdfdetach is not installed")
def test_the_printed_commands_run_and_give_the_digest_of_the_record(pdf: Path, tmp_path: Path) -> None:
    shutil.copytree(pdf.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "audit.json").write_text(small().to_json(), encoding="utf-8")
    for name in ("slices.csv", "verdict.json"):
        (tmp_path / name).write_text("", encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    printed = re.search(r"<pre>(sha256sum.*?)</pre>", page, re.S)
    assert printed is not None and '<a href="report.pdf">' in page
    assert "report.html report.pdf slices.csv" in printed[1]
    first, second, last = html.unescape(printed[1]).splitlines()
    digest = hashlib.sha256((tmp_path / "audit.json").read_bytes()).hexdigest()
    for command in (first, second):
        ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert ran.returncode == 0 and digest in ran.stdout, ran.stderr
    assert last == "koda verify ."
