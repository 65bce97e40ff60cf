"""The verdict for machines: JUnit XML for what shows test results, and plain JSON for everything else."""

from __future__ import annotations

import json
from collections import Counter
from xml.etree import ElementTree as ET

from koda.record import AuditRecord, RuleResult


def verdict_json(record: AuditRecord) -> bytes:
    """Return the verdict with its rules and figures as JSON: id, verdict, reasons, rules."""
    told = {
        "id": record.id,
        "verdict": record.verdict.status,
        "reasons": record.verdict.reasons,
        "ended": record.ended.isoformat(),
        "policy_digest": record.verdict.policy_digest,
        "rules": [rule.model_dump(mode="json") for rule in record.verdict.rules],
    }
    return (json.dumps(told, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def junit_xml(record: AuditRecord) -> bytes:
    """Return the verdict as JUnit XML: a test suite for the audit, a test case for each rule.

    A rule that fails is a failure; an inconclusive or a waived one is skipped, with the reason; a warning passes,
    and says so in its output. The format has no other result.
    """
    rules = record.verdict.rules
    counts = Counter(rule.result for rule in rules)
    seconds = f"{max(0.0, (record.ended - record.started).total_seconds()):.3f}"
    numbers = {
        "tests": str(len(rules)),
        "failures": str(counts["fail"]),
        "errors": "0",
        "skipped": str(counts["inconclusive"] + counts["waived"]),
        "time": seconds,
    }
    root = ET.Element("testsuites", {"name": "koda", **{k: v for k, v in numbers.items() if k != "skipped"}})
    when = record.started.strftime("%Y-%m-%dT%H:%M:%S")
    suite = ET.SubElement(root, "testsuite", {"name": _clean(record.id), **numbers, "timestamp": when})
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("verdict", record.verdict.status),
        ("title", record.title),
        ("baseline", record.baseline.label),
        ("candidate", record.candidate.label),
        ("data", record.data.name),
        ("data_digest", record.data.digest),
        ("policy_digest", record.verdict.policy_digest or ""),
    ):
        ET.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    seen: Counter[str] = Counter()
    for rule in rules:
        seen[rule.figure] += 1
        again = f" #{seen[rule.figure]}" if seen[rule.figure] > 1 else ""
        _add_case(suite, rule, rule.figure + again)
    ET.SubElement(suite, "system-out").text = _clean("\n".join(record.verdict.reasons))
    ET.indent(root)
    text: str = ET.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _add_case(suite: ET.Element, rule: RuleResult, name: str) -> None:
    case = ET.SubElement(suite, "testcase", {"name": _clean(name), "classname": "koda.policy", "time": "0.000"})
    told = _clean(_figures(rule))
    if rule.result == "fail":
        ET.SubElement(case, "failure", {"message": told, "type": "policy"}).text = told
    elif rule.result == "inconclusive":
        ET.SubElement(case, "skipped", {"message": _clean(f"inconclusive: {rule.note or _figures(rule)}")})
    elif rule.result == "waived" and rule.waiver is not None:
        waiver = rule.waiver
        message = f"waived by {waiver.person} until {waiver.expires} ({rule.waived}): {waiver.reason}"
        ET.SubElement(case, "skipped", {"message": _clean(message)})
    ET.SubElement(case, "system-out").text = _clean(f"{rule.result}: {_figures(rule)}")


def _figures(rule: RuleResult) -> str:
    """Value, interval and limits of a rule, in one line."""
    seen = rule.observed
    text = f"{rule.figure} was not observed" if seen is None else f"{rule.figure} = {seen.value:.6g}"
    if seen is not None and seen.low is not None and seen.high is not None:
        text += f" ({100 * seen.level:g} % interval {seen.low:.6g} to {seen.high:.6g})"
    limits = [f"{name} {rule.direction} {limit:g}" for name, limit in _limits(rule) if limit is not None]
    text += f"; {', '.join(limits)}" + (f"; decided by {rule.finding}" if rule.finding else "")
    return text + (f"; owner {rule.owner}" if rule.owner else "")


def _limits(rule: RuleResult) -> list[tuple[str, float | None]]:
    return [("warn", rule.warn), ("fail", rule.fail)]


def _clean(text: str) -> str:
    """Replace what XML 1.0 cannot hold, even escaped."""
    return "".join(char if _allowed(ord(char)) else "\ufffd" for char in text)


def _allowed(code: int) -> bool:
    return code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD or code >= 0x10000
