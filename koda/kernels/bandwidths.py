"""Which kernels a search compares, with which bandwidths, and where they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from koda.config import DiscrepancyConfig, modalities_of
from koda.devices import device_of
from koda.embeddings import TableInMemory, TableLike
from koda.embeddings.rows import drawn_keys
from koda.errors import DataError
from koda.kernels.kernel import Kernel, need, unit_embeddings, values_of

AUTO_MULTIPLIER = 0.4  # of the median distance: local enough for slices of like things
AGREEMENT = 0.05  # relative difference at which two leading eigenvalues count as comparable
_DECOMPOSED_SIZE = 256  # samples up to which all eigenvalues are quicker than Lanczos steps


@dataclass(frozen=True)
class KernelPair:
    """The kernels of the two models of one question, and how they were chosen.

    Args:
        median_distances: role ("target", "reference") -> modality -> median distance on the subsample;
            empty where the bandwidths were given or the kernel has none.
        leading_eigenvalues: role -> leading eigenvalue of K / n on the subsample.
        rule: how the bandwidths were set, in words.
        curve: (multiplier of the median distance, leading eigenvalue of the target's K / n) at every multiplier
            that the search tried, by increasing multiplier; empty where there was no search.
        tuning: (multiplier of the reference's median distance, held-out contrast) of each that was tried, by
            increasing multiplier; empty without :func:`koda.discrepancy.tuning.tune_kernels`.
    """

    target: Kernel
    reference: Kernel
    median_distances: Mapping[str, Mapping[str, float]]
    leading_eigenvalues: Mapping[str, float]
    rule: str
    curve: tuple[tuple[float, float], ...] = ()
    tuning: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        for name in ("curve", "tuning"):
            points = sorted((float(multiplier), float(value)) for multiplier, value in getattr(self, name))
            object.__setattr__(self, name, tuple(points))


def choose_kernels(
    target: TableLike,
    reference: TableLike,
    config: DiscrepancyConfig,
    *,
    multiplier: float = AUTO_MULTIPLIER,
    max_samples: int = 4096,
) -> KernelPair:
    """Choose the bandwidths of both models on a seeded subsample.

    The reference's bandwidth of each modality is ``multiplier`` times its median distance, 0.4 times unless
    :func:`koda.discrepancy.tuning.tune_kernels` asks for another. The target's are its own median distances times one
    multiplier, found by bracketing so that the leading eigenvalues of the two
    K / n agree within 5 % (the rule of paper 2606.04180, section 6). The same model twice gets equal
    bandwidths. A number in ``config.sigma`` is the bandwidth of both models and of both modalities. The
    cosine and the polynomial kernel have no bandwidth: nothing is searched for them.

    Raises:
        ConfigError: a modality that a table lacks.
        DataError: keys that differ, or a modality whose embeddings are (mostly) all equal, or that the kernel
            cannot use.
    """
    names = modalities_of(config)
    for table in (target, reference):
        for name in names:
            need(table, name)
    device = device_of(config.device)
    keys = drawn_keys(reference.keys, max_samples, config.seed)
    roles = {  # in memory, whatever the tables are
        role: table.select(keys).take(np.arange(len(keys)))
        for role, table in (("target", target), ("reference", reference))
    }
    if config.kernel != "gaussian" or config.sigma not in ("auto", "tune"):
        if config.kernel != "gaussian":
            for role, table in roles.items():
                _refuse_one_direction(table, names, role)
            kernel = Kernel(dict.fromkeys(names), kind=config.kernel)
            rule = f"none: the {config.kernel} kernel has no bandwidth"
        else:
            kernel = Kernel({name: float(config.sigma) for name in names})
            rule = f"sigma = {config.sigma:g} for both models, as configured"
        leading = {
            role: _leading_eigenvalue(kernel.matrix(table, device=device, dtype=torch.float32))
            for role, table in roles.items()
        }
        return KernelPair(kernel, kernel, {}, leading, rule)
    medians: dict[str, dict[str, float]] = {}
    scaled: dict[str, torch.Tensor] = {}  # role -> sum over modalities of d^2 / 2 median^2, (m, m)
    for role, table in roles.items():
        medians[role], scaled[role] = _median_scaled(table, names, role, device)

    def leading_at(role: str, multiplier: float) -> float:
        return _leading_eigenvalue(torch.exp(scaled[role] / -(multiplier**2)))

    goal = leading_at("reference", multiplier)
    curve: dict[float, float] = {}

    def target_at(times: float) -> float:
        curve[times] = leading_at("target", times)
        return curve[times]

    matched, reached = _match(target_at, goal, multiplier)
    agreed = abs(reached / goal - 1) <= AGREEMENT
    rule = (
        f"reference {multiplier:g} x its median distance, target {matched:.4g} x its own"
        + (", leading eigenvalues within 5 %" if agreed else "; the leading eigenvalues could not be made to agree")
        + f" ({len(keys)} samples)"
    )
    return KernelPair(
        target=Kernel({name: matched * medians["target"][name] for name in names}),
        reference=Kernel({name: multiplier * medians["reference"][name] for name in names}),
        median_distances=medians,
        leading_eigenvalues={"target": reached, "reference": goal},
        rule=rule,
        curve=tuple(curve.items()),
    )


def _refuse_one_direction(table: TableInMemory, names: tuple[str, ...], role: str) -> None:
    """Refuse embeddings that all point the same way: kernels of their directions cannot tell them apart."""
    for name in names:
        u = unit_embeddings(table, name, "cpu", torch.float64)  # (m, d)
        if table.n > 1 and float((u - u[0]).abs().max()) <= 1e-12:
            raise DataError(
                f"The {name} embeddings of the {role} model are constant: {table.n} samples have one direction.",
                f"Check how they were made, or leave the {name}s out with discrepancy.modality.",
            )


def _median_scaled(
    table: TableInMemory, names: tuple[str, ...], role: str, device: torch.device
) -> tuple[dict[str, float], torch.Tensor]:
    """Return the median distances, and the sum of squared distances over twice their squares, (m, m) float32."""
    m = table.n
    medians: dict[str, float] = {}
    total = torch.zeros(m, m, device=device)
    upper = torch.triu_indices(m, m, 1, device=device)
    for name in names:
        values = torch.as_tensor(values_of(table, name)).to(device=device, dtype=torch.float64)  # (m, d)
        values = values - values.mean(0)
        norms = values.square().sum(1)  # (m,)
        squared = torch.addmm(norms[None, :], values, values.T, alpha=-2).add_(norms[:, None])  # (m, m)
        # what is left of equal rows after cancellation is rounding, not distance
        squared[squared <= 1e-14 * norms.max()] = 0
        pairs = squared[upper[0], upper[1]]
        median = float(pairs.median()) ** 0.5 if pairs.numel() else 0.0
        largest = float(norms.max()) ** 0.5
        if not median > 1e-12 * largest or not math.isfinite(median):
            raise DataError(
                f"The {name} embeddings of the {role} model are constant: their median distance is 0 over {m} samples.",
                f"Check how they were made, or leave the {name}s out with discrepancy.modality.",
            )
        medians[name] = median
        total += (squared / (2 * median**2)).to(torch.float32)
    return medians, total.fill_diagonal_(0)


def _match(value_at: Callable[[float], float], goal: float, start: float) -> tuple[float, float]:
    """Find the multiplier at which an increasing function meets the goal within 5 %; return it and the value there.

    The start is kept where it will do, so that equal models get equal bandwidths.
    """
    at, value = start, value_at(start)
    low, high = (at, None) if value < goal else (None, at)
    for _ in range(40):
        if abs(value / goal - 1) <= AGREEMENT:
            break
        if high is None or low is None:
            at *= 1.5 if high is None else 1 / 1.5
            if not 1e-3 * start < at < 1e3 * start:
                break
        else:
            at = math.sqrt(low * high)
        value = value_at(at)
        low, high = (at, high) if value < goal else (low, at)
    return at, value


def _leading_eigenvalue(kernel: torch.Tensor, steps: int = 60, tolerance: float = 1e-3) -> float:
    """Return the leading eigenvalue of ``kernel / n``, a positive semidefinite matrix, by Lanczos steps.

    Small matrices are decomposed in full. Else the steps end when the residual of the Ritz vector is within
    the tolerance of the value; the error of the value is of second order in that.

    Where no entry is negative the leading eigenvector has one sign, and the constant vector is a good start.
    The cosine kernel has negative entries, and a constant vector may then be orthogonal to what is looked
    for: half of the start is a random vector of a fixed seed.
    """
    n = kernel.shape[0]
    if n <= _DECOMPOSED_SIZE:
        return float(torch.linalg.eigvalsh(kernel.double())[-1]) / n
    q = torch.full((n,), n**-0.5, device=kernel.device, dtype=kernel.dtype)  # (n,)
    if bool((kernel < 0).any()):
        draw = torch.from_numpy(np.random.default_rng(0).standard_normal(n)).to(q)
        q = q + draw / draw.norm()
        q /= q.norm()
    basis = torch.empty(0, n, device=kernel.device, dtype=kernel.dtype)  # (k, n)
    diagonal: list[float] = []
    off: list[float] = []
    value = 0.0
    for _ in range(steps):
        basis = torch.cat([basis, q[None]])
        y = kernel @ q
        diagonal.append(float(q @ y))
        for _ in range(2):
            y -= basis.T @ (basis @ y)
        norm = float(y.norm())
        small = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)  # (k, k)
        values, vectors = np.linalg.eigh(small)
        value = float(values[-1])
        if norm * abs(float(vectors[-1, -1])) <= tolerance * value:
            break
        off.append(norm)
        q = y / norm
    return value / n


def kernels_to_note(pair: KernelPair) -> dict[str, Any]:
    """Return the kernels as JSON values."""
    return {
        "target": vars(pair.target) | {"sigmas": dict(pair.target.sigmas)},
        "reference": vars(pair.reference) | {"sigmas": dict(pair.reference.sigmas)},
        "median_distances": {role: dict(medians) for role, medians in pair.median_distances.items()},
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
