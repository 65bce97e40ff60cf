"""The texts of an audit that koda did not write itself, by what they are: what a PDF has to have letters for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from koda.records import Annotation, AuditRecord
from koda.report import text
from koda.report.fonts import lacking

_LONGEST = 400  # characters of a text that a report on paper shows, what people said aside
_COMPARED = 24  # characters by which a text is found in the page


@dataclass(frozen=True)
class Kind:
    """What a text is, for messages."""

    one: str
    many: str


CAPTION = Kind("caption", "captions")
WORD = Kind("word", "words")
METADATA = Kind("metadata value", "metadata values")
CLASS = Kind("class name", "class names")
FINDING = Kind("name of a finding or theme", "names of findings or themes")
MODEL = Kind("line on the models", "lines on the models")
DATA = Kind("line on the data set", "lines on the data set")
PERSON = Kind("name of a person", "names of persons")
SAID = Kind("statement of a person", "statements of persons")
SETTING = Kind("line of the configuration", "lines of the configuration")
KINDS = (CAPTION, WORD, METADATA, CLASS, FINDING, MODEL, DATA, PERSON, SAID, SETTING)


def count_lacking(
    record: AuditRecord, annotations: Sequence[Annotation], page: str, covered: AbstractSet[int]
) -> dict[Kind, int]:
    """Count the texts on a page that hold a character that no font draws: captions by sample, others each once.

    Args:
        record: of the audit.
        annotations: what people said of it.
        page: the text of the page, without markup.
        covered: code points that the fonts draw.
    """
    captions = {
        (CAPTION, sample.caption, sample.key)
        for finding in record.findings
        for lobe in (finding.positive, finding.negative)
        for sample in lobe.samples
    }
    others = {(kind, said, "") for kind, said in _texts(record, annotations)}
    found: Counter[Kind] = Counter()
    for kind, said, _ in captions | others:
        if said is None or said.isascii():
            continue
        shown = text.shorten(said, len(said) if kind is SAID else _LONGEST)
        if lacking(shown, covered) and shown[:_COMPARED].rstrip("…") in page:
            found[kind] += 1
    return {kind: found[kind] for kind in KINDS if kind in found}


def _texts(record: AuditRecord, annotations: Sequence[Annotation]) -> Iterator[tuple[Kind, str | None]]:
    """Yield all texts that are no captions."""
    for finding in record.findings:
        yield FINDING, finding.name
        for lobe in (finding.positive, finding.negative):
            yield FINDING, lobe.name
            yield from ((WORD, word.text) for word in lobe.words)
            for value in lobe.metadata:
                yield from ((METADATA, value.column), (METADATA, value.value))
            for sample in lobe.samples:
                yield from ((METADATA, said) for said in _strings(sample.metadata))
    yield from ((FINDING, theme.name) for theme in record.themes)
    for measured in record.metrics.by_value:
        yield from ((METADATA, measured.column), (METADATA, measured.value))
    if zero_shot := record.metrics.zero_shot:
        yield from ((CLASS, name) for name in (*zero_shot.classes, *zero_shot.templates))
    for confusion in record.looks.confusions:
        yield from ((CLASS, name) for name in (*confusion.right, *confusion.chosen))
    for model in (record.baseline, record.candidate):
        yield from ((MODEL, said) for said in _strings(model.model_dump(mode="json")))
    yield DATA, record.title
    yield from ((DATA, said) for said in _strings(record.data.model_dump(mode="json")))
    for rule in record.verdict.rules:
        yield from ((PERSON, rule.owner), (SAID, rule.reason))
        if rule.waiver is not None:
            yield from ((PERSON, rule.waiver.person), (SAID, rule.waiver.reason))
    for entry in annotations:
        yield from ((PERSON, entry.who), (SAID, entry.text))
    yield from ((SETTING, said) for said in _strings(record.config))


def _strings(value: Any) -> Iterator[str]:
    """Yield all texts in nested settings, the names of the settings too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from (str(name), *_strings(inner))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
