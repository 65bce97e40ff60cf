"""What an alignment changed in retrieval and zero-shot accuracy, held out: the falls first, then all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from koda.records import ALL, REST, STATES, AlignmentRecord, Estimate, State, Subset
from koda.report import text
from koda.report.metric_tables import Cell, cell, subset_name

_LISTED_FALLS = 10
_WHOLE_AND_REST = {ALL: "all held out", REST: "the rest, in no slice"}

Parts = Mapping[str, Mapping[str, Estimate]]  # "image to text" -> "R@1" -> estimate
Measured = Mapping[Subset, Mapping[State, Parts]]  # set of samples -> state -> figures
Changes = Mapping[Subset, tuple[int, Parts]]  # set of samples -> (samples, after less before)


@dataclass(frozen=True)
class Cost:
    """What one measure became: the falls in words, the rest in words, and a table of all sets of samples.

    Args:
        falls: the first of them, a phrase each; `n_more` are in the table only.
        n_more: see `falls`.
        summary: how many falls there are, a sentence.
        elsewhere: what became of the samples in no slice.
        columns: "Image to text" and the like; each has a cell a state and one for the difference.
        groups: (set of samples, its words and size, rows); a row is (figure, cells).
    """

    falls: list[str]
    n_more: int
    summary: str
    elsewhere: str
    columns: list[str]
    groups: list[tuple[str, str, list[tuple[str, list[Cell]]]]]


def retrieval_cost(run: AlignmentRecord, words: Mapping[Subset, str]) -> Cost | None:
    """Return what retrieval became; None where it was not measured. `words` are those of each slice."""
    states: dict[Subset, dict[State, Parts]] = {}
    for each in run.retrieval:
        ways = {"image to text": each.image_to_text, "text to image": each.text_to_image}
        states.setdefault(each.subset, {})[each.state] = ways
    changes = {
        each.subset: (each.n, {"image to text": each.image_to_text, "text to image": each.text_to_image})
        for each in run.retrieval_changes
    }
    return _cost(states, changes, words)


def zero_shot_cost(run: AlignmentRecord, words: Mapping[Subset, str]) -> Cost | None:
    """Return what zero-shot accuracy became; None where no classes were given."""
    states: dict[Subset, dict[State, Parts]] = {}
    for each in run.zero_shot:
        states.setdefault(each.subset, {})[each.state] = {at: {"": top} for at, top in each.top.items()}
    changes = {each.subset: (each.n, {at: {"": top} for at, top in each.top.items()}) for each in run.zero_shot_changes}
    return _cost(states, changes, words)


def _cost(states: Measured, changes: Changes, words: Mapping[Subset, str]) -> Cost | None:
    """Return the figures of every set of samples under each state; the whole and the rest come first."""
    if not states:
        return None
    first = next(parts for by_state in states.values() for parts in by_state.values())
    groups = []
    for subset in sorted(states, key=lambda subset: (subset != ALL, subset != REST)):  # slices stay in their order
        n, less = changes.get(subset, (None, {}))
        rows: list[tuple[str, list[Cell]]] = []
        for name in dict.fromkeys(name for part in first.values() for name in part):
            cells: list[Cell] = []
            for part in first:
                cells += [_figure(states[subset].get(state), part, name) for state in STATES]
                cells.append(cell(less.get(part, {}).get(name), signed=True))
            rows.append((name, cells))
        groups.append((*_heading(subset, words, n), rows))
    falls = sorted(
        (subset not in (ALL, REST), change.value, str(subset), part, name, subset)
        for subset, (_, parts) in changes.items()
        for part, figures in parts.items()
        for name, change in figures.items()
        if _is_fall(change)
    )
    phrases = []
    for _, _, _, part, name, subset in falls:
        heading, note = _heading(subset, words, changes[subset][0])
        phrases.append(f"{heading} ({note}): {_changed(states, changes, subset, part, name)}")
    n_changes = sum(len(figures) for _, parts in changes.values() for figures in parts.values())
    return Cost(
        falls=phrases[:_LISTED_FALLS],
        n_more=max(0, len(phrases) - _LISTED_FALLS),
        summary=_summary(len(falls), n_changes),
        elsewhere=_elsewhere(states, changes),
        columns=[part.capitalize() for part in first],
        groups=groups,
    )


def _is_fall(change: Estimate) -> bool:
    """Say whether a figure fell by more than chance: its interval is below 0, or every query fell alike."""
    return change.value < 0 and (change.high is None or change.high < 0)


def _summary(n_falls: int, n_changes: int) -> str:
    if not n_changes:
        return "Nothing was measured both before and after."
    if not n_falls and n_changes == 1:
        return "The interval of the one difference between before and after does not lie wholly below zero."
    if not n_falls:
        return (
            f"None of the {text.number(n_changes)} differences between before and after has an interval that lies "
            "wholly below zero."
        )
    being = "is a fall whose interval lies" if n_falls == 1 else "are falls whose intervals lie"
    return f"Of {text.plural(n_changes, 'difference')} between before and after, {n_falls} {being} wholly below zero."


def _elsewhere(states: Measured, changes: Changes) -> str:
    """Say what became of the samples in no slice, by the strictest figure of each part."""
    if not changes:
        return ""
    if REST not in changes:
        return "Every held-out sample is in a slice, so there is no rest to look at."
    n, parts = changes[REST]
    phrases = [_changed(states, changes, REST, part, next(iter(figures))) for part, figures in parts.items() if figures]
    return f"On the {text.plural(n, 'held-out sample')} in no slice: {'; '.join(phrases)}."


def _changed(states: Measured, changes: Changes, subset: Subset, part: str, name: str) -> str:
    """Say one change: `image to text R@1 69.2 % before, 58.5 % after (−10.8 points [−20.0, −1.5], teacher 58.5 %)`."""
    before, after, teacher = (_figure(states.get(subset, {}).get(state), part, name).value for state in STATES)
    less = cell(changes[subset][1][part][name], signed=True)
    unit = f"{text.NBSP}%"
    return (
        f"{f'{part} {name}'.strip()} {before}{unit} before, {after}{unit} after ({less.value} points"
        f"{' ' + less.interval if less.interval else ''}, teacher {teacher}{unit})"
    )


def _figure(parts: Parts | None, part: str, name: str) -> Cell:
    return cell(None if parts is None else parts.get(part, {}).get(name))


def _heading(subset: Subset, words: Mapping[Subset, str], n: int | None) -> tuple[str, str]:
    """Return the name of a set of samples, and its words and size."""
    notes = [words.get(subset, ""), "" if n is None else f"n{text.NBSP}={text.NBSP}{text.number(n)}"]
    return _WHOLE_AND_REST.get(subset) or subset_name(subset), "; ".join(note for note in notes if note)
