"""P-values of a search that goes on in steps, adjusted for the number of its directions."""

from __future__ import annotations

from collections.abc import Sequence

from koda.statistics import holm

_FIRST_STEP = 0.8  # of the error rate, where there may be further steps
_BLOCKS = 3  # at most: more would leave each too little


def adjusted_p_values(sides: Sequence[Sequence[float | None]], step: int, most: int) -> list[list[float | None]]:
    """Return the p-values of the directions of all questions, adjusted together.

    Within a step of the search, which is ``step`` directions of each question, they are adjusted by Holm's rule, over
    the questions together. The first step has 80 % of the error rate, and all that may follow share the rest: an
    adjusted p-value is Holm's over the share of its step. Shares are set beforehand, so the chance of any false
    rejection stays under alpha however long the search goes on, and the leading directions hardly pay for the others.
    A search of one step alone is adjusted by Holm's rule and nothing else. Small steps are taken together, a third of
    all directions that there may be at least.

    Args:
        sides: the p-values of each question, the strongest direction first.
        step: directions of a step.
        most: directions of a question at most.

    Returns:
        As given; None stays None.

    Source: Holm (1979) within a step, Bonferroni over the steps.

    >>> adjusted_p_values([[0.01, 0.2], [0.02, None]], 2, 2)
    [[0.03, 0.2], [0.04, None]]
    """
    block = max(step, -(-most // _BLOCKS))
    steps = -(-most // block)
    later = (1 - _FIRST_STEP) / (steps - 1) if steps > 1 else 0.0
    adjusted: list[list[float | None]] = [[] for _ in sides]
    for number, start in enumerate(range(0, max(map(len, sides), default=0), block)):
        share = 1.0 if steps == 1 else _FIRST_STEP if number == 0 else later
        parts = [side[start : start + block] for side in sides]
        # of a block of several steps those that the search did not come to count as well: what it saw ended it
        missing = sum(max(0, min(block, most - start) - len(part)) for part in parts) if block > step else 0
        together = iter(holm([*(p for part in parts for p in part), *[1.0] * missing]))
        for part, into in zip(parts, adjusted, strict=True):
            for _ in part:
                p = next(together)
                into.append(None if p is None else min(1.0, p / share))
    return adjusted
