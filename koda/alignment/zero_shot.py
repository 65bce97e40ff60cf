"""Zero-shot accuracy of the student before and after, and of its teacher, on the held-out samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from koda.alignment.groups import Group, members_of
from koda.audit.plan import AuditPlan
from koda.audit.zero_shot import DEPTHS, class_vectors_of
from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.metrics.intervals import paired_difference, wilson
from koda.metrics.zero_shot import class_ranks, classes_of
from koda.models import ResolvedModel
from koda.records import ALL, REST, AccuracyDifference, AccuracyState, State
from koda.typing import IntArray


def zero_shot_states(
    audit: AuditPlan,
    groups: Sequence[Group],
    held_out: Sequence[str],
    models: Mapping[State, ResolvedModel],
    tables: Mapping[State, EmbeddingTable],
) -> tuple[list[AccuracyState], list[AccuracyDifference]]:
    """Return accuracies, and after less before; empty where the audit asks for no classes.

    Args:
        audit: whose classes and templates they are.
        groups: the slices.
        held_out: samples that training did not see.
        models, tables: of each state; one whose class names cannot be encoded is left out.
    """
    config = audit.config.zero_shot
    if config is None:
        return [], []
    classes, right = classes_of(config, audit.dataset)
    keys = [key for key in held_out if key in right and key in set(tables["after"].keys)]
    if not keys:
        return [], []
    device = audit.config.discrepancy.device
    labels = np.array([right[key] for key in keys], dtype=np.int64)
    ranks: dict[State, IntArray] = {}
    for state, model in models.items():
        vectors = class_vectors_of(model, tables[state], classes, config.templates, device)
        if not isinstance(vectors, str):
            images = tables[state].select(keys).image
            assert images is not None, "class vectors are compared with images"
            ranks[state] = class_ranks(images, vectors, labels, device_of(device))
    digests = {pair.key: pair.image_digest or pair.key for pair in audit.dataset.pairs}
    images_of = np.unique([digests[key] for key in keys], return_inverse=True)[1]  # (m,)
    depths = [k for k in DEPTHS if k < len(classes)]
    inside = members_of(groups)
    subsets = {
        ALL: np.ones(len(keys), dtype=bool),
        **{group.subset: np.array([key in group.members for key in keys]) for group in groups},
        REST: np.array([key not in inside for key in keys]),
    }
    found, changes = [], []
    for subset, chosen in subsets.items():
        n = int(chosen.sum())
        if not n:
            continue
        for state, each in ranks.items():
            top = {f"top-{k}": wilson(int((each[chosen] <= k).sum()), n) for k in depths}
            found.append(AccuracyState(state=state, subset=subset, n=n, top=top))
        if {"before", "after"} <= set(ranks):
            after, before = ranks["after"][chosen], ranks["before"][chosen]
            seed = audit.config.alignment.seed
            differences = {
                f"top-{k}": paired_difference(after <= k, before <= k, images_of[chosen], seed=seed) for k in depths
            }
            changes.append(AccuracyDifference(subset=subset, n=n, top=differences))
    return found, changes
