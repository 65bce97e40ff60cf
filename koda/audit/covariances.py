"""The covariance of the features, and tuned bandwidths, as artifacts of their own: kept for another count or limit."""

from __future__ import annotations

import json
from typing import Any

from koda.audit.plan import COVARIANCES, TUNINGS, AuditPlan
from koda.devices import device_of
from koda.embeddings import TableLike
from koda.kernels import KernelPair
from koda.kernels.bandwidths import kernels_from_note, kernels_to_note
from koda.kernels.covariance import CovarianceBlocks
from koda.kernels.features import draw_pair, n_features_of
from koda.storage import write_atomically
from koda.typing import Side


def save_covariance(plan: AuditPlan, side: Side, blocks: CovarianceBlocks, kernels: KernelPair) -> None:
    """Keep G and the kernels it was made with, unless they are kept already."""
    from safetensors.torch import save

    key = _key(plan, side, kernels)
    if plan.artifacts.has(COVARIANCES, key):
        return
    folder = plan.artifacts.folder(COVARIANCES, key)
    write_atomically(folder / "sums.safetensors", save({"sums": blocks.sums.cpu().contiguous()}))
    note = {"n": blocks.n, "exact": blocks.exact, "digest": blocks.digest(), "kernels": kernels_to_note(kernels)}
    write_atomically(folder / "covariance.json", json.dumps(note, indent=1).encode())
    plan.artifacts.complete(COVARIANCES, key)


def load_covariance(plan: AuditPlan, side: Side, target: TableLike, reference: TableLike) -> dict[str, Any]:
    """Return the kernels and the covariance that were kept for a question, as far as they were.

    With `sigma: tune` the kernels are those of the kept choice, or are chosen and kept here. Another limit may lead
    to another choice; where it leads to the same one, the covariance is the same as well.
    """
    from safetensors.torch import load

    search = plan.config.discrepancy
    tuned = _tuned(plan, side, target, reference)
    kept: dict[str, Any] = {} if tuned is None else {"kernels": tuned}
    key = _key(plan, side, tuned)
    if not plan.artifacts.has(COVARIANCES, key):
        return kept
    folder = plan.artifacts.folder(COVARIANCES, key)
    note = json.loads((folder / "covariance.json").read_bytes())
    kernels = tuned or kernels_from_note(note["kernels"])
    device = device_of(search.device)
    kind = None if search.features == "auto" else search.features
    maps = draw_pair(kernels, target, reference, n_features_of(search, device), kind=kind, seed=search.seed)
    sums = load((folder / "sums.safetensors").read_bytes())["sums"].to(device)
    return {"kernels": kernels, "covariance": CovarianceBlocks(sums, note["n"], maps, note["exact"])}


def _tuned(plan: AuditPlan, side: Side, target: TableLike, reference: TableLike) -> KernelPair | None:
    """Return the kernels that `sigma: tune` chooses for a question, chosen once for all counts of directions."""
    if plan.config.discrepancy.sigma != "tune":
        return None
    from koda.discrepancy.tuning import tuned_kernels

    key = plan.tuning_key(side)
    path = plan.artifacts.folder(TUNINGS, key) / "kernels.json"
    if plan.artifacts.has(TUNINGS, key):
        return kernels_from_note(json.loads(path.read_bytes()))
    kernels = tuned_kernels(target, reference, plan.config.discrepancy)
    assert kernels is not None, "the configuration asks for them"
    write_atomically(path, json.dumps(kernels_to_note(kernels), indent=1).encode())
    plan.artifacts.complete(TUNINGS, key)
    return kernels


def _key(plan: AuditPlan, side: Side, kernels: KernelPair | None) -> str:
    """Return the key of a covariance; tuned bandwidths are known only once they are chosen."""
    if plan.config.discrepancy.sigma != "tune" or kernels is None:
        return plan.covariance_key(side)
    return plan.covariance_key(
        side, {"target": dict(kernels.target.sigmas), "reference": dict(kernels.reference.sigmas)}
    )
