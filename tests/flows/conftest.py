"""The tests of the flows share one Prefect server."""

from __future__ import annotations

import pytest

from tests import prefect_server


@pytest.fixture(scope="session", autouse=True)
def _prefect() -> None:
    prefect_server.start()
