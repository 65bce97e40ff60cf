"""Synthetic image-text embeddings of two models: like CLIP's in dimension, norm and spectrum, seeded."""

from __future__ import annotations

import numpy as np

from koda import EmbeddingTable


def pair(n: int, *, d: int = 512, topics: int = 400, every: int = 16, seed: int = 0) -> tuple:
    """Return (target, reference) over n samples of `topics` topics; the reference scatters one in `every` of them.

    Each modality of a sample is its topic's centre plus its own noise, on the unit sphere; both models see
    the same topics through their own rotation, so only the scattered ones tell them apart.
    """
    rng = np.random.default_rng(seed)
    weights = 1 / (np.arange(topics) + 10.0)
    label = rng.choice(topics, size=n, p=weights / weights.sum())
    own = {name: rng.standard_normal((n, d), dtype=np.float32) for name in ("image", "text")}
    tables = []
    for role in ("target", "reference"):
        parts = {}
        for name in ("image", "text"):
            spread = (np.arange(d) + 1.0) ** -0.5  # a spectrum that decays
            centres = rng.standard_normal((topics, d)) * spread
            x = centres[label].astype(np.float32)
            if role == "reference":
                lost = label % every == every // 3
                x[lost] = (rng.standard_normal((int(lost.sum()), d)) * spread).astype(np.float32)
            x += 0.8 * own[name] * spread.astype(np.float32)
            parts[name] = x / np.linalg.norm(x, axis=1, keepdims=True)
        tables.append(EmbeddingTable([f"{i:08d}" for i in range(n)], **parts))
    return tables[0], tables[1]
