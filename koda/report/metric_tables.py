"""Retrieval, zero-shot and quotients as the report shows them: rows of cells, and curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from koda.policy.by_value import ALPHA
from koda.records import ALL, LOBE_WORDS, AuditRecord, Estimate, PairedShares, Subset
from koda.report import text
from koda.report.figures import labels
from koda.report.plots import curve_plot

_SIDES = {"lost": "the baseline over the candidate", "gained": "the candidate over the baseline"}
_VALUES_SHOWN = 15
_COLUMNS_SHOWN = 5  # of those without figures by value
_TOPS = (("top_1", "first direction"), ("top_3", "mean of the first 3"), ("top_5", "mean of the first 5"))


@dataclass(frozen=True)
class Cell:
    """A figure in percent or percentage points, and its interval in brackets ("" where there is none)."""

    value: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One line: a model, or a difference between the two."""

    label: str
    n: str
    of: str
    cells: list[Cell]
    is_difference: bool = False


@dataclass(frozen=True)
class ValueRow:
    """One metadata value: the figure of it that differs most clearly, under both models."""

    value: str
    figure: str
    n_images: str
    cells: list[Cell]
    p_value: float


@dataclass(frozen=True)
class ValueTable:
    """Metadata values on which the models differ significantly.

    Args:
        columns: that were measured by value.
        n_values: measured.
        n_tests: the p-values are adjusted for.
        n_differing: values with an adjusted p-value under :data:`koda.policy.by_value.ALPHA`.
        rows: of these the largest differences, the least p-value first.
        unmeasured: columns and why they were not measured.
    """

    columns: list[str]
    n_values: int
    n_tests: int
    n_differing: int
    rows: list[ValueRow]
    left_out: int
    unmeasured: list[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """Groups of rows, one a set of samples, under columns of the same depths.

    Args:
        columns: the depths.
        groups: sets of samples with their rows; the whole set and the found subsets always are among them.
        alike: those of slices on which the interval of every difference between the models holds 0.
    """

    columns: list[str]
    groups: list[tuple[str, list[Row]]]
    alike: list[tuple[str, list[Row]]]


def retrieval(record: AuditRecord) -> Table | None:
    """Return both models on each set of samples, the difference there, and the difference on the rest."""
    recalls = record.metrics.retrieval
    if not recalls:
        return None
    columns = _columns([part for r in recalls for part in (r.image_to_text, r.text_to_image)])
    differences = {d.subset: d for d in record.metrics.retrieval_differences}
    table, names = Table(columns, [], []), labels(record)
    for subset in dict.fromkeys(r.subset for r in recalls if not r.subset.rest):
        rows = [
            Row(
                names[r.role] if r.role else r.model,
                text.number(r.n),
                f"of {text.number(r.n_gallery)}",
                _cells((r.image_to_text, r.text_to_image), columns),
            )
            for r in recalls
            if r.subset == subset
        ]
        for name, label in ((subset, _DIFFERENCE_LABEL), (subset.others, f"{_DIFFERENCE_LABEL}, on the rest")):
            if d := differences.get(name):
                parts = (d.image_to_text, d.text_to_image)
                rows.append(Row(label, text.number(d.n), "", _cells(parts, columns, signed=True), True))
        own = differences.get(subset)
        into = table.alike if own and _are_alike(subset, own.image_to_text, own.text_to_image) else table.groups
        into.append((subset_name(subset, by_split=record.version > 1), rows))
    return table


def zero_shot(record: AuditRecord) -> Table | None:
    """Return the accuracies of both models on each set of samples, and their difference."""
    figures = record.metrics.zero_shot
    if figures is None or not figures.accuracies:
        return None
    columns = _columns([a.top for a in figures.accuracies])
    differences = {d.subset: d for d in figures.differences}
    table, names = Table(columns, [], []), labels(record)
    for subset in dict.fromkeys(a.subset for a in figures.accuracies):
        rows = [
            Row(names[a.role], text.number(a.n), "", _cells((a.top,), columns))
            for a in figures.accuracies
            if a.subset == subset
        ]
        if d := differences.get(subset):
            rows.append(Row(_DIFFERENCE_LABEL, text.number(d.n), "", _cells((d.top,), columns, signed=True), True))
        into = table.alike if d and _are_alike(subset, d.top) else table.groups
        into.append((subset_name(subset, by_split=record.version > 1), rows))
    return table


def _are_alike(subset: Subset, *differences: Mapping[str, Estimate]) -> bool:
    """Tell whether each difference on a slice has an interval that holds 0, or is 0 where it has none."""
    if subset.lobe is None:
        return False
    ends = [
        (d.value if d.low is None else d.low, d.value if d.high is None else d.high)
        for each in differences
        for d in each.values()
    ]
    return all(low <= 0 <= high for low, high in ends)


def by_value(record: AuditRecord) -> ValueTable | None:
    """Return the metadata values on which the models differ most, if significantly; None where none was measured."""
    values = record.metrics.by_value
    if not values:
        return None
    shares = [(item, item.retrieval | item.accuracy) for item in values]
    clearest = [(item, *min(of.items(), key=lambda pair: _clearness(pair[1]))) for item, of in shares]
    differing = [entry for entry in clearest if entry[2].p_value < ALPHA]
    largest = sorted(differing, key=lambda entry: -abs(entry[2].difference.value))[:_VALUES_SHOWN]
    rows = [
        ValueRow(
            value=f"{item.column} = {item.value}",
            figure=name,
            n_images=text.number(item.n_images),
            cells=[
                Cell(_written(pair.baseline)),
                Cell(_written(pair.candidate)),
                cell(pair.difference, signed=True),
            ],
            p_value=pair.p_value,
        )
        for item, name, pair in sorted(largest, key=lambda entry: _clearness(entry[2]))
    ]
    return ValueTable(
        columns=list(dict.fromkeys(item.column for item in values)),
        n_values=len(values),
        n_tests=sum(len(of) for _, of in shares),
        n_differing=len(differing),
        rows=rows,
        left_out=record.metrics.by_value_left_out,
        unmeasured=list(record.metrics.by_value_unmeasured.items())[:_COLUMNS_SHOWN],
    )


def _clearness(pair: PairedShares) -> tuple[float, float]:
    """Order differences: the least p-value first, of the same the largest."""
    return pair.p_value, -abs(pair.difference.value)


def quotients(record: AuditRecord) -> list[tuple[str, Markup, str]]:
    """Return a caption, a figure (empty where there are no points) and a note for each side's curve."""
    drawn = []
    for curve in record.metrics.quotients:
        series = {}
        for field, name in _TOPS:
            points = [(p.quantile, getattr(p, field)) for p in curve.points]
            series[name] = [(q, value) for q, value in points if value is not None]
        caption = f"{curve.side.capitalize()}: {_SIDES[curve.side]}, {text.plural(curve.n, 'discovery sample')}"
        figure = curve_plot(
            series,
            title=f"Quotient of the energies against q, {curve.side}",
            x_axis="q: the limit is this quantile of the reference's non-zero eigenvalues",
            y_axis="quotient",
        )
        drawn.append((caption, figure, text.shorten(curve.note, 400)))
    return drawn


def subset_name(subset: Subset, *, by_split: bool = True) -> str:
    """Put the name of a set of samples in words: `lost 1, first lobe, held-out members`.

    Args:
        subset: the set.
        by_split: whether the figures tell held-out members from those searched; records of version 1 do not.
    """
    if subset == ALL:
        return "whole set"
    if subset.lobe is not None:
        seen = "searched members" if subset.searched else "held-out members"
        return f"{subset.finding}, {LOBE_WORDS[subset.lobe]}" + (f", {seen}" if by_split else "")
    return str(subset) if subset.direction is not None or subset.side is None else f"found subset, {subset.side}"


_DIFFERENCE_LABEL = "candidate − baseline"


def _columns(parts: Sequence[Mapping[str, Estimate]]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part))


def _cells(parts: Sequence[Mapping[str, Estimate]], columns: Sequence[str], *, signed: bool = False) -> list[Cell]:
    return [cell(part.get(name), signed=signed) for part in parts for name in columns]


def cell(estimate: Estimate | None, *, signed: bool = False) -> Cell:
    """Return a share in percent, or with its sign in percentage points."""
    if estimate is None or not math.isfinite(estimate.value):
        return Cell(text.NONE)

    value = _written(estimate.value, signed)
    if estimate.low is None or estimate.high is None:
        return Cell(value)
    return Cell(value, f"[{_written(estimate.low, signed)}, {_written(estimate.high, signed)}]")


def _written(value: float, signed: bool = False) -> str:
    rounded = round(100 * value, 1) + 0.0  # no minus before a zero
    return f"{rounded:+.1f}".replace("-", "−") if signed and rounded else f"{rounded:.1f}"
