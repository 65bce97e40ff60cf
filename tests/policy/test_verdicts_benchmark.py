"""The benchmark of verdicts counts as right what its cases say is right."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.verdict_table import is_right, table


@pytest.mark.parametrize(
    ("right", "statuses"),
    [
        ("fail", {"fail"}),
        ("not fail", {"pass", "warn", "inconclusive"}),
        ("not pass", {"fail", "warn", "inconclusive"}),
    ],
)
def test_a_verdict_is_right_by_what_is_known_of_the_candidate(right: str, statuses: set[str]) -> None:
    assert {status for status in ("pass", "warn", "inconclusive", "fail") if is_right(right, status)} == statuses


def result(status: str, right: bool) -> dict[str, Any]:
    recall = {role: {"R@1": value, "R@10": 1.0} for role, value in (("baseline", 0.5), ("candidate", 0.25))}
    rule = {"figure": "lost.max_share", "result": status, "observed": 0.0123, "finding": "lost 2"}
    reasons = ["Every rule of the policy is met."]
    return {
        "status": status,
        "right": right,
        "reasons": reasons,
        "rules": [rule],
        "recall": recall,
        "zero_shot": {},
        "seconds": 2.0,
    }


def test_a_candidate_that_turns_out_no_worse_is_not_counted() -> None:
    results = {"folders": {"worse": [result("fail", True), result("pass", False)], "alike": [result("pass", False)]}}
    what = {
        "drop": {"worse": (-0.2, -0.3, -0.1), "alike": (-0.1, -0.3, 0.1)},
        "software": {},
        "training_seconds": {"a": 3.0},
        "date": "2026-01-01",
        "jobs": 1,
        "load": 0.5,
        "subsamples": [0, 1],
        "pairs": 20,
        "pool": 40,
        "seconds": 4,
    }
    told = table(results, {"worse": "not pass", "alike": "not pass"}, what)
    assert "1 of 2 verdicts are right (50%" in told
    assert (
        "| worse | never PASS | -0.200 [-0.300, -0.100] | 0.500 → 0.250 | 1.000 → 1.000 | FAIL PASS | 1 of 2 |" in told
    )
    assert "alike | not worse, not counted" in told
    assert "FAIL (lost.max_share 0.0123, lost 2); PASS (Every rule of the policy is met.)" in told
