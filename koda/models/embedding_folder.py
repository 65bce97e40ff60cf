"""Embeddings that another program made, in place of a model: `embeddings:FOLDER`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from koda.config import ModelSpec
from koda.embeddings import EmbeddingTable, ShardedTable
from koda.embeddings.layout import Join
from koda.errors import DataError, ModelError
from koda.models.fingerprint import ModelContents, ModelFingerprint
from koda.storage import digest_file


def find(spec: ModelSpec, device: str) -> ModelContents:
    """Open an embedding folder, koda's or clip-retrieval's; its content stands for the weights in the fingerprint.

    Raises:
        ModelError: no embedding folder, parts that do not fit together, or settings that only a model can have.
    """
    stated = [
        name
        for name in ("pretrained", "image_size", "image_mean", "image_std", "force_quick_gelu")
        if getattr(spec, name) not in (None, False)
    ]
    if stated:
        raise ModelError(
            f"{spec.name} is a folder of embeddings; {stated[0]} has no meaning for it.", f"Remove `{stated[0]}`."
        )
    table = open_table(spec, "rows")  # how it is joined to the samples the data set says
    state = hashlib.sha256()
    folder = Path(spec.place)
    for path in sorted(table.files):
        state.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\0".encode())
    config = {"embeddings": {name: int(d) for name, d in table.dims.items()}, "made_by": table.fingerprint}
    return ModelContents(state.hexdigest(), config, {}, None, tuple(table.modalities))


def open_table(spec: ModelSpec, join: Join) -> ShardedTable:
    """Open the folder that a spec names.

    Raises:
        ModelError: it is no embedding folder, or has no key that names each sample.
    """
    try:
        return EmbeddingTable.open(spec.place, join)
    except DataError as error:
        raise ModelError(error.message, error.remedy) from error


def describe(fingerprint: ModelFingerprint) -> dict[str, Any]:
    """Return what the audit record says of stored embeddings."""
    dims: dict[str, int] = fingerprint.config["embeddings"]
    return {
        "architecture": "embeddings made by another program",
        "weights_digest": fingerprint.weights,
        "config_digest": fingerprint.config_digest,
        "fingerprint": fingerprint.digest,
        "activation": None,
        "image_size": None,
        "preprocessing": {},
        "tokenizer": None,
        "context_length": None,
        "embedding_dim": next(iter(dims.values())),
        "parameters": None,
        "precision": fingerprint.precision,
    }
