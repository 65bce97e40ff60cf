"""The files of an audit that tell again what its record says: `verdict.json` and `slices.csv`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.slicing.export import original
from koda.wording import printable

VERDICT, SLICES = "verdict.json", "slices.csv"


def check_listed(folder: Path, record: AuditRecord) -> Iterator[Evidence]:
    """Compare verdict and slices of an audit with its record.

    Args:
        folder: of the audit.
        record: of the audit.
    """
    for name, what, problem in (
        (VERDICT, "id, verdict and reasons against the record", _verdict_problem),
        (SLICES, "samples of the slices against the record", _slices_problem),
    ):
        path = folder / name
        if not path.is_file():
            yield Evidence(name, what, "not verified", "there is no such file")
            continue
        try:
            found = problem(path, record)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            found = f"it cannot be read: {type(error).__name__}: {error}"
        yield Evidence(name, what, "verified") if found is None else Evidence(name, what, "FAILED", found)


def _verdict_problem(path: Path, record: AuditRecord) -> str | None:
    raw = json.loads(path.read_bytes())
    wanted = {"id": record.id, "verdict": record.verdict.status, "reasons": list(record.verdict.reasons)}
    for name, value in wanted.items():
        if raw[name] != value:
            return f"its {name} is {printable(str(raw[name]))}, and the record says {printable(str(value))}"
    return None


def _slices_problem(path: Path, record: AuditRecord) -> str | None:
    """Look for every sample that the record shows, and for as many members as it counts."""
    listed: dict[tuple[str, int, str], dict[str, int]] = {}
    for row in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")):
        where = (row["side"], int(row["direction"]), row["lobe"])
        listed.setdefault(where, {})[original(row["key"])] = int(row["rank"])
    known = set()
    for finding in record.findings:
        for lobe in (finding.positive, finding.negative):
            place = (finding.side, finding.direction, lobe.sign)
            known.add(place)
            ranks = listed.get(place, {})
            words = f"{finding.side} {finding.direction}, {lobe.sign} lobe"
            if sum(rank <= lobe.size for rank in ranks.values()) != lobe.size:
                return f"{words}: it does not list the {lobe.size} samples that the record counts"
            for sample in lobe.samples:
                if printable(sample.key) not in ranks and sample.key not in ranks:
                    return f"{words}: it lacks the sample {printable(sample.key)}, which the record shows"
    if more := sorted(listed.keys() - known):
        return f"it lists {more[0][0]} {more[0][1]}, of which the record knows nothing"
    return None
