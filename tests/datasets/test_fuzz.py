"""Whatever a parser is fed, it reads or refuses in words.

`KODA_FUZZ_EXAMPLES=10000` feeds each so many inputs; `benchmarks/fuzz.py` does the same and times them.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings

from tests.datasets.fuzzing import PARSERS, Parser

EXAMPLES = int(os.environ.get("KODA_FUZZ_EXAMPLES", "80"))


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name)
def test_any_input_is_read_in_full_or_refused_in_words(parser: Parser) -> None:
    run = given(parser.inputs)(parser.run)
    settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))(run)()
