"""JUnit XML checked against its schema, and its counts against its cases."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

# the common JUnit schema: element -> (attributes it needs, attributes it may have, children in their order)
_COUNTS = {"tests", "failures", "errors", "time"}
SCHEMA: dict[str, tuple[set[str], set[str], list[str]]] = {
    "testsuites": (set(), {"name", "disabled", *_COUNTS}, ["testsuite"]),
    "testsuite": (
        {"name", "tests"},
        {"skipped", "disabled", "timestamp", "hostname", "id", "package", *_COUNTS},
        ["properties", "testcase", "system-out", "system-err"],
    ),
    "properties": (set(), set(), ["property"]),
    "property": ({"name", "value"}, set(), []),
    "testcase": (
        {"name"},
        {"classname", "time", "assertions", "status"},
        ["skipped", "error", "failure", "system-out"],
    ),
    "failure": (set(), {"message", "type"}, []),
    "error": (set(), {"message", "type"}, []),
    "skipped": (set(), {"message", "type"}, []),
    "system-out": (set(), set(), []),
}


_RESULTS = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def check_suites(text: bytes) -> list[ET.Element]:
    """Check JUnit XML against the schema, and its counts against its cases; return the suites."""
    root = ET.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        needed, optional, children = SCHEMA[element.tag]
        assert needed <= set(element.attrib) <= needed | optional, element.tag
        order = [children.index(child.tag) for child in element]  # an unknown child is an error
        assert order == sorted(order)
    for suite in root:
        cases = suite.findall("testcase")
        assert int(suite.get("tests", "")) == len(cases)
        for count, tag in _RESULTS.items():
            assert int(suite.get(count, "")) == len(suite.findall(f"testcase/{tag}"))
        assert all(sum(case.find(tag) is not None for tag in _RESULTS.values()) <= 1 for case in cases)
        assert len({case.get("name") for case in cases}) == len(cases)
        assert float(suite.get("time", "")) >= 0
        if "timestamp" in suite.attrib:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
    for count in ("tests", "failures", "errors"):
        assert int(root.get(count, "")) == sum(int(suite.get(count, "")) for suite in root)
    return list(root)


def check_junit(text: bytes) -> ET.Element:
    """Check the JUnit XML of one audit, and return its suite."""
    (suite,) = check_suites(text)
    return suite
