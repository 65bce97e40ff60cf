"""Zero-shot accuracy of the student before and after, and of its teacher, on the held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from koda.alignment.groups import Group, subsets_of
from koda.audit.plan import AuditPlan
from koda.audit.zero_shot import class_vectors_of
from koda.embeddings import EmbeddingTable
from koda.metrics.zero_shot import classes_of, zero_shot_by_subset
from koda.models import ResolvedModel
from koda.records import AccuracyDifference, AccuracyState, State
from koda.typing import FloatArray


def zero_shot_states(
    audit: AuditPlan,
    groups: Sequence[Group],
    held_out: Sequence[str],
    models: Mapping[State, ResolvedModel],
    tables: Mapping[State, EmbeddingTable],
) -> tuple[list[AccuracyState], list[AccuracyDifference], list[AccuracyDifference]]:
    """Return accuracies, after less before, and after less the teacher; empty where the audit asks for no classes.

    Args:
        audit: whose classes and templates they are.
        groups: the slices.
        held_out: samples that training did not see.
        models, tables: of each state; one whose class names cannot be encoded is left out.
    """
    config = audit.config.zero_shot
    if config is None:
        return [], [], []
    classes, right = classes_of(config, audit.dataset)
    embedded = set(tables["after"].keys)
    labels = {key: right[key] for key in held_out if key in right and key in embedded}
    if not labels:
        return [], [], []
    device = audit.config.discrepancy.device
    vectors, _ = class_vectors_of(models, tables, classes, config.templates, device)
    subsets, pairs, seed = subsets_of(groups, list(labels)), audit.dataset.by_key, audit.config.alignment.seed
    measured = zero_shot_by_subset(
        tables, vectors, labels, subsets, pairs, ("after", "before"), seed=seed, device=device
    )
    of_both: dict[State, FloatArray] = {state: own for state, own in vectors.items() if state != "before"}
    again = zero_shot_by_subset(tables, of_both, labels, subsets, pairs, ("after", "teacher"), seed=seed, device=device)
    accuracies = [
        AccuracyState(state=state, subset=part.subset, n=part.n, top=top)
        for part in measured
        for state, top in part.tops.items()
    ]
    changes, gaps = ([part.difference for part in parts if part.difference is not None] for parts in (measured, again))
    return accuracies, changes, gaps
