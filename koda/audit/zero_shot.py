"""Zero-shot accuracy of both models of an audit: the one measure that needs their text encoders again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from koda.audit.plan import AuditPlan
from koda.audit.samples import Samples
from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.extraction.batches import Batches, joined
from koda.metrics.intervals import paired_difference, wilson
from koda.metrics.zero_shot import class_ranks, class_vectors, classes_of
from koda.models import ResolvedModel, load_encoder
from koda.records import ALL, AccuracyDifference, AccuracyRecord, Subset, ZeroShotRecord
from koda.typing import ROLES, FloatArray, IntArray, Role

DEPTHS = (1, 5)


def zero_shot(plan: AuditPlan, samples: Samples, subsets: Mapping[Subset, tuple[str, ...]]) -> ZeroShotRecord | None:
    """Return the accuracies of both models on all labelled samples and on those of each slice, if they are asked for.

    A depth that is no less than the number of classes is left out, since every answer would be right.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        subsets: the members of each slice.
    """
    config = plan.config.zero_shot
    if config is None:
        return None
    classes, right = classes_of(config, plan.dataset)
    keys = [key for key in samples.baseline.keys if key in right]
    labels = np.array([right[key] for key in keys], dtype=np.int64)  # (m,)
    ranks: dict[Role, IntArray] = {}
    unavailable: dict[str, str] = {}
    for role in ROLES if keys else ():
        table: EmbeddingTable = getattr(samples, role)
        device = plan.config.discrepancy.device
        vectors = class_vectors_of(plan.models[role], table, classes, config.templates, device)
        if isinstance(vectors, str):
            unavailable[plan.label(role)] = vectors
        else:
            images = table.select(keys).image
            assert images is not None
            ranks[role] = class_ranks(images, vectors, labels, device_of(device))
    record = ZeroShotRecord(
        label_column=config.labels,
        classes=list(classes),
        templates=list(config.templates),
        n_labelled=len(keys),
        unavailable=unavailable,
    )
    depths = [k for k in DEPTHS if k < len(classes)]
    row_of = {key: row for row, key in enumerate(keys)}
    # the same image bytes under several keys are one image, so the bootstrap draws them together
    digests = {pair.key: pair.image_digest or pair.key for pair in plan.dataset.pairs}
    images_of = np.unique([digests[key] for key in keys], return_inverse=True)[1]  # (m,)
    for subset, members in {ALL: tuple(keys), **subsets}.items():
        rows = np.array([row_of[key] for key in members if key in row_of], dtype=np.int64)
        if len(rows):
            parts = {role: found[rows] for role, found in ranks.items()}
            record = _with_subset(plan, record, subset, parts, images_of[rows], depths)
    return record


def class_vectors_of(
    model: ResolvedModel, table: EmbeddingTable, classes: Sequence[str], templates: Sequence[str], device: str
) -> FloatArray | str:
    """Return the class vectors under a model, or why there are none."""
    if model.stored:
        return "it is a folder of embeddings, so the names of the classes cannot be encoded"
    missing = [name for name in ("image", "text") if name not in model.modalities]
    if missing:
        return f"it has no {missing[0]} embeddings"
    encoder = load_encoder(model, device)
    if encoder.dims["image"] != encoder.dims["text"] or table.image is None:
        return "its image and text embeddings share no space"
    batches = Batches(encoder)
    return class_vectors(
        lambda texts: joined(batches.run(encoder.encode_texts, texts), encoder.dims["text"]), classes, templates
    )


def _with_subset(
    plan: AuditPlan,
    record: ZeroShotRecord,
    subset: Subset,
    ranks: Mapping[Role, IntArray],
    images: IntArray,
    depths: Sequence[int],
) -> ZeroShotRecord:
    """Return the record with the figures of one more set of samples."""
    accuracies = [
        AccuracyRecord(
            model=plan.label(role),
            role=role,
            subset=subset,
            n=len(found),
            top={f"top-{k}": wilson(int((found <= k).sum()), len(found)) for k in depths},
        )
        for role, found in ranks.items()
    ]
    differences = []
    if len(ranks) == 2:
        new, old, seed = ranks["candidate"], ranks["baseline"], plan.config.discrepancy.seed
        top = {f"top-{k}": paired_difference(new <= k, old <= k, images, seed=seed) for k in depths}
        differences.append(AccuracyDifference(subset=subset, n=len(ranks["baseline"]), top=top))
    return record.model_copy(
        update={
            "accuracies": [*record.accuracies, *accuracies],
            "differences": [*record.differences, *differences],
        }
    )
