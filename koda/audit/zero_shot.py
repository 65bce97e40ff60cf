"""Zero-shot accuracy of both models of an audit: the one measure that needs their text encoders again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from koda.audit.plan import AuditPlan
from koda.audit.samples import Samples
from koda.embeddings import EmbeddingTable
from koda.extraction.batches import Batches, joined
from koda.metrics.zero_shot import ClassRanks, Key, class_vectors, classes_of, zero_shot_by_subset
from koda.models import ResolvedModel, load_encoder
from koda.records import AccuracyRecord, Subset, ZeroShotRecord
from koda.typing import ROLES, FloatArray, Role


def zero_shot(
    plan: AuditPlan, samples: Samples, subsets: Mapping[Subset, tuple[str, ...]]
) -> tuple[ZeroShotRecord | None, Mapping[Role, ClassRanks]]:
    """Return the accuracies of both models on all labelled samples and on those of each slice, if they are asked for.

    Beside them are the ranks of the right classes of all labelled samples, of each model that has an accuracy.

    Args:
        plan: of the audit.
        samples: of both models, joined.
        subsets: the members of each slice.
    """
    config = plan.config.zero_shot
    if config is None:
        return None, {}
    classes, right = classes_of(config, plan.dataset)
    labels = {key: right[key] for key in samples.queries if key in right}
    tables: dict[Role, EmbeddingTable] = {role: getattr(samples, role) for role in ROLES}
    search = plan.config.discrepancy
    models = plan.models if labels else {}
    vectors, reasons = class_vectors_of(models, tables, classes, config.templates, search.device)
    pairs = plan.dataset.by_key
    measured = zero_shot_by_subset(
        tables, vectors, labels, subsets, pairs, ("candidate", "baseline"), seed=search.seed, device=search.device
    )
    record = ZeroShotRecord(
        label_column=config.labels,
        classes=list(classes),
        templates=list(config.templates),
        n_labelled=len(labels),
        accuracies=[
            AccuracyRecord(model=plan.label(role), role=role, subset=part.subset, n=part.n, top=top)
            for part in measured
            for role, top in part.tops.items()
        ],
        differences=[part.difference for part in measured if part.difference is not None],
        unavailable={plan.label(role): reason for role, reason in reasons.items()},
    )
    return record, measured[0].ranks if measured else {}


def class_vectors_of(
    models: Mapping[Key, ResolvedModel],
    tables: Mapping[Key, EmbeddingTable],
    classes: Sequence[str],
    templates: Sequence[str],
    device: str,
) -> tuple[dict[Key, FloatArray], dict[Key, str]]:
    """Return the class vectors under each model that can have them, and why the others have none."""
    vectors: dict[Key, FloatArray] = {}
    reasons: dict[Key, str] = {}
    for key, model in models.items():
        vectors_or_reason = _class_vectors(model, tables[key], classes, templates, device)
        if isinstance(vectors_or_reason, str):
            reasons[key] = vectors_or_reason
        else:
            vectors[key] = vectors_or_reason
    return vectors, reasons


def _class_vectors(
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
