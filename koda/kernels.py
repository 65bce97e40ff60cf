"""Gaussian kernels over image-text pairs, and the choice of their bandwidths.

``k((u, v), (u', v')) = exp(-||u - u'||^2 / 2 sigma_image^2) exp(-||v - v'||^2 / 2 sigma_text^2)``; image only and
text only are the same with one factor (paper 2606.04180, section 5). All kernels have ``k(z, z) = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from koda.config import DiscrepancyConfig
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError

AUTO_MULTIPLIER = 0.4  # of the median distance: local enough for slices of like things
AGREEMENT = 0.05  # relative difference at which two leading eigenvalues count as comparable
_BLOCK_ELEMENTS = 8_388_608  # entries of a row block


def device_of(name: str) -> torch.device:
    """Return the torch device of that name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: a name torch does not know, or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: {name!r} is not a device.", "Use auto, cpu, cuda or cuda:<number>.") from error
    try:
        torch.empty(1, device=device, dtype=torch.float64)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ConfigError(
            f"device: {name!r} cannot be used on this machine for float64.", "Use auto or cpu."
        ) from error
    return device


def modalities_of(config: DiscrepancyConfig) -> tuple[str, ...]:
    """Return the modalities that the configuration compares: ("image", "text") for joint."""
    return ("image", "text") if config.modality == "joint" else (config.modality,)


def _values(table: EmbeddingTable, modality: str) -> np.ndarray:
    values = getattr(table, modality, None)
    if values is None:
        have = " and ".join(table.modalities)
        raise ConfigError(
            f"{modality} embeddings are needed, but the table holds only {have} embeddings.",
            f"Set discrepancy.modality to {have}, or embed the {modality}s too.",
        )
    return np.asarray(values)


