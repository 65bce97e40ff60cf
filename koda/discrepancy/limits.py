"""The limit eps on the reference energy: by share, by quantile, or as a number (method of paper 2606.04180, 6)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from koda.config import DiscrepancyConfig
from koda.discrepancy.solver.dense import check_eps
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
    config: DiscrepancyConfig, reference: torch.Tensor, n: int, spectrum: Callable[[], Spectrum]
) -> tuple[float, str]:
    """Return eps and the rule that set it, in words.

    - ``max_reference_share`` s: eps = (1 + s (n - 1)) / n, the energy of a perfectly tied group of that share;
    - ``eps_quantile`` q: the q-quantile of the non-zero eigenvalues of the reference form;
    - ``eps``: as given.

    Args:
        reference: (m, m) symmetric, K_B / n or the same form in the coordinates of a feature map.
        n: number of samples.
        spectrum: gives the spectrum of the reference, where it is needed.

    Raises:
        ConfigError: a limit of 0, or one that rounding alone decides.
    """
    if config.max_reference_share is not None:
        share = config.max_reference_share
        return (1 + share * (n - 1)) / n, f"a reference share of at most {share:g}"
    if config.eps_quantile is not None:
        q, found = config.eps_quantile, spectrum()
        return found.quantile(q), f"the {q:g}-quantile of the non-zero reference eigenvalues ({found.how})"
    assert config.eps is not None  # the configuration sets one of the three
    check_eps(config.eps)
    blur = _blur(reference)
    if config.eps <= blur:
        offer = spectrum().quantile(0.5)
        raise ConfigError(
            f"eps = {config.eps:g} is under what rounding hides in the reference kernel ({blur:.1e}), so it is 0.",
            f"Use a larger eps; the median of the non-zero reference eigenvalues, eps_quantile: 0.5, is {offer:.3g}.",
        )
    return config.eps, "as configured"


def at_size(config: DiscrepancyConfig, n: int, m: int) -> DiscrepancyConfig:
    """Return the configuration whose limit means for m samples what it meant for n.

    Shares and quantiles do so by themselves; an absolute eps keeps its coherent share,
    ``(n eps - 1) / (n - 1) = (m eps' - 1) / (m - 1)``.
    """
    if config.eps is None or m == n:
        return config
    return config.model_copy(update={"eps": (1 + (n * config.eps - 1) / (n - 1) * (m - 1)) / m})


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
