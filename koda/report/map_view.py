"""Both maps of the same samples, and what the script of the HTML report knows of samples: pictures, neighbours, places.

The data go into the page as JSON. A sample is named by its place in one list of keys, so that no text is there twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from koda.errors import DataError
from koda.records import AuditRecord, MapRecord, SampleNeighbours
from koda.report import text
from koda.report.map_plot import map_plot, place
from koda.report.thumbnails import Gallery
from koda.report.view import FindingView, anchor, numbered

_CAPTION = 400  # characters of what a map or a neighbour list says of a sample
_ROLES = ("baseline", "candidate")


@dataclass(frozen=True)
class MapView:
    """The two maps as drawings, and the groups that they mark."""

    baseline: Markup
    candidate: Markup
    legend: list[tuple[int, str, str]]
    n: int


def maps(record: AuditRecord) -> MapView | None:
    """Draw the map of both models.

    Raises:
        DataError: its keys, groups and points differ in number.
    """
    points = _points(record)
    if points is None:
        return None
    names = [(anchor(f.subset), numbered(f.subset)) for f in record.findings]

    def named(group: int) -> tuple[int, str, str]:
        place, name = names[abs(group) - 1] if abs(group) <= len(names) else ("", f"finding {abs(group)}")
        return group, f"{name}, {'first lobe' if group > 0 else 'counterpart'}", place

    return MapView(
        baseline=map_plot(points.baseline, points.group, title="Map of the samples under the baseline"),
        candidate=map_plot(points.candidate, points.group, title="Map of the same samples under the candidate"),
        legend=[named(g) for g in sorted(set(points.group), key=lambda g: (abs(g), -g)) if g],
        n=len(points.keys),
    )


def data(record: AuditRecord, findings: Sequence[FindingView], pictures: Gallery) -> Markup:
    """Return what the script knows as JSON that is harmless inside a script element."""
    points = _points(record)
    shown = {s.key: (s.caption, s.metadata) for v in findings for lobe in v.lobes for s in lobe.lobe.samples}
    known = {key: (sample.caption, sample.metadata) for key, sample in record.looks.samples.items()} | shown
    near = {entry.key: entry for entry in record.looks.neighbours}
    keys = known_keys(record, shown)
    at = {key: number for number, key in enumerate(keys)}
    made: dict[str, Any] = {
        "keys": [text.clean(key) for key in keys],
        "captions": [text.shorten(known.get(key, ("", {}))[0], _CAPTION) for key in keys],
        "meta": [text.shorten(text.settings(m), 300) if (m := known.get(key, ("", {}))[1]) else "" for key in keys],
        "near": {str(at[key]): _near(entry, at) for key, entry in near.items() if key in at},
        "pictures": {str(at[key]): jpeg for key, jpeg in pictures.neighbours.items() if key in at},
        "models": {role: text.shorten(getattr(record, role).label, 80) for role in _ROLES},
    }
    matrices = [matrix for view in findings for lobe in view.lobes for matrix in lobe.confusions]
    cells = [cell for matrix in matrices for _, row in matrix.rows for cell in row]
    if known_cells := {cell.id: [at[k] for k in cell.keys if k in at] for cell in cells if cell.keys}:
        made["cells"] = known_cells
    if points is not None:
        made["map"] = {
            "at": [at[key] for key in points.keys],
            "group": points.group,
            "names": [numbered(f.subset) for f in record.findings],
            **{role: place(getattr(points, role)) for role in _ROLES},
        }
    if pictures.sheet is not None:
        sheet = pictures.sheet
        made["sheet"] = {
            "columns": sheet.columns,
            "tile": sheet.tile,
            "tiles": {str(at[key]): number for key, number in sheet.tiles.items() if key in at},
        }
    raw = json.dumps(made, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(raw.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def known_keys(record: AuditRecord, shown: Iterable[str]) -> list[str]:
    """Return the keys of all samples that the script knows, in their order.

    Args:
        record: of the audit.
        shown: keys of the samples in galleries, as these follow each other.
    """
    points = record.metrics.map
    near = {entry.key: entry for entry in record.looks.neighbours}
    beside = (n.key for entry in near.values() for n in (*entry.baseline, *entry.candidate))
    return list(dict.fromkeys([*shown, *(points.keys if points else []), *beside]))


def _near(entry: SampleNeighbours, at: dict[str, int]) -> list[Any]:
    lists = [
        [[at[n.key], round(n.similarity, 3) if math.isfinite(n.similarity) else None] for n in getattr(entry, role)]
        for role in _ROLES
    ]
    return [*lists, entry.shared]


def _points(record: AuditRecord) -> MapRecord | None:
    points = record.metrics.map
    if points is None or not points.keys:
        return None
    if not len(points.keys) == len(points.group) == len(points.candidate) == len(points.baseline):
        raise DataError("The map of the audit record is damaged: its keys, groups and points differ in number.")
    return points
