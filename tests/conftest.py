"""Fixtures: small images and tables on disk, and a home of one's own for every test."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import prefect_server

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.pop("COLUMNS", None)  # which readline sets for the processes that pytest starts its workers in


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the long tests out, unless they are asked for: `make e2e`."""
    asked = any("e2e" in argument for argument in config.invocation_params.args)
    return True if collection_path.name == "e2e" and not asked else None


def pytest_configure(config: pytest.Config) -> None:
    prefect_server.choose()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Leave what was imported out of all collections of garbage to come: torch and Prefect are most of the heap."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()  # or pikepdf takes what is left at the end for leaks
    if not hasattr(config, "workerinput"):  # which the workers of pytest-xdist have
        prefect_server.stop()


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KODA_HOME", str(tmp_path / "koda-runs"))


@pytest.fixture
def pairs_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes n images and a table of captions, and gives the table's path."""

    def write(n: int = 8, rows: list[str] | None = None, name: str = "pairs.tsv", size: int = 12) -> Path:
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(0)
        for number in range(n):
            pixels = rng.integers(0, 255, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        if rows is None:
            colours = ["red" if i % 2 else "blue" for i in range(n)]
            rows = ["filepath\ttitle\tcolour"] + [f"{i:03d}.png\tcaption {i}\t{colours[i]}" for i in range(n)]
        (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")
        return folder / name

    return write
