"""How much of a slice is one sample many times over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.kernels.kernel import unit_embeddings

TWIN_COSINE = 0.98
MAX_MEMBERS = 5000  # no more are compared, since the cost is quadratic
_CHUNK_ROWS = 1024


def near_duplicate_share(
    members: Sequence[str],
    images: Sequence[str | None],
    tables: Sequence[EmbeddingTable],
    modalities: Sequence[str],
    *,
    device: str = "cpu",
) -> float | None:
    """Return the share of a slice's members with a twin among them, or None for a slice without members.

    A twin has the same image bytes, or a cosine over 0.98 in every modality under every model. Of a slice of more
    than 5000 members the first 5000 are looked at.

    Args:
        members: keys, the highest rank first.
        images: digest of the image bytes of each member, None where there are none.
        tables: the embeddings of each model.
        modalities: what the kernel compares.
        device: where the cosines are computed.
    """
    members, images = members[:MAX_MEMBERS], images[:MAX_MEMBERS]
    if not members:
        return None
    counts = Counter(digest for digest in images if digest is not None)
    same = torch.tensor([digest is not None and counts[digest] > 1 for digest in images])  # (m,)
    place = device_of(device)
    parts = [table.select(members) for table in tables]
    units = [unit_embeddings(part, name, place, torch.float32) for part in parts for name in modalities]  # (m, d) each
    for start in range(0, len(members), _CHUNK_ROWS):
        rows = slice(start, min(start + _CHUNK_ROWS, len(members)))
        alike = torch.ones(rows.stop - rows.start, len(members), dtype=torch.bool, device=place)  # (b, m)
        for unit in units:
            alike &= unit[rows] @ unit.T > TWIN_COSINE
        own = torch.arange(len(alike), device=place)
        alike[own, own + start] = False
        same[rows] |= alike.any(dim=1).cpu()
    return float(same.double().mean())
