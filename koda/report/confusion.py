"""Small matrices of a finding: mean similarity within and across its lobes, and what its samples are taken for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from koda.records import AuditRecord, ConfusionRecord, Finding, Similarity, Subset
from koda.report import text
from koda.wording import agreeing

_SHADES = 9  # the style sheets have as many, besides none


@dataclass(frozen=True)
class MatrixCell:
    """A figure, a lesser one beneath it, how deeply it is shaded (0 to 9), and samples of it that the record shows."""

    value: str
    note: str
    shade: int
    id: str = ""
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Matrix:
    """A table of shaded figures; each row begins with its name."""

    caption: str
    corner: str
    columns: list[str]
    rows: list[tuple[str, list[MatrixCell]]]
    note: str = ""

    @property
    def has_samples(self) -> bool:
        """Whether the record shows samples of a cell."""
        return any(cell.keys for _, cells in self.rows for cell in cells)


def similarities(finding: Finding) -> list[Matrix]:
    """Return the mean similarities of lobes and rest under target and reference, shaded on one scale."""
    tables = [finding.similarity.get(role) for role in ("target", "reference")]
    searched = [finding.similarity_searched.get(role) for role in ("target", "reference")]
    known = [v for table in tables for row in _grid(table) for v in row if v is not None and math.isfinite(v)]
    if not known:
        return []
    low, high = min(known), max(known)
    names = ["first lobe", "counterpart", "rest"]
    return [
        Matrix(
            caption=text.shorten(label, 80),
            corner="Mean similarity",
            columns=names,
            rows=[
                (
                    name,
                    [
                        MatrixCell(_similarity(value), _similarity(other) if other is not None else "", shade)
                        for value, other, shade in (
                            (a, b, _shade(a, low, high)) for a, b in zip(row, row_searched, strict=True)
                        )
                    ],
                )
                for name, row, row_searched in zip(names[:2], _grid(table), _grid(seen), strict=True)
            ],
        )
        for label, table, seen in zip((finding.target, finding.reference), tables, searched, strict=True)
    ]


def confusions(record: AuditRecord, lobe: Subset) -> list[Matrix]:
    """Return what both models take the held-out samples of a lobe for, the baseline first."""
    found = [entry for entry in record.looks.confusions if entry.subset == lobe]
    labels = {"baseline": record.baseline.label, "candidate": record.candidate.label}
    return [
        _confusion(entry, f"{entry.role.capitalize()}: {text.shorten(labels[entry.role], 60)}")
        for entry in sorted(found, key=lambda entry: entry.role)
        if entry.counts and entry.right and entry.chosen
    ]


def _confusion(entry: ConfusionRecord, caption: str) -> Matrix:
    left_out = (
        f"; {text.number(entry.n_left_out)} of other classes {agreeing(entry.n_left_out, 'is', 'are')} left out"
        if entry.n_left_out
        else ""
    )
    return Matrix(
        caption=caption,
        corner="Right class",
        columns=[text.shorten(name, 40) for name in entry.chosen],
        rows=[
            (
                text.shorten(name, 40),
                [
                    MatrixCell(
                        text.number(n),
                        text.rough(n / total) if total else "",
                        _shade(n, 0, total),
                        id=f"{entry.subset} {entry.role} {row} {column}".replace(" ", "-"),
                        keys=tuple(key for key, place in entry.places.items() if place == (row, column)),
                    )
                    for column, n in enumerate(counts)
                ],
            )
            for row, (name, counts) in enumerate(zip(entry.right, entry.counts, strict=False))
            for total in (sum(counts),)
        ],
        note=f"{text.plural(entry.n, 'held-out sample')}{left_out}",
    )


def _grid(table: Similarity | None) -> list[Sequence[float | None]]:
    """Arrange a table of similarities as rows of first lobe, counterpart and rest."""
    if table is None:
        return [(None, None, None)] * 2
    return [
        (table.inside_positive, table.across, table.positive_to_rest),
        (table.across, table.inside_negative, table.negative_to_rest),
    ]


def _shade(value: float | None, low: float, high: float) -> int:
    if value is None or not math.isfinite(value) or high <= low:
        return 0
    return max(0, min(_SHADES, round(_SHADES * (value - low) / (high - low))))


def _similarity(value: float | None) -> str:
    return text.NONE if value is None or not math.isfinite(value) else f"{value:.3f}".replace("-", "−")
