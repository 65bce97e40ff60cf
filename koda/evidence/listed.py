"""The files of an audit that tell again what its record says: `verdict.json` and `slices.csv`."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from koda.errors import reason_of
from koda.evidence.result import Evidence
from koda.policy.export import verdict_json
from koda.records import AuditRecord, SampleRecord
from koda.records.audit import RECORD_VERSION
from koda.slicing.export import original, table_rows
from koda.wording import is_printable, one_line, printable

VERDICT, SLICES = "verdict.json", "slices.csv"
_COLUMNS = ("side", "direction", "lobe", "rank", "key", "score", "caption")
_MOST_SHOWN = 200  # characters


def check_listed(folder: Path, record: AuditRecord) -> Iterator[Evidence]:
    """Compare verdict and slices of an audit with its record.

    Args:
        folder: of the audit.
        record: of the audit.
    """
    for name, what, problem in (
        (VERDICT, "all that it says, against the record", _verdict_problem),
        (SLICES, "samples of the slices against the record", _slices_problem),
    ):
        path = folder / name
        if not path.is_file():
            yield Evidence(name, what, "not verified", "there is no such file")
            continue
        try:
            found = problem(path, record)
        except OSError as error:
            found = f"it cannot be read: {reason_of(error)}"
        except (ValueError, RecursionError) as error:  # of texts and numbers in it; the message says of which
            found = f"it cannot be read: {error}"
        yield Evidence(name, what, "verified") if found is None else Evidence(name, what, "FAILED", found)


def _verdict_problem(path: Path, record: AuditRecord) -> str | None:
    try:
        raw = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except _TwiceError:
        raise
    except ValueError as error:
        raise ValueError("it holds no JSON") from error
    if not isinstance(raw, dict):
        raise ValueError("it holds no object of JSON")
    wanted = json.loads(verdict_json(record))
    if record.version != RECORD_VERSION:  # an older koda may have said less of each rule
        wanted = {name: wanted[name] for name in ("id", "verdict", "reasons")}
        raw = {name: value for name, value in raw.items() if name in wanted}
    for name, value in wanted.items():
        if name not in raw:
            return f"it has no {name}, and the record says {_shown(value)}"
        if json.dumps(raw[name], sort_keys=True) != json.dumps(value, sort_keys=True):  # by which NaN is NaN
            return f"its {name} is {_shown(raw[name])}, and the record says {_shown(value)}"
    if more := raw.keys() - wanted.keys():
        return f"it has a {one_line(min(more))}, of which the record says nothing"
    return None


def _slices_problem(path: Path, record: AuditRecord) -> str | None:
    """Look for every sample that the record shows, as many members as it counts, and the ranks in their order."""
    listed: dict[tuple[str, int, str], dict[str, _Row]] = {}
    counts: Counter[tuple[str, int, str]] = Counter()
    for where, row in _rows(path.read_bytes()):
        counts[where] += 1
        if row.rank != counts[where]:
            words = f"{where[0]} {where[1]}, {where[2]} lobe"
            return f"{words}: rank {row.rank} is where {counts[where]} is due: a row was taken out, put in or moved"
        listed.setdefault(where, {})[row.key] = row
    known = set()
    for finding in record.findings:
        for lobe in (finding.positive, finding.negative):
            place = (finding.side, finding.direction, lobe.sign)
            known.add(place)
            rows = listed.get(place, {})
            words = f"{finding.side} {finding.direction}, {lobe.sign} lobe"
            if sum(row.rank <= lobe.size for row in rows.values()) != lobe.size:
                return f"{words}: it does not list the {lobe.size} samples that the record counts"
            for sample in lobe.samples:
                found = rows.get(sample.key) or rows.get(printable(sample.key))
                if found is None:
                    return f"{words}: it lacks the sample {printable(sample.key)}, which the record shows"
                if (name := found.other(sample)) is not None:
                    return f"{words}: the {name} of the sample {printable(sample.key)} is not that of the record"
    if more := sorted(listed.keys() - known):
        return f"it lists {more[0][0]} {more[0][1]}, of which the record knows nothing"
    return None


@dataclass(frozen=True)
class _Row:
    """What the table says of a sample."""

    key: str
    rank: int
    score: str
    caption: str

    def other(self, sample: SampleRecord) -> str | None:
        """Name what the record says otherwise; None where they agree."""
        try:
            is_same = float(self.score) == sample.score or not math.isfinite(sample.score)
        except ValueError:
            is_same = False
        if not is_same:
            return "score"
        caption = sample.caption or ""
        # what the table spells out, it may spell otherwise than the record
        return None if self.caption == caption or not is_printable(caption) else "caption"


def _rows(data: bytes) -> Iterator[tuple[tuple[str, int, str], _Row]]:
    """Give side, direction and lobe of each row, and what it says.

    Raises:
        ValueError: it is no such table; the message says why.
    """
    try:
        reader = table_rows(data, strict=True)
        if lacking := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise ValueError(f"it has no column {', '.join(lacking)}")
        for row in reader:
            cells = [row[name] for name in _COLUMNS]
            if any(cell is None for cell in cells):
                raise ValueError(f"line {reader.line_num} has fewer cells than the first")
            side, direction, lobe, rank, key, score, caption = cells
            if not direction.isdecimal() or not rank.isdecimal():
                what = "direction" if not direction.isdecimal() else "rank"
                raise ValueError(f"the {what} in line {reader.line_num} is no number")
            yield (side, int(direction), lobe), _Row(original(key), int(rank), score, original(caption))
    except UnicodeDecodeError as error:
        raise ValueError("it is no text in UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error


class _TwiceError(ValueError):
    """A name that stands twice in an object, of which readers take the one or the other."""


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _TwiceError("a name stands twice in it")
    return made


def _shown(value: object) -> str:
    """Return a value of JSON as a message has it, cut where it is long."""
    text = one_line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
