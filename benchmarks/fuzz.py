"""Feed every parser of data sets inputs of every kind: valid ones, damaged ones, and plain noise.

    python benchmarks/fuzz.py
    python benchmarks/fuzz.py --inputs 1000 --only where

Of each input one of two things must come: a data set of which nothing is lost (pairs and rejections add up to the
rows of the source), or an error in words. Anything else, an input that takes longer than 20 seconds included, is
printed with the smallest input that shows it, and the exit code is 1. The strategies are those of
`tests/datasets/fuzzing.py`.
"""

from __future__ import annotations

import argparse
import faulthandler
import resource
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.datasets.fuzzing import PARSERS, Parser

LIMIT_S = 20


def fuzz(parser: Parser, n: int, start: int) -> tuple[int, float, str]:
    """Return the number of inputs, the longest time of one in seconds, and what went wrong."""
    count, longest = 0, 0.0

    def check(value: object) -> None:
        nonlocal count, longest
        count += 1
        began = time.perf_counter()
        faulthandler.dump_traceback_later(LIMIT_S, exit=True)
        try:
            parser.run(value)
        finally:
            faulthandler.cancel_dump_traceback_later()
            longest = max(longest, time.perf_counter() - began)

    run = seed(start)(given(parser.inputs)(check))
    options = settings(
        max_examples=n,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    try:
        options(run)()
    except Exception as error:
        notes = "\n".join(getattr(error, "__notes__", []))
        return count, longest, f"{type(error).__name__}: {error}\n{notes}"
    return count, longest, ""


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=10_000, help="for each parser")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", default="", help="part of a parser's name")
    given_options = options.parse_args()
    print(f"{'parser':<22}{'inputs':>8}{'failures':>10}{'longest (ms)':>14}{'total (s)':>11}")
    wrong = []
    for parser in PARSERS:
        if given_options.only.lower() not in parser.name.lower():
            continue
        began = time.perf_counter()
        count, longest, failure = fuzz(parser, given_options.inputs, given_options.seed)
        total = time.perf_counter() - began
        print(f"{parser.name:<22}{count:>8}{int(bool(failure)):>10}{longest * 1e3:>14.0f}{total:>11.1f}", flush=True)
        if failure:
            wrong.append(f"{parser.name}\n{failure}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    print(*wrong, sep="\n\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
