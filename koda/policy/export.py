"""The verdict for machines: JUnit XML for what shows test results, and plain JSON for everything else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from koda.policy.units import unit_of
from koda.records import AuditRecord, RuleResult
from koda.units import limit_text, with_interval
from koda.wording import is_printable

VERDICT_VERSION = 1
_UNTESTED = "held-out test"


def verdict_json(record: AuditRecord) -> bytes:
    """Return the verdict with its rules and figures as JSON, and what it is of: models and data by digest."""
    models = {"baseline": record.baseline, "candidate": record.candidate}
    content = {
        "version": VERDICT_VERSION,
        "id": record.id,
        "title": record.title,
        "verdict": record.verdict.status,
        "reasons": record.verdict.reasons,
        "ended": record.ended.isoformat(),
        **{role: {"label": model.label, "fingerprint": model.fingerprint} for role, model in models.items()},
        "data": {"name": record.data.name, "digest": record.data.digest, "n_compared": record.data.n_compared},
        "policy_digest": record.verdict.policy_digest,
        "rules": [rule.model_dump(mode="json") for rule in record.verdict.rules],
    }
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def junit_xml(records: Sequence[AuditRecord], strict: bool = False, failed: Mapping[str, str] | None = None) -> bytes:
    """Return verdicts as JUnit XML: a test suite for each audit, a test case for each rule.

    A rule that fails is a failure; a waived one is skipped, with the reason, and so is an inconclusive one; a warning
    passes, and says so in its output. The format has no other result.

    Args:
        records: the audits.
        strict: whether an inconclusive rule is a failure too, as it is for the exit code then.
        failed: name -> reason of audits that could not be run; each is a suite with an error.
    """
    root = ET.Element("testsuites", {"name": "koda"})
    for record in records:
        _add_suite(root, record, strict)
    for name, reason in (failed or {}).items():
        suite = ET.SubElement(root, "testsuite", {"name": _clean(name), **_numbers(1, errors=1)})
        case = ET.SubElement(suite, "testcase", {"name": "audit", "classname": "koda.audit", "time": "0.000"})
        ET.SubElement(case, "error", {"message": _clean(reason), "type": "audit"}).text = _clean(reason)
    for count in ("tests", "failures", "errors"):
        root.set(count, str(sum(int(suite.get(count, "0")) for suite in root)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in root):.3f}")
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _numbers(tests: int, failures: int = 0, errors: int = 0, skipped: int = 0, seconds: float = 0.0) -> dict[str, str]:
    counts = {"tests": tests, "failures": failures, "errors": errors, "skipped": skipped}
    return {name: str(count) for name, count in counts.items()} | {"time": f"{seconds:.3f}"}


def _add_suite(root: ET.Element, record: AuditRecord, strict: bool) -> None:
    verdict, rules = record.verdict, record.verdict.rules
    counts = Counter(rule.result for rule in rules)
    # the verdict is then inconclusive by what no rule says: directions that could not be tested
    untested = verdict.status == "inconclusive" and not counts["inconclusive"]
    unclear = counts["inconclusive"] + untested
    numbers = _numbers(
        len(rules) + untested,
        failures=counts["fail"] + (unclear if strict else 0),
        skipped=counts["waived"] + (0 if strict else unclear),
        seconds=max(0.0, (record.ended - record.started).total_seconds()),
    )
    when = record.started.strftime("%Y-%m-%dT%H:%M:%S")
    suite = ET.SubElement(root, "testsuite", {"name": _clean(record.id), **numbers, "timestamp": when})
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("verdict", verdict.status),
        ("title", record.title),
        ("baseline", record.baseline.label),
        ("candidate", record.candidate.label),
        ("data", record.data.name),
        ("data_digest", record.data.digest),
        ("policy_digest", verdict.policy_digest or ""),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    seen: Counter[str] = Counter()
    for rule in rules:
        seen[rule.figure] += 1
        again = f" #{seen[rule.figure]}" if seen[rule.figure] > 1 else ""
        _add_case(suite, rule.figure + again, *_outcome(rule, strict), f"{rule.result}: {_figures(rule)}")
    if untested:
        _add_case(suite, _UNTESTED, "failure" if strict else "skipped", f"inconclusive: {verdict.reasons[0]}", "")
    ET.SubElement(suite, "system-out").text = _clean("\n".join(verdict.reasons))


def _outcome(rule: RuleResult, strict: bool) -> tuple[str | None, str]:
    """Return the element that says how a rule came out, if it needs one, and its message."""
    if rule.result == "fail":
        return "failure", _figures(rule)
    if rule.result == "inconclusive":
        return "failure" if strict else "skipped", f"inconclusive: {rule.note or _figures(rule)}"
    if rule.result == "waived" and rule.waiver is not None:
        waiver = rule.waiver
        return "skipped", f"waived by {waiver.person} until {waiver.expires} ({rule.waived}): {waiver.reason}"
    return None, ""


def _add_case(suite: ET.Element, name: str, element: str | None, message: str, output: str) -> None:
    case = ET.SubElement(suite, "testcase", {"name": _clean(name), "classname": "koda.policy", "time": "0.000"})
    if element == "failure":
        ET.SubElement(case, "failure", {"message": _clean(message), "type": "policy"}).text = _clean(message)
    elif element is not None:
        ET.SubElement(case, element, {"message": _clean(message)})
    if output:
        ET.SubElement(case, "system-out").text = _clean(output)


def _figures(rule: RuleResult) -> str:
    """Value, interval and limits of a rule, in one line."""
    seen = rule.observed
    unit = unit_of(rule.figure)
    text = f"{rule.figure} was not observed"
    if seen is not None:
        text = f"{rule.figure} = {with_interval(seen.value, seen.low, seen.high, seen.level, unit, rule.limits)}"
    limits = [
        f"{name} {rule.direction} {limit_text(limit, unit)}"
        for name, limit in (("warn", rule.warn), ("fail", rule.fail))
        if limit is not None
    ]
    decides = ", ".join(str(part) for part in (rule.finding, rule.detail) if part)
    text += f"; {', '.join(limits)}" + (f"; decided by {decides}" if decides else "")
    if rule.retests:
        text += f"; decided by the retest of {', '.join(str(retest.finding) for retest in rule.retests)}"
    return text + (f"; owner {rule.owner}" if rule.owner else "")


def _clean(text: str) -> str:
    """Replace what XML 1.0 cannot hold, even escaped, and the other control characters, as the report does."""
    return "".join(char if _allowed(ord(char)) and is_printable(char) else "\ufffd" for char in text)


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
