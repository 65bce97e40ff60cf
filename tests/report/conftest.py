"""One page and one PDF for all tests that only look at them."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.records import AuditRecord
from koda.report import render
from tests.report import factory
from tests.report.page import Page, page_of, small


@pytest.fixture(scope="session")
def full() -> AuditRecord:
    return factory.record(6, gallery=6, map_points=200)


@pytest.fixture(scope="session")
def page(full: AuditRecord, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(full, tmp_path_factory.mktemp("full"))[0]


@pytest.fixture(scope="session")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    record = small()
    made = render(record, factory.thumbnails(record), tmp_path_factory.mktemp("pdf"))
    assert made.pdf is not None
    return made.pdf
