"""The covariance of the features as an artifact of its own: kept for another count or limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.audit.plan import COVARIANCES, AuditPlan
from koda.devices import device_of, n_features_of
from koda.embeddings import TableLike
from koda.kernels import KernelPair
from koda.kernels.bandwidths import kernels_from_note, kernels_to_note
from koda.kernels.covariance import CovarianceBlocks
from koda.kernels.features import draw_pair
from koda.storage import write_atomically
from koda.typing import Side

if TYPE_CHECKING:
    import torch


def save_covariance(plan: AuditPlan, side: Side, blocks: CovarianceBlocks, kernels: KernelPair) -> None:
    """Keep G and the kernels it was made with, unless they are kept already."""
    from safetensors.torch import save

    store, key = plan.artifacts, plan.covariance_key(side)
    with store.lock(COVARIANCES, key):
        if store.has(COVARIANCES, key):
            return
        store.discard_damaged(COVARIANCES, key)
        folder = store.folder(COVARIANCES, key)
        write_atomically(folder / "sums.safetensors", save({"sums": blocks.sums.cpu().contiguous()}))
        note = {"n": blocks.n, "exact": blocks.exact, "digest": blocks.digest(), "kernels": kernels_to_note(kernels)}
        write_atomically(folder / "covariance.json", json.dumps(note, indent=1).encode())
        store.complete(COVARIANCES, key)


def load_covariance(plan: AuditPlan, side: Side, target: TableLike, reference: TableLike) -> dict[str, Any]:
    """Return the kernels and the covariance that were kept for a question, if they were."""
    search = plan.config.discrepancy
    key = plan.covariance_key(side)
    if not plan.artifacts.has(COVARIANCES, key):
        return {}
    note, sums = plan.artifacts.read(COVARIANCES, key, _read)
    kernels = kernels_from_note(note["kernels"])
    device = device_of(search.device)
    kind = None if search.features == "auto" else search.features
    maps = draw_pair(kernels, target, reference, n_features_of(search.n_features, device), kind=kind, seed=search.seed)
    return {"kernels": kernels, "covariance": CovarianceBlocks(sums.to(device), note["n"], maps, note["exact"])}


def _read(folder: Path) -> tuple[dict[str, Any], torch.Tensor]:
    from safetensors.torch import load

    note = json.loads((folder / "covariance.json").read_bytes())
    return note, load((folder / "sums.safetensors").read_bytes())["sums"]
