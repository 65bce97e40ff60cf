"""The samples of verdicts.py: a pool of scenes that no model was trained on, embedded once, and subsamples of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.verdict_models import LEFT_OUT, thinned
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.demo import write_data
from koda.demo.data import TABLE
from koda.demo.scenes import sample_scenes
from koda.embeddings import EmbeddingTable
from koda.embeddings.writing import save_table
from koda.extraction import embedding_key, extract, load_embeddings
from koda.metrics.retrieval import recall, recall_difference
from koda.models import resolve_model
from koda.storage import ArtifactStore
from koda.typing import FloatArray

N_DRAWN, POOL_SEED = 4000, 12
NOISE = "noisy"
NOISE_SHARE = 0.05  # of the norm of an embedding, each with its own direction


@dataclass(frozen=True)
class Pool:
    """All samples that may be drawn, in the order of their keys."""

    dataset: PairDataset
    keys: tuple[str, ...]
    table: Path  # of captions and attributes, beside the pictures

    def subsample(self, number: int, n: int) -> list[str]:
        """Return the keys of a subsample, without replacement; each number draws anew."""
        rows = np.random.default_rng([POOL_SEED, number]).choice(len(self.keys), size=n, replace=False)
        return [self.keys[row] for row in sorted(rows)]


def make_pool(folder: Path) -> Pool:
    """Draw the pool's scenes below `folder`, or find them there."""
    write_data(folder, N_DRAWN, POOL_SEED)
    dataset = read_dataset(DataConfig(path=str(folder / TABLE)))
    kept = thinned(sample_scenes(N_DRAWN, POOL_SEED), POOL_SEED)
    return Pool(dataset, tuple(f"{row:06d}" for row in kept), folder / TABLE)


def write_subsample(pool: Pool, tables: Mapping[str, EmbeddingTable], keys: Sequence[str], folder: Path) -> None:
    """Write a table of pairs, and a folder of embeddings with captions and attributes for each model."""
    folder.mkdir()
    header, *lines = pool.table.read_text(encoding="utf-8").splitlines()
    wanted, column = set(keys), header.split("\t").index("key")
    rows = [line for line in lines if line.split("\t")[column] in wanted]
    (folder / TABLE).write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    for name, table in tables.items():
        save_table(table.select(keys), folder / name)


def embed(pool: Pool, models: Path, name: str, store: ArtifactStore) -> EmbeddingTable:
    """Return the pool's embeddings under a model; they are made once."""
    if name == NOISE:
        return _with_noise(embed(pool, models, "baseline", store))
    model = resolve_model(ModelSpec(name=f"local-dir:{models / name}", precision="fp32"))
    extract(store, pool.dataset, model)
    return load_embeddings(store, embedding_key(pool.dataset, model), pool.dataset).select(pool.keys)


def drop(baseline: EmbeddingTable, candidate: EmbeddingTable, *, of_left_out: bool) -> tuple[float, float, float]:
    """Return the candidate's R@1 less the baseline's with its interval, both ways together, on the whole pool.

    Args:
        baseline, candidate: embeddings of the pool.
        of_left_out: of the queries of the colour that one model never saw, instead of all.
    """
    pair = [recall(table, device="cpu") for table in (candidate, baseline)]
    if of_left_out:
        colours = baseline.metadata["colour"]
        among = [key for key, colour in zip(baseline.keys, colours, strict=True) if colour == LEFT_OUT]
        pair = [None if each is None else each.among(among) for each in pair]
    newer, older = pair
    if newer is None or older is None:
        raise ValueError("image and text share no space")
    ways = [each["R@1"] for each in recall_difference(newer, older).values()]
    # the two ways share their samples: the mean of the bounds is no narrower than the interval of the mean
    value, low, high = (float(np.mean([getattr(way, bound) for way in ways])) for bound in ("value", "low", "high"))
    return value, low, high


def _with_noise(table: EmbeddingTable) -> EmbeddingTable:
    rng = np.random.default_rng(7)

    def noisy(x: FloatArray) -> FloatArray:
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        away = rng.standard_normal(x.shape)
        away *= NOISE_SHARE / np.linalg.norm(away, axis=1, keepdims=True)
        y = unit + away
        result: FloatArray = (y / np.linalg.norm(y, axis=1, keepdims=True)).astype(np.float32)
        return result

    if table.image is None or table.text is None:
        raise ValueError("both modalities are needed")
    return EmbeddingTable(table.keys, noisy(table.image), noisy(table.text), table.metadata, "noise")
