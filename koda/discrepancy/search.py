"""From two embedding tables to a solution: join, kernels, limit, solver, and the final checks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from koda.config import DiscrepancyConfig
from koda.discrepancy.dense import solve_dense
from koda.discrepancy.forms import Forms, exact_forms, feature_forms, use_exact
from koda.discrepancy.join import join_tables
from koda.discrepancy.limits import limit_of
from koda.discrepancy.solution import Direction, RawDirection, RawSolution, Solution
from koda.discrepancy.spaces import ExactSpace
from koda.discrepancy.subspace import solve_subspace
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, SolverError
from koda.kernels import KernelPair, choose_kernels, device_of, modalities_of

DENSE_SIZE = 200  # coordinates up to which full eigendecompositions are quicker


def find_discrepancies(
    target: EmbeddingTable,
    reference: EmbeddingTable,
    config: DiscrepancyConfig | None = None,
    *,
    kernels: KernelPair | None = None,
) -> Solution:
    """Find sample groups that the target model ties together and the reference model does not.

    Solves ``max x'K_A x`` subject to ``x'K_B x <= eps``, ``||x|| = 1``, x orthogonal to the directions before, with K
    divided by n (paper 2606.04180, section 4): the same as :func:`koda.discrepancy.dense.solve_dense` on the two
    kernel matrices, within the proved gap of each direction. Samples are joined by key and sorted, so
    the order of rows does not matter.

    Args:
        target: embeddings of the model whose structure is looked for.
        reference: embeddings of the model that should lack it.
        config: how to look; default :class:`~koda.config.DiscrepancyConfig`.
        kernels: kernels already chosen; default :func:`koda.kernels.choose_kernels`.

    Raises:
        ConfigError: a modality that a table lacks, a device that is not there, a limit of 0.
        DataError: keys that do not meet, too few usable samples, constant embeddings.
        SolverError: a solution that fails its final checks.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(60, 4)); keys = [f"{i:02}" for i in range(60)]
    >>> table = EmbeddingTable(keys, image=x)
    >>> find_discrepancies(table, table, DiscrepancyConfig(modality="image")).directions
    ()
    """
    config = config or DiscrepancyConfig()
    began = time.perf_counter()
    device = device_of(config.device)
    names = modalities_of(config)
    for role, table in (("target", target), ("reference", reference)):
        for name in names:
            if getattr(table, name) is None:
                raise ConfigError(
                    f"modality: {config.modality} needs {name} embeddings, which the {role} table lacks.",
                    f"Set discrepancy.modality to {' or '.join(table.modalities)}, or embed the {name}s too.",
                )
    target, reference, rejected = join_tables(target, reference, names)
    kernels = kernels or choose_kernels(target, reference, config)
    n = target.n
    wanted = min(config.n_directions, n)
    forms: Forms
    if use_exact(config.features, n, device):
        forms = exact_forms(target, reference, kernels, device)
    else:
        forms = feature_forms(
            target, reference, kernels, device, r=config.n_features, seed=config.seed, n_directions=wanted
        )
    prepared = time.perf_counter()
    eps, rule = limit_of(config, forms.reference, n)
    raw = RawSolution((), "same") if forms.same else _solve(forms, eps, wanted, config)
    directions = _checked(forms, raw.directions, eps)
    stats: dict[str, Any] = {
        "n": n,
        "device": str(device),
        "dimension": int(forms.target.shape[0]),
        "eps_rule": rule,
        "iterations": raw.iterations,
        "solver": "dense" if forms.target.shape[0] <= DENSE_SIZE else "subspace",
        "seconds_kernels": prepared - began,
        "seconds": time.perf_counter() - began,
        **forms.stats,
        **raw.details,
    }
    if raw.lambda_min is not None:
        stats["lambda_min"] = raw.lambda_min
    return Solution(
        directions=directions,
        keys=tuple(target.keys),
        eps=eps,
        kernels=kernels,
        status=_status(raw, directions, eps, config),
        stats=stats,
        rejected=rejected,
        config=config,
    )


def _solve(forms: Forms, eps: float, wanted: int, config: DiscrepancyConfig) -> RawSolution:
    if forms.target.shape[0] <= DENSE_SIZE:
        return solve_dense(forms.target, forms.reference, eps, wanted, stop_without_gain=True)
    return solve_subspace(
        ExactSpace(forms.target, forms.reference),
        eps,
        wanted,
        tolerance=config.tolerance,
        seed=config.seed,
        stop_without_gain=True,
    )


def _checked(forms: Forms, found: tuple[RawDirection, ...], eps: float) -> tuple[Direction, ...]:
    """Read the directions out as sample vectors, and check them against the kernels in float64.

    Raises:
        SolverError: a norm, an inner product or a reference energy that is not what it must be.
    """
    if not found:
        return ()
    y = torch.from_numpy(np.stack([d.x for d in found], axis=1))  # (m, t)
    x = forms.samples(y.to(forms.target.device))  # (n, t)
    inner = (x.T @ x).cpu()
    off = float((inner - torch.eye(len(found), dtype=torch.float64)).abs().max())
    target, reference = (m.diagonal() for m in forms.energies(x))  # (t,), (t,)
    excess = float((reference - eps).max())
    claimed = torch.tensor([d.target_energy for d in found], dtype=torch.float64)
    moved = float(((target - claimed).abs() / claimed.clamp_min(1e-300)).max())
    if off > 1e-9 or excess > forms.tolerance * max(eps, 1e-3) or moved > max(forms.tolerance, 1e-8):
        raise SolverError(
            f"The solution fails its checks: norms and inner products are off by {off:.1e}, "
            f"the reference energy exceeds eps by {excess:.1e}, the target energies moved by {moved:.1e}.",
            "Please report this with the two embedding tables; a larger eps or exact features may avoid it.",
        )
    directions = []
    for column, d, a, b in zip(x.cpu().numpy().T, found, target.tolist(), reference.tolist(), strict=True):
        gap = max(0.0, (d.upper - a) / a) if a > 0 else d.gap
        quotient = a / b if b > 0 else float("inf")
        directions.append(Direction(_signed(column), a, b, quotient, d.multiplier, gap, d.status))
    return tuple(directions)


def _signed(x: np.ndarray) -> np.ndarray:
    """Return x or -x, with the heavier lobe positive; where they weigh the same, the largest entry is."""
    total = float(x.sum())
    if abs(total) <= 1e-10 * float(np.abs(x).sum()):
        total = float(x[np.argmax(np.abs(x) > (1 - 1e-9) * np.abs(x).max())])
    return np.ascontiguousarray(-x if total < 0 else x)


def _status(raw: RawSolution, found: tuple[Direction, ...], eps: float, config: DiscrepancyConfig) -> str:
    """Say what happened: how many directions, why no more, and what to do."""
    wanted, count = config.n_directions, len(found)
    many = f"{count} of {wanted} directions" if count < wanted else f"{count} direction{'s' if count > 1 else ''}"
    if raw.ending == "same":
        return "no discrepancy: the two kernels are equal up to rounding, so there is nothing to find"
    if raw.ending == "no discrepancy" and not count:
        return "no discrepancy: the target ties nothing together more than the reference does, within the limit"
    if raw.ending == "no discrepancy":
        return f"{many}; no further discrepancy: what is left the target ties together no more than the reference does"
    if raw.ending == "infeasible":
        least = raw.lambda_min if raw.lambda_min is not None else float("nan")
        return (
            f"{many}; infeasible beyond: the smallest reference energy left, lambda_min = {least:.6g}, exceeds "
            f"eps = {eps:.6g}; raise the limit"
        )
    if raw.ending == "exhausted" or count < wanted:
        return f"{many}; the {len(found[0].x) if found else 0} samples have no more independent directions; add samples"
    inexact = sum(d.status.startswith("inexact") for d in found)
    if inexact:
        return f"{many}, {inexact} of them not within the tolerance {config.tolerance:g}; see their status"
    inactive = sum(d.status.startswith("inactive") for d in found)
    worst = max(d.gap for d in found)
    words = f"{many}, each proved to be within {worst:.1e} of its optimum"
    return words + (f"; the limit does not bind for {inactive} of them (see their status)" if inactive else "")
