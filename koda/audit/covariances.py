"""The covariance of the features as an artifact of its own: another limit or count does not sum it again."""

from __future__ import annotations

import json
from typing import Any

from koda.artifacts import write_atomically
from koda.audit.plan import COVARIANCES, AuditPlan
from koda.config import Side
from koda.covariance import CovarianceBlocks
from koda.embeddings import TableLike
from koda.features import draw_pair, n_features_of
from koda.kernels import Kernel, KernelPair, device_of


def save_covariance(plan: AuditPlan, side: Side, blocks: CovarianceBlocks, kernels: KernelPair) -> None:
    """Keep G and the kernels it was made with, unless they are kept already."""
    from safetensors.torch import save

    key = plan.covariance_key(side)
    if plan.artifacts.has(COVARIANCES, key):
        return
    folder = plan.artifacts.folder(COVARIANCES, key)
    write_atomically(folder / "sums.safetensors", save({"sums": blocks.sums.cpu().contiguous()}))
    note = {"n": blocks.n, "exact": blocks.exact, "digest": blocks.digest(), "kernels": kernels_to_note(kernels)}
    write_atomically(folder / "covariance.json", json.dumps(note, indent=1).encode())
    plan.artifacts.complete(COVARIANCES, key)


def load_covariance(plan: AuditPlan, side: Side, target: TableLike, reference: TableLike) -> dict[str, Any]:
    """Return the kernels and the covariance that were kept for a question, or nothing."""
    from safetensors.torch import load

    key = plan.covariance_key(side)
    if not plan.artifacts.has(COVARIANCES, key):
        return {}
    folder = plan.artifacts.folder(COVARIANCES, key)
    note = json.loads((folder / "covariance.json").read_bytes())
    kernels = kernels_from_note(note["kernels"])
    search = plan.config.discrepancy
    device = device_of(search.device)
    kind = None if search.features == "auto" else search.features
    maps = draw_pair(kernels, target, reference, n_features_of(search, device), kind=kind, seed=search.seed)
    sums = load((folder / "sums.safetensors").read_bytes())["sums"].to(device)
    return {"kernels": kernels, "covariance": CovarianceBlocks(sums, note["n"], maps, note["exact"])}


def kernels_to_note(pair: KernelPair) -> dict[str, Any]:
    """Return the kernels as JSON values."""
    return {
        "target": vars(pair.target) | {"sigmas": dict(pair.target.sigmas)},
        "reference": vars(pair.reference) | {"sigmas": dict(pair.reference.sigmas)},
        "median_distances": {role: dict(found) for role, found in pair.median_distances.items()},
        "leading_eigenvalues": dict(pair.leading_eigenvalues),
        "rule": pair.rule,
        "curve": pair.curve,
        "tuning": pair.tuning,
    }


def kernels_from_note(note: dict[str, Any]) -> KernelPair:
    """Return the kernels that :func:`kernels_to_note` noted."""
    return KernelPair(
        Kernel(**note["target"]),
        Kernel(**note["reference"]),
        note["median_distances"],
        note["leading_eigenvalues"],
        note["rule"],
        tuple((multiplier, value) for multiplier, value in note["curve"]),
        tuple((multiplier, value) for multiplier, value in note.get("tuning", [])),
    )
