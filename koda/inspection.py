"""A look at what a configuration names, without running it: the models by fingerprint, the data by count and sample."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from koda.config import AuditConfig
from koda.datasets import PairDataset, read_dataset
from koda.errors import ConfigError
from koda.models import resolve_model

PAGE = 20  # samples and rejections shown at a time


def look_at_models(config: AuditConfig) -> dict[str, Any]:
    """Return what is known of both models before they are loaded, by role.

    Raises:
        ModelError: a model that cannot be found, or has no weights.
    """
    found: dict[str, Any] = {}
    for role in ("baseline", "candidate"):
        spec = getattr(config, role)
        model = resolve_model(spec, config.discrepancy.device)
        fingerprint = model.fingerprint
        found[role] = {
            "label": model.label,
            "name": spec.name,
            "pretrained": spec.pretrained,
            "modalities": list(model.modalities),
            "files": str(model.checkpoint) if model.checkpoint else None,
            "activation": fingerprint.activation,
            "preprocessing": fingerprint.preprocessing,
            "precision": fingerprint.precision,
            "weights_digest": fingerprint.weights,
            "config_digest": fingerprint.config_digest,
            "fingerprint": fingerprint.digest,
        }
    found["same"] = found["baseline"]["fingerprint"] == found["candidate"]["fingerprint"]
    return found


def look_at_data(config: AuditConfig, page: int = 1) -> dict[str, Any]:
    """Return what a data set holds: counts, what was left out and why, and a page of its samples.

    Args:
        config: `data.max_rejected` is not applied: to see what is wrong is what this is for.
        page: from 1 on, 20 samples each.

    Raises:
        DataError: no such data set, or not one usable pair.
        ConfigError: a page that is not there.
    """
    lenient = config.data.model_copy(update={"max_rejected": float(2**53)})
    dataset = read_dataset(lenient)
    pages = -(-len(dataset.pairs) // PAGE)
    if not 1 <= page <= pages:
        raise ConfigError(f"--page {page}: the data set has pages 1 to {pages}.")
    allowed = config.data.max_rejected
    limit = allowed * dataset.n_source if allowed < 1 else allowed
    reasons = Counter(rejection.reason.split(":")[0] for rejection in dataset.rejections)
    return {
        "name": dataset.name,
        "path": dataset.path,
        "format": dataset.format,
        "digest": dataset.digest,
        "n_source": dataset.n_source,
        "n_pairs": len(dataset.pairs),
        "n_rejected": len(dataset.rejections),
        "within_max_rejected": len(dataset.rejections) <= limit,
        "n_images": len({pair.image_digest for pair in dataset.pairs if pair.image_digest is not None}),
        "n_captions": len({pair.caption for pair in dataset.pairs}),
        "n_duplicate_images": dataset.n_duplicate_images,
        "n_empty_captions": dataset.n_empty_captions,
        "metadata_columns": list(dataset.metadata_columns),
        "rejection_reasons": dict(reasons.most_common()),
        "rejections": [vars(rejection) for rejection in dataset.rejections[:PAGE]],
        "page": page,
        "pages": pages,
        "samples": _page(dataset, page),
    }


def _page(dataset: PairDataset, page: int) -> list[dict[str, Any]]:
    pairs = dataset.pairs[(page - 1) * PAGE : page * PAGE]
    return [
        {
            "key": pair.key,
            "caption": pair.caption,
            "image": None if pair.image is None else pair.image.name,
            "metadata": pair.metadata,
        }
        for pair in pairs
    ]


def export_embeddings(config: AuditConfig, home: Path, folder: Path, layout: str) -> dict[str, Any]:
    """Write the stored embeddings of an audit's models as folders of their own, with captions and metadata.

    Args:
        config: of the audit.
        home: KODA_HOME that it ran in.
        folder: where; gets a folder for each model, `baseline` and `candidate`.
        layout: koda or clip-retrieval.

    Raises:
        DataError: data or models that are no longer those of the audit, or a folder with files in it.
    """
    from koda.audit.plan import prepare
    from koda.embeddings import EmbeddingTable
    from koda.embeddings.layout import Layout
    from koda.embeddings.writing import save_table
    from koda.errors import DataError
    from koda.extraction import KIND, load_embeddings

    known: dict[str, Layout] = {"koda": "koda", "clip-retrieval": "clip-retrieval"}
    if layout not in known:
        raise ConfigError(f"--layout {layout!r} is not known.", f"Choose one of {', '.join(known)}.")
    plan = prepare(config, home)
    pairs = {pair.key: pair for pair in plan.dataset.pairs}
    written: dict[str, Any] = {}
    for role in plan.models:
        key = plan.embedding_key(role)
        if not plan.artifacts.has(KIND, key):
            raise DataError(
                f"The embeddings of {plan.label(role)} are not in {home}: the data or the model has changed since.",
                "Run the audit again, then export it.",
            )
        table = load_embeddings(plan.artifacts, key, plan.dataset)
        images = [pair.image.location if (pair := pairs[name]).image else name for name in table.keys]
        columns = {**table.metadata, "image_path": images}
        place = folder / role
        save_table(
            EmbeddingTable(table.keys, table.image, table.text, columns, table.fingerprint), place, known[layout]
        )
        written[role] = {"folder": str(place), "n": table.n, "dims": dict(table.dims)}
    return {"layout": layout, **written}
