"""The split into samples that the search may see and those that confirm: copies of one sample are in one part."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from koda.audit.plan import AuditPlan
from koda.config import modalities_of
from koda.embeddings import EmbeddingTable
from koda.typing import Role


def confirmation_keys(copies: Mapping[str, str], seen: Collection[str], n: int, seed: int) -> list[str]:
    """Draw the samples that confirm, sorted.

    Samples of one group are drawn together, since a finding that is confirmed by copies of what was searched is no
    evidence. A group that does not fit any more, or of which a sample was seen, stays with the search. Where there are
    no copies every sample is a group, and the draw is that of single samples.

    Args:
        copies: key -> what a sample and its copies have in common.
        seen: keys that may not confirm.
        n: samples to draw at the most.
        seed: of the draw.
    """
    groups: dict[str, list[str]] = {}
    for key in sorted(copies):
        groups.setdefault(copies[key], []).append(key)
    free = [members for members in groups.values() if not any(key in seen for key in members)]
    drawn: list[str] = []
    for place in np.random.default_rng(seed).permutation(len(free)):
        if len(drawn) + len(free[place]) <= n:
            drawn += free[place]
    return sorted(drawn)


def copies_of(plan: AuditPlan, tables: Mapping[Role, EmbeddingTable], keys: Sequence[str]) -> dict[str, str]:
    """Return for each sample what its copies share: the bytes of the image, or the embeddings where there is none.

    With images compared it is the image, so that the captions of one image are together; else the caption.
    """
    modality = "image" if "image" in modalities_of(plan.config.discrepancy) else "text"
    pairs = plan.dataset.by_key
    vectors = [np.ascontiguousarray(getattr(table.select(keys), modality)) for table in tables.values()]  # (n, d) each
    shared = {}
    for row, key in enumerate(keys):
        pair = pairs[key]
        written = pair.image_digest if modality == "image" else pair.caption or None
        if written is None:
            digest = hashlib.blake2b(digest_size=16)
            for of_model in vectors:
                digest.update(of_model[row])
            written = digest.hexdigest()
        shared[key] = written
    return shared
