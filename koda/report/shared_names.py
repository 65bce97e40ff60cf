"""What tells findings apart that share one name: two directions may be a contrast of the same two values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from koda.records import AuditRecord, Finding, LobeRecord, Subset
from koda.report import text
from koda.slicing.naming import DOMINANT, says_something

_Trait = tuple[str, str]  # which of the lobes has it ("" for both), and a metadata value or a word


def telling(record: AuditRecord, names: Mapping[Subset, str]) -> dict[Subset, str]:
    """Say of each finding that shares its name what the others of that name have not, "" of all others.

    That is a metadata value, or else a word, that dominates both lobes, or else one of them, and the same of no other
    finding of that name; where there is none, it is the sizes of the lobes, if these differ.

    Args:
        record: the audit.
        names: of its findings, as they are shown.
    """
    groups: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in record.findings:
        groups[finding.side, names[finding.subset]].append(finding)
    return {
        finding.subset: _telling(finding, [each for each in group if each is not finding], name)
        for (_, name), group in groups.items()
        for finding in group
    }


def _telling(finding: Finding, others: Sequence[Finding], name: str) -> str:
    if not others:
        return ""
    theirs = {trait for other in others for trait in _traits(other)}
    for place, value in _traits(finding):
        if (place, value) not in theirs and value.strip("“”") not in name:
            return f"{place}{value}"
    sizes = _sizes(finding)
    if sizes in map(_sizes, others) or all(str(size) in name for size in sizes):
        return ""  # the number in its heading tells it apart
    return f"lobes of {' and '.join(map(text.number, sizes))}"


def _sizes(finding: Finding) -> tuple[int, int]:
    return finding.positive.size, finding.negative.size


def _traits(finding: Finding) -> list[_Trait]:
    """Return what dominates the lobes: metadata values before words, those of both lobes before those of one."""
    traits: list[_Trait] = []
    for of in (_values, _words):
        first, second = list(of(finding.positive)), list(of(finding.negative))
        traits += [("", value) for value in first if value in second]
        traits += [("first lobe: ", value) for value in first] + [("counterpart: ", value) for value in second]
    return traits


def _values(lobe: LobeRecord) -> Iterable[str]:
    return (text.shorten(f"{item.column} = {item.value}", 60) for item in lobe.metadata if item.share_in >= DOMINANT)


def _words(lobe: LobeRecord) -> Iterable[str]:
    words = [word.text for word in lobe.words if word.share_in >= DOMINANT and says_something(word.text)]
    return (f"“{text.shorten(word, 40)}”" for word in words)
