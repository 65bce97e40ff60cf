"""What two models take the samples of a set for: zero-shot, by right class and class chosen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from koda.metrics.zero_shot import ClassRanks
from koda.records import OTHER_CLASSES, ConfusionRecord, Subset
from koda.typing import IntArray, Role

SHOWN = 6  # classes, of the right ones and of those chosen


def confusions(
    subset: Subset,
    members: Sequence[str],
    ranks: Mapping[Role, ClassRanks],
    classes: Sequence[str],
    shown: Collection[str] = (),
) -> list[ConfusionRecord]:
    """Return the confusion of each model on the labelled samples of a set, with the same rows and columns for all.

    Args:
        subset: the set.
        members: its samples; those without a label are left out.
        ranks: of each model, over the same samples.
        classes: their names, by number.
        shown: samples that are named by the cell that they are in; the others are counted alone.

    Returns:
        One for each model; none where no sample has a label.
    """
    parts = {role: of_model.among(members) for role, of_model in ranks.items()}
    labelled = next((part.right for part in parts.values()), np.empty(0, dtype=np.int64))
    if not len(labelled):
        return []
    right = _most_frequent([labelled], len(classes))
    rows = np.isin(labelled, right)  # (n,)
    every = _most_frequent([part.chosen[rows] for part in parts.values()], len(classes))
    # the right classes first, in their order, so that what is right lies on the diagonal
    chosen = [number for number in right if number in every] + [number for number in every if number not in right]
    names = [classes[number] for number in chosen]
    found = []
    beyond = any(not np.isin(part.chosen[rows], chosen).all() for part in parts.values())
    for role, part in parts.items():
        counts = np.zeros((len(right), len(chosen) + 1), dtype=np.int64)
        column = {number: place for place, number in enumerate(chosen)}
        places = {}
        for row in np.flatnonzero(rows).tolist():
            place = right.index(part.right[row]), column.get(int(part.chosen[row]), len(chosen))
            counts[place] += 1
            if part.keys[row] in shown:
                places[part.keys[row]] = place
        found.append(
            ConfusionRecord(
                subset=subset,
                role=role,
                n=len(labelled),
                right=[classes[number] for number in right],
                chosen=[*names, OTHER_CLASSES] if beyond else names,
                counts=counts[:, : len(chosen) + beyond].tolist(),
                n_left_out=int((~rows).sum()),
                places=places,
            )
        )
    return found


def _most_frequent(numbers: Sequence[IntArray], n_classes: int) -> list[int]:
    """Return the classes that occur most often, at most six; of equal ones the first."""
    counts = np.bincount(np.concatenate(numbers), minlength=n_classes)
    order = np.argsort(-counts, kind="stable")[:SHOWN]
    return [int(number) for number in order if counts[number]]
