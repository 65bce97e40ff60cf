"""The embeddings of an audit's models as folders that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.config import AuditConfig
from koda.errors import ConfigError


def export_embeddings(config: AuditConfig, home: Path, folder: Path, layout: str) -> dict[str, Any]:
    """Write the stored embeddings of an audit's models as folders of their own, with captions and metadata.

    Args:
        config: of the audit.
        home: KODA_HOME that it ran in.
        folder: where; gets a folder for each model, `baseline` and `candidate`.
        layout: koda or clip-retrieval.

    A metadata column called `key` or `image_path`, as koda's own are, is called `data.key` or `data.image_path` there.

    Raises:
        DataError: data or models that are no longer those of the audit, or a folder with files in it.
        StoreError: embeddings that are damaged.
    """
    from koda.audit.folders import RECORD
    from koda.audit.plan import prepare
    from koda.audit.pruning import when_pruned
    from koda.audit.publishing import find_published
    from koda.embeddings import EmbeddingTable
    from koda.embeddings.layout import Layout
    from koda.embeddings.writing import save_table
    from koda.errors import DataError, StoreError
    from koda.extraction import KIND, load_embeddings
    from koda.slicing.export import metadata_names

    known: dict[str, Layout] = {"koda": "koda", "clip-retrieval": "clip-retrieval"}
    if layout not in known:
        raise ConfigError(f"--layout {layout!r} is not known.", f"Choose one of {', '.join(known)}.")
    plan = prepare(config, home, reads_only=True)
    pairs = plan.dataset.by_key
    written: dict[str, Any] = {}
    for role in plan.models:
        key = plan.embedding_key(role)
        if (damage := plan.artifacts.damage(KIND, key)) is not None:
            raise StoreError(f"{damage}.", "Run the audit again, then export it.")
        if not plan.artifacts.has(KIND, key):
            if (pruned := when_pruned(home, KIND, key)) is not None:
                raise DataError(
                    f"The embeddings of {plan.label(role)} were pruned from {home} on {pruned:%Y-%m-%d} (koda prune).",
                    f"koda audit {find_published(home, plan.audit_id) / RECORD} makes them again; then export.",
                )
            raise DataError(
                f"The embeddings of {plan.label(role)} are not in {home}: the data, the model, a library that "
                "embeddings depend on, or koda has changed since.",
                "Run the audit again, then export it.",
            )
        table = load_embeddings(plan.artifacts, key, plan.dataset)
        images = [pair.image.location if (pair := pairs[name]).image else name for name in table.keys]
        names = metadata_names(table.metadata, ("key", "image_path"))
        columns = {**{names[name]: values for name, values in table.metadata.items()}, "image_path": images}
        place = folder / role
        save_table(
            EmbeddingTable(table.keys, table.image, table.text, columns, table.fingerprint), place, known[layout]
        )
        written[role] = {"folder": str(place), "n": table.n, "dims": dict(table.dims)}
    return {"layout": layout, **written}
