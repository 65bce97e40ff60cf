"""The spectrum of the reference, and the limit as a number: what a limit means once the forms are known.

Source: method of paper 2606.04180, section 6.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import assert_never

import numpy as np
import torch

from koda.discrepancy.limits import EnergyLimit, FixedWeight, Limit, QuantileLimit, ShareLimit, SolverLimit
from koda.discrepancy.solver.numerics import UNIT
from koda.errors import ConfigError

EXACT_SPECTRUM = 3072  # rows up to which the quantile comes from all eigenvalues


@dataclass(frozen=True)
class Spectrum:
    """The non-zero eigenvalues of a PSD matrix: all of them, or a quadrature of their distribution.

    Args:
        nodes: ascending.
        weights: None where the nodes are the eigenvalues themselves.
        how: in words.
    """

    nodes: np.ndarray
    weights: np.ndarray | None
    how: str

    @classmethod
    def of(cls, matrix: torch.Tensor, seed: int) -> Spectrum:
        """Take the spectrum exactly for small matrices, else by stochastic Lanczos quadrature.

        The quadrature uses 8 probes and 50 steps; its quantiles are typically within 10 %.
        """
        blur = _blur(matrix)
        if matrix.shape[0] <= EXACT_SPECTRUM:
            values = torch.linalg.eigvalsh(matrix).cpu().numpy()  # (m,)
            return cls(values[values > blur], None, "all eigenvalues")
        nodes, weights = _lanczos_quadrature(matrix, probes=8, steps=50, seed=seed)
        keep = nodes > blur
        order = np.argsort(nodes[keep])
        return cls(nodes[keep][order], weights[keep][order], "stochastic Lanczos quadrature")

    def quantile(self, q: float) -> float:
        """Return the q-quantile."""
        if self.weights is None:
            return float(np.quantile(self.nodes, q))
        middle = (np.cumsum(self.weights) - self.weights / 2) / self.weights.sum()
        return float(np.exp(np.interp(q, middle, np.log(self.nodes))))


def limit_of(
    limit: Limit, reference: torch.Tensor, n: int, tie: float, spectrum: Callable[[], Spectrum]
) -> tuple[SolverLimit, str]:
    """Return the limit as the solvers take it, and the rule that set it, in words.

    Args:
        limit: as configured.
        reference: (m, m) symmetric, K_B / n or the same form in the coordinates of a feature map.
        n: number of samples.
        tie: typical tie of the reference's kernel.
        spectrum: gives the spectrum of the reference, where it is needed.

    Raises:
        ConfigError: a limit of 0, or one that rounding alone decides.
    """
    match limit:
        case FixedWeight(eta):
            return limit, f"none: spec, eta = {eta:g}"
        case ShareLimit(share):
            return limit.energy(n, tie), f"a reference share of at most {share:g}"
        case QuantileLimit(quantile):
            eigenvalues = spectrum()
            rule = f"the {quantile:g}-quantile of the non-zero reference eigenvalues ({eigenvalues.how})"
            return EnergyLimit(eigenvalues.quantile(quantile)), rule
        case EnergyLimit(eps):
            blur = _blur(reference)
            if eps <= blur:
                offer = spectrum().quantile(0.5)
                raise ConfigError(
                    f"eps = {eps:g} is under what rounding hides in the reference kernel ({blur:.1e}), so it is 0.",
                    "Use a larger eps; the median of the non-zero reference eigenvalues, eps_quantile: 0.5, is "
                    f"{offer:.3g}.",
                )
            return limit, "as configured"
        case _:
            assert_never(limit)


def _blur(matrix: torch.Tensor) -> float:
    """Return the size under which an eigenvalue cannot be told from 0 (the trace bounds the largest)."""
    m = matrix.shape[0]
    return 4 * math.sqrt(m) * UNIT * max(float(matrix.norm()), 1e-300)


def _lanczos_quadrature(matrix: torch.Tensor, probes: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights of the spectral distribution: Lanczos with full orthogonalisation on random signs."""
    m = matrix.shape[0]
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(m, probes))
    q = torch.as_tensor(signs).to(matrix.device) / m**0.5  # (m, probes)
    steps = min(steps, m)
    basis = torch.zeros(steps, m, probes, device=matrix.device, dtype=matrix.dtype)
    diagonal, off = np.zeros((steps, probes)), np.zeros((steps, probes))
    for step in range(steps):
        basis[step] = q
        y = matrix @ q
        diagonal[step] = (q * y).sum(0).cpu().numpy()
        for _ in range(2):
            y = y - torch.einsum("smp,sp->mp", basis[: step + 1], torch.einsum("smp,mp->sp", basis[: step + 1], y))
        norm = y.norm(dim=0)
        off[step] = norm.cpu().numpy()
        q = y / norm.clamp_min(1e-300)
    nodes, weights = [], []
    for p in range(probes):
        broken = np.flatnonzero(off[:, p] <= 1e-14)  # an invariant subspace: the quadrature is exact there
        size = int(broken[0]) + 1 if broken.size else steps
        side = off[: size - 1, p]
        values, vectors = np.linalg.eigh(np.diag(diagonal[:size, p]) + np.diag(side, 1) + np.diag(side, -1))
        nodes.append(values)
        weights.append(vectors[0] ** 2 / probes)
    return np.concatenate(nodes), np.concatenate(weights)
