"""Whatever a parser is fed, it reads or refuses in words; `benchmarks/fuzz.py` does the same at length."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings

from tests.datasets.fuzzing import PARSERS, Parser


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_any_input_is_read_in_full_or_refused_in_words(parser: Parser) -> None:
    run = given(parser.inputs)(parser.run)
    settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))(run)()