@dataclass(frozen=True)
class Kernel:
    """Gaussian kernel on one modality, or the product of two.

    Args:
        sigmas: bandwidth by modality ("image", "text"); both give the joint kernel.
        kind: "gaussian".

    The embeddings are used as they are: nothing is normalised here.
    """

    sigmas: Mapping[str, float]
    kind: Literal["gaussian"] = "gaussian"

    def __post_init__(self) -> None:
        sigmas = {name: float(self.sigmas[name]) for name in ("image", "text") if name in self.sigmas}
        if self.kind != "gaussian":
            raise ConfigError(f"kernel: {self.kind!r} is not known.", "Use gaussian.")
        if len(sigmas) != len(self.sigmas) or not sigmas:
            raise ConfigError(f"A kernel is over image, text or both, not {sorted(self.sigmas)}.")
        for name, sigma in sigmas.items():
            if not (math.isfinite(sigma) and sigma > 0):
                raise ConfigError(f"sigma: the {name} bandwidth is {sigma}; it must be positive.")
        object.__setattr__(self, "sigmas", sigmas)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities the kernel looks at."""
        return tuple(self.sigmas)

    def matrix(
        self,
        x: EmbeddingTable,
        y: EmbeddingTable | None = None,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> torch.Tensor:
        """Return the kernel matrix ``k(x_i, y_j)``, not divided by n.

        Shapes: x has n rows, y has m (default: x); the result is (n, m). Where y is None it is
        exactly symmetric with a diagonal of exactly 1. Rows are made in blocks, so that the memory
        beside the result stays small.

        Raises:
            ConfigError: a modality of the kernel that a table lacks.
            DataError: tables of different dimensions.
        """
        u = scaled_embeddings(self, x, device, dtype)  # (n, d)
        if y is None:
            w = u = u - u.mean(0)  # distances do not move, and cancel less
        else:
            w = scaled_embeddings(self, y, device, dtype)  # (m, d)
            if u.shape[1] != w.shape[1]:
                raise DataError(
                    f"The two tables have {u.shape[1]} and {w.shape[1]} dimensions.",
                    "A kernel is between samples of the same model.",
                )
            centre = w.mean(0)
            u, w = u - centre, w - centre
        n, m = u.shape[0], w.shape[0]
        half_u, half_w = u.square().sum(1) / 2, w.square().sum(1) / 2  # (n,), (m,)
        result = torch.empty(n, m, device=u.device, dtype=dtype)  # (n, m)
        rows = max(1, _BLOCK_ELEMENTS // max(m, 1))
        for i in range(0, n, rows):
            j = i + rows
            start = i if y is None else 0  # the lower triangle is copied from the upper
            block = torch.addmm(half_w[None, start:], u[i:j], w[start:].T, alpha=-1)  # (rows, m - start)
            block.add_(half_u[i:j, None]).clamp_(min=0).neg_().exp_()
            if y is None:
                square = block[:, : j - i]
                square.copy_((square + square.T.clone()) / 2).fill_diagonal_(1)
                result[i:j, i:] = block
                result[j:, i:j] = block[:, j - i :].T
            else:
                result[i:j] = block
        return result


def dimensions(kernel: Kernel, table: EmbeddingTable) -> tuple[int, ...]:
    """Return the dimension of each modality that the kernel looks at."""
    return tuple(int(_values(table, name).shape[1]) for name in kernel.modalities)


def scaled_embeddings(
    kernel: Kernel, table: EmbeddingTable, device: torch.device | str, dtype: torch.dtype
) -> torch.Tensor:
    """Return the embeddings over their bandwidths, side by side: the kernel is Gaussian with sigma 1 on them."""
    parts = [
        torch.as_tensor(_values(table, name)).to(device=device, dtype=dtype) / sigma
        for name, sigma in kernel.sigmas.items()
    ]
    return torch.cat(parts, dim=1)  # (n, d)


@dataclass(frozen=True)
class KernelPair:
    """The kernels of the two models of one question, and how they were chosen.

    Args:
        median_distances: role ("target", "reference") -> modality -> median distance on the subsample;
            empty where the bandwidths were given.
        leading_eigenvalues: role -> leading eigenvalue of K / n on the subsample.
        rule: how the bandwidths were set, in words.
    """

    target: Kernel
    reference: Kernel
    median_distances: Mapping[str, Mapping[str, float]]
    leading_eigenvalues: Mapping[str, float]
    rule: str


def choose_kernels(
    target: EmbeddingTable, reference: EmbeddingTable, config: DiscrepancyConfig, *, max_samples: int = 4096
) -> KernelPair:
    """Choose the bandwidths of both models on a seeded subsample.

    The reference's bandwidth of each modality is 0.4 of its median distance. The target's are its own
    median distances times one multiplier, found by bracketing so that the leading eigenvalues of the two
    K / n agree within 5 % (the rule of paper 2606.04180, section 6). The same model twice gets equal
    bandwidths. A number in ``config.sigma`` is the bandwidth of both models and of both modalities.

    Raises:
        ConfigError: a modality that a table lacks.
        DataError: keys that differ, or a modality whose embeddings are (mostly) all equal.
    """
    names = modalities_of(config)
    for table in (target, reference):
        for name in names:
            _values(table, name)
    device = device_of(config.device)
    keys = _subsample(reference.keys, max_samples, config.seed)
    roles = {"target": target.select(keys), "reference": reference.select(keys)}
    if config.sigma != "auto":
        kernel = Kernel({name: float(config.sigma) for name in names})
        leading = {
            role: _leading_eigenvalue(kernel.matrix(table, device=device, dtype=torch.float32))
            for role, table in roles.items()
        }
        return KernelPair(kernel, kernel, {}, leading, f"sigma = {config.sigma:g} for both models, as configured")
    medians: dict[str, dict[str, float]] = {}
    scaled: dict[str, torch.Tensor] = {}  # role -> sum over modalities of d^2 / 2 median^2, (m, m)
    for role, table in roles.items():
        medians[role], scaled[role] = _median_scaled(table, names, role, device)

    def leading_at(role: str, multiplier: float) -> float:
        return _leading_eigenvalue(torch.exp(scaled[role] / -(multiplier**2)))

    goal = leading_at("reference", AUTO_MULTIPLIER)
    multiplier, reached = _match(lambda c: leading_at("target", c), goal, AUTO_MULTIPLIER)
    agreed = abs(reached / goal - 1) <= AGREEMENT
    rule = (
        f"reference {AUTO_MULTIPLIER:g} x its median distance, target {multiplier:.4g} x its own"
        + (", leading eigenvalues within 5 %" if agreed else "; the leading eigenvalues could not be made to agree")
        + f" ({len(keys)} samples)"
    )
    return KernelPair(
        target=Kernel({name: multiplier * medians["target"][name] for name in names}),
        reference=Kernel({name: AUTO_MULTIPLIER * medians["reference"][name] for name in names}),
        median_distances=medians,
        leading_eigenvalues={"target": reached, "reference": goal},
        rule=rule,
    )


def _subsample(keys: Sequence[str], size: int, seed: int) -> list[str]:
    """Draw keys from their sorted order, so that the order of the rows does not matter."""
    ordered = sorted(keys)
    if len(ordered) <= size:
        return ordered
    rows = np.sort(np.random.default_rng(seed).choice(len(ordered), size=size, replace=False))
    return [ordered[row] for row in rows]


def _median_scaled(
    table: EmbeddingTable, names: tuple[str, ...], role: str, device: torch.device
) -> tuple[dict[str, float], torch.Tensor]:
    """Return the median distances, and the sum of squared distances over twice their squares, (m, m) float32."""
    m = table.n
    medians: dict[str, float] = {}
    total = torch.zeros(m, m, device=device)
    upper = torch.triu_indices(m, m, 1, device=device)
    for name in names:
        values = torch.as_tensor(_values(table, name)).to(device=device, dtype=torch.float64)  # (m, d)
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


def _leading_eigenvalue(kernel: torch.Tensor, steps: int = 40, tolerance: float = 1e-5) -> float:
    """Return the leading eigenvalue of ``kernel / n`` by Lanczos steps.

    The entries are positive, so the leading eigenvector has one sign: the constant vector is a good
    start, never orthogonal to it, and no seed is needed.
    """
    n = kernel.shape[0]
    q = torch.full((n,), n**-0.5, device=kernel.device, dtype=kernel.dtype)  # (n,)
    basis = torch.empty(0, n, device=kernel.device, dtype=kernel.dtype)  # (k, n)
    diagonal: list[float] = []
    off: list[float] = []
    previous = 0.0
    for _ in range(min(steps, n)):
        basis = torch.cat([basis, q[None]])
        y = kernel @ q
        diagonal.append(float(q @ y))
        for _ in range(2):
            y -= basis.T @ (basis @ y)
        small = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)  # (k, k)
        value = float(np.linalg.eigvalsh(small)[-1])
        norm = float(y.norm())
        if abs(value - previous) <= tolerance * value or norm <= tolerance * value:
            previous = value
            break
        previous = value
        off.append(norm)
        q = y / norm
    return previous / n
