"""Kernels over image-text pairs.

``k((u, v), (u', v')) = k_image(u, u') k_text(v, v')``; image only and text only are the same with one factor
(paper 2606.04180, section 5). Per modality, with ``cos = u'u' / |u||u'|``:

- gaussian: ``exp(-||u - u'||^2 / 2 sigma^2)``
- cosine: ``cos``
- polynomial: ``((1 + cos) / 2)^3``

All have ``k(z, z) = 1``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from koda.embeddings import TableInMemory, TableLike
from koda.errors import ConfigError, DataError

KernelKind = Literal["gaussian", "cosine", "polynomial"]

_BLOCK_ELEMENTS = 8_388_608  # entries of a row block


def need(table: TableLike, modality: str) -> None:
    """Refuse a table without that modality.

    Raises:
        ConfigError: always then.
    """
    if modality not in table.modalities:
        have = " and ".join(table.modalities)
        raise ConfigError(
            f"{modality} embeddings are needed, but the table holds only {have} embeddings.",
            f"Set discrepancy.modality to {have}, or embed the {modality}s too.",
        )


def values_of(table: TableInMemory, modality: str) -> np.ndarray:
    """Return the embeddings (n, d) of one modality.

    Raises:
        ConfigError: a modality that the table lacks.
    """
    need(table, modality)
    return np.asarray(getattr(table, modality))


@dataclass(frozen=True)
class Kernel:
    """Positive definite kernel on one modality, or the product of two.

    Args:
        sigmas: bandwidth by modality ("image", "text"); both give the joint kernel. The cosine and the
            polynomial kernel have no bandwidth: the modalities are mapped to None.
        kind: "gaussian", "cosine" or "polynomial", the same for all modalities.

    The gaussian kernel takes the embeddings as they are; the others see their directions only.

    Raises:
        ConfigError: an unknown kind or modality, or a bandwidth that the kind does not have or lacks.

    >>> Kernel({"image": None, "text": None}, kind="cosine").modalities
    ('image', 'text')
    """

    sigmas: Mapping[str, float | None]
    kind: KernelKind = "gaussian"

    def __post_init__(self) -> None:
        kinds = get_args(KernelKind)
        if self.kind not in kinds:
            raise ConfigError(f"kernel: {self.kind!r} is not known.", f"Use one of {', '.join(kinds)}.")
        sigmas = {name: self.sigmas[name] for name in ("image", "text") if name in self.sigmas}
        if len(sigmas) != len(self.sigmas) or not sigmas:
            raise ConfigError(f"A kernel is over image, text or both, not {sorted(self.sigmas)}.")
        for name, sigma in sigmas.items():
            if self.kind == "gaussian":
                sigmas[name] = _bandwidth(name, sigma)
            elif sigma is not None:
                raise ConfigError(
                    f"sigma: the {self.kind} kernel has no bandwidth, but {sigma} is given for the {name}s.",
                    "sigma is for the gaussian kernel; map the modality to None.",
                )
        object.__setattr__(self, "sigmas", sigmas)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities the kernel looks at."""
        return tuple(self.sigmas)

    @property
    def bandwidths(self) -> dict[str, float]:
        """The bandwidth of each modality; empty for kernels without one."""
        return {name: sigma for name, sigma in self.sigmas.items() if sigma is not None}

    def matrix(
        self,
        x: TableInMemory,
        y: TableInMemory | None = None,
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
            DataError: tables of different dimensions, or embeddings that the kernel cannot use (not
                finite, too large to be squared, or zero where only their direction counts).
        """
        factors = self._factors(x, x if y is None else y, torch.device(device), dtype)
        n, m = x.n, (x if y is None else y).n
        result = torch.empty(n, m, device=device, dtype=dtype)  # (n, m)
        rows = max(1, _BLOCK_ELEMENTS // max(m, 1))
        for i in range(0, n, rows):
            j = min(i + rows, n)
            start = i if y is None else 0  # the lower triangle is copied from the upper
            block = factors[0](slice(i, j), slice(start, m))  # (rows, m - start)
            for factor in factors[1:]:
                block.mul_(factor(slice(i, j), slice(start, m)))
            if y is None:
                square = block[:, : j - i]
                square.copy_((square + square.T) / 2).fill_diagonal_(1)
                result[i:j, i:] = block
                result[j:, i:j] = block[:, j - i :].T
            else:
                result[i:j] = block
        return result

    def _factors(
        self, x: TableInMemory, y: TableInMemory, device: torch.device, dtype: torch.dtype
    ) -> list[Callable[[slice, slice], torch.Tensor]]:
        """Return functions of (rows, columns) whose product is that block of the kernel matrix."""
        if dimensions(self, x) != dimensions(self, y):
            raise DataError(
                f"The two tables have {dimensions(self, x)} and {dimensions(self, y)} dimensions.",
                "A kernel is between samples of the same model.",
            )
        if self.kind == "gaussian":  # one factor: distances over the bandwidths add up
            u = scaled_embeddings(self, x, device, dtype)  # (n, d)
            w = u if y is x else scaled_embeddings(self, y, device, dtype)  # (m, d)
            return [_gaussian(u, w)]
        factors = []
        for name in self.modalities:
            u = unit_embeddings(x, name, device, dtype)  # (n, d)
            w = u if y is x else unit_embeddings(y, name, device, dtype)  # (m, d)
            factors.append(_of_cosines(u, w, self.kind))
        return factors


def _bandwidth(name: str, sigma: float | None) -> float:
    if sigma is None or not (math.isfinite(sigma) and sigma > 0):
        raise ConfigError(f"sigma: the {name} bandwidth is {sigma}; it must be positive.")
    return float(sigma)


def _gaussian(u: torch.Tensor, w: torch.Tensor) -> Callable[[slice, slice], torch.Tensor]:
    """Return blocks of exp(-||u_i - w_j||^2 / 2)."""
    centre = w.mean(0)  # a shift leaves the distances alone, and less of them cancels
    same = w is u
    u = u - centre
    w = u if same else w - centre
    half_u, half_w = u.square().sum(1) / 2, w.square().sum(1) / 2  # (n,), (m,)
    if not bool(half_u.isfinite().all() and half_w.isfinite().all()):
        raise DataError(
            "Some embeddings are not finite, or too large for their squared distances to be computed.",
            "Leave them out; EmbeddingTable.invalid_rows() names rows with NaN or infinity.",
        )

    def block(rows: slice, columns: slice) -> torch.Tensor:
        exponents = torch.addmm(half_w[None, columns], u[rows], w[columns].T, alpha=-1)
        return exponents.add_(half_u[rows, None]).clamp_(min=0).neg_().exp_()

    return block


def _of_cosines(u: torch.Tensor, w: torch.Tensor, kind: KernelKind) -> Callable[[slice, slice], torch.Tensor]:
    """Return blocks of the cosines of unit vectors, or of the polynomial in them."""

    def block(rows: slice, columns: slice) -> torch.Tensor:
        cosines = (u[rows] @ w[columns].T).clamp_(-1, 1)
        return cosines if kind == "cosine" else cosines.add_(1).div_(2).pow_(3)

    return block


def dimensions(kernel: Kernel, table: TableLike) -> tuple[int, ...]:
    """Return the dimension of each modality that the kernel looks at.

    Raises:
        ConfigError: a modality that the table lacks.
    """
    for name in kernel.modalities:
        need(table, name)
    return tuple(int(table.dims[name]) for name in kernel.modalities)


def scaled_embeddings(
    kernel: Kernel, table: TableInMemory, device: torch.device | str, dtype: torch.dtype
) -> torch.Tensor:
    """Return the embeddings over their bandwidths, side by side: the kernel is Gaussian with sigma 1 on them."""
    parts = [
        torch.as_tensor(values_of(table, name)).to(device=device, dtype=dtype) / sigma
        for name, sigma in kernel.bandwidths.items()
    ]
    return torch.cat(parts, dim=1)  # (n, d)


def unit_embeddings(
    table: TableInMemory, modality: str, device: torch.device | str, dtype: torch.dtype
) -> torch.Tensor:
    """Return the embeddings of one modality over their lengths, (n, d).

    Raises:
        ConfigError: a modality that the table lacks.
        DataError: an embedding that is zero or not finite, and so has no direction.
    """
    values = torch.as_tensor(values_of(table, modality)).to(device=device, dtype=torch.float64)  # (n, d)
    largest = values.abs().amax(1, keepdim=True)  # (n, 1); divided out first: squares neither overflow nor vanish
    bad = ~(largest.isfinite() & (largest > 0))[:, 0]  # (n,)
    if bool(bad.any()):
        key = table.keys[int(bad.nonzero()[0, 0])]
        raise DataError(
            f"{int(bad.sum())} {modality} embeddings are zero or not finite, the first is that of {key!r}.",
            "They have no direction; leave them out.",
        )
    values = values / largest
    unit: torch.Tensor = values / torch.linalg.vector_norm(values, dim=1, keepdim=True)
    return unit.to(dtype)
