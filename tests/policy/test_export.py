"""The verdict for machines: JUnit XML by its schema, and JSON."""

from __future__ import annotations

import json
from datetime import date

from koda.policy.export import junit_xml, verdict_json
from koda.records import AuditRecord, Estimate, RuleResult, WaiverRecord
from tests.policy.junit import check_junit, check_suites
from tests.report.factory import record


def made(*rules: RuleResult, title: str = "t") -> AuditRecord:
    full = record(n_findings=1, map_points=0)
    return full.model_copy(
        update={"title": title, "verdict": full.verdict.model_copy(update={"rules": list(rules), "status": "fail"})}
    )


def rule(result: str, **changes: object) -> RuleResult:
    settings = {
        "figure": "lost.max_share",
        "observed": Estimate(value=0.0041, low=0.003, high=0.005, n=10),
        "warn": 0.001,
        "fail": 0.002,
        "direction": "above",
        "result": result,
    }
    return RuleResult.model_validate(settings | changes)


def test_a_figure_that_is_just_over_its_limit_does_not_read_as_the_limit() -> None:
    seen = {"figure": "retrieval.drop", "observed": Estimate(value=0.0204, low=0.0201, high=0.0207)}
    (case,) = check_junit(junit_xml([made(rule("fail", **seen, warn=0.0025, fail=0.02))])).iter("failure")
    text = "retrieval.drop = 2.04 points (95 % interval 2.01 to 2.07); warn above 0.25 points, fail above 2.0 points"
    assert case.text == text


WAIVER = WaiverRecord(person="Ada", reason="known", expires=date(2026, 12, 31), expired=False)


def test_every_result_has_its_place() -> None:
    suite = check_junit(
        junit_xml(
            [
                made(
                    rule("fail", finding="lost 1"),
                    rule("warn"),
                    rule("pass"),
                    rule("waived", waiver=WAIVER, waived="fail"),
                    rule("inconclusive", observed=None, note="the audit did not record it"),
                )
            ]
        )
    )
    failed, warned, passed, waived, unclear = suite.findall("testcase")
    message = failed.find("failure").get("message")  # type: ignore[union-attr]
    figure = "lost.max_share = 0.41 % (95 % interval 0.30 to 0.50 %)"
    assert message == f"{figure}; warn above 0.10 %, fail above 0.20 %; decided by lost 1"
    assert [child.tag for case in (warned, passed) for child in case] == ["system-out", "system-out"]
    assert str(warned.findtext("system-out")).startswith("warn: lost.max_share = 0.41 %")
    assert waived.find("skipped").get("message") == "waived by Ada until 2026-12-31 (fail): known"  # type: ignore[union-attr]
    assert "did not record it" in unclear.find("skipped").get("message", "")  # type: ignore[union-attr]


def test_hostile_text_is_escaped_and_what_xml_cannot_hold_is_replaced() -> None:
    evil = 'a"b<c>&d\x00\x1b\ud800\x9b\u202e]]>'
    suite = check_junit(junit_xml([made(rule("fail", owner=evil), title=evil)]))
    assert suite.find("properties/property[@name='title']").get("value") == 'a"b<c>&d�����]]>'  # type: ignore[union-attr]


def test_an_audit_without_rules_is_a_suite_without_cases() -> None:
    assert check_junit(junit_xml([made()])).findall("testcase") == []


def test_strict_makes_a_failure_of_what_is_inconclusive() -> None:
    record = made(rule("inconclusive"), rule("pass"), rule("waived", waiver=WAIVER, waived="warn"))
    counts = [(s.get("failures"), s.get("skipped")) for s in check_suites(junit_xml([record]))]
    assert counts == [("0", "2")]
    suite = check_junit(junit_xml([record], strict=True))
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")


def test_directions_that_could_not_be_tested_are_a_case_of_their_own() -> None:
    record = made(rule("pass"))
    unclear = {"status": "inconclusive", "reasons": ["2 directions could not be tested: too few samples."]}
    record = record.model_copy(update={"verdict": record.verdict.model_copy(update=unclear)})
    suite = check_junit(junit_xml([record]))
    assert [case.get("name") for case in suite.findall("testcase")] == ["lost.max_share", "held-out test"]
    assert "could not be tested" in suite.find("testcase/skipped").get("message", "")  # type: ignore[union-attr]
    assert check_junit(junit_xml([record], strict=True)).get("failures") == "1"


def test_several_audits_and_one_that_could_not_be_run() -> None:
    suites = check_suites(
        junit_xml([made(rule("fail")), made(rule("pass"))], failed={"b against a": "no model b\n  x"})
    )
    assert [(s.get("tests"), s.get("failures"), s.get("errors")) for s in suites] == [
        ("1", "1", "0"),
        ("1", "0", "0"),
        ("1", "0", "1"),
    ]
    assert suites[2].find("testcase/error").text == "no model b\n  x"  # type: ignore[union-attr]
    assert check_suites(junit_xml([])) == []


def test_the_json_holds_the_rules_with_their_figures() -> None:
    told = json.loads(verdict_json(made(rule("waived", waiver=WAIVER, waived="fail"))))
    assert (told["version"], told["verdict"], told["rules"][0]["figure"]) == (1, "fail", "lost.max_share")
    assert set(told["candidate"]) == {"label", "fingerprint"} and told["data"]["digest"]
    assert told["rules"][0]["observed"]["high"] == 0.005
    assert told["rules"][0]["waiver"]["expires"] == "2026-12-31"
