"""The same table in each layout, read into memory and left on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from koda.embeddings import TableLike
from tests.embeddings.folders import KINDS, LAYOUTS


@pytest.fixture(params=LAYOUTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return LAYOUTS[request.param](tmp_path / "table")


@pytest.fixture(params=KINDS)
def table(request: pytest.FixtureRequest, folder: Path) -> TableLike:
    return KINDS[request.param](folder)
