"""Random projections of tensor products: features of the cosine and the polynomial kernel.

A product of inner products is an inner product of tensor products. The cosine kernel is ``<u, u'>`` of unit vectors,
the polynomial one is ``<f, f'>^3`` with ``f = [u, 1] / sqrt 2``, for ``<f, f'> = (1 + cos) / 2``. The joint
kernel is the product over the factors f_1 ... f_p of both modalities; two ways to project their tensor product
onto m = 2 r coordinates without forming it, both unbiased, ``E phi(z)'phi(z') = k(z, z')``:

- sketch: ``phi = m^-1/2 (R_1 f_1) * ... * (R_p f_p)``, coordinate by coordinate, with independent random signs in R;
- tensorsketch: ``phi = F^-1 (F C_1 f_1 * ... * F C_p f_p)``, F the discrete Fourier transform and C count sketches
  (Pham and Pagh 2013), which costs O(d + m log m) a sample in place of O(d m).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from koda.embeddings import TableInMemory
from koda.errors import DataError
from koda.kernels import Kernel, unit_embeddings
from koda.kernels.features.base import FeatureKind, check_dims, generator
from koda.storage import digest_json

_POWER = {"cosine": 1, "polynomial": 3}


@dataclass(frozen=True, eq=False)
class SketchMap:
    """Features of a cosine or polynomial kernel by random projection of a tensor product.

    Args:
        kernel: the kernel that is approximated.
        r: 2 r coordinates.
        kind: "sketch" or "tensorsketch".
        seed: of the projections.
        dims: dimension of each modality.

    A cosine kernel on one modality of at most 2 r dimensions needs no projection: the features are the unit
    vectors themselves, the map is exact and ``width`` is their dimension.
    """

    kernel: Kernel
    r: int
    kind: FeatureKind
    seed: int
    dims: tuple[int, ...]

    bounded = False
    scale = 1.0

    @property
    def exact(self) -> bool:
        """Whether the features reproduce the kernel without error."""
        return self.kernel.kind == "cosine" and len(self.dims) == 1 and self.dims[0] <= 2 * self.r

    @property
    def width(self) -> int:
        """Number of coordinates: 2 r, or the dimension of the embeddings where the map is exact."""
        return self.dims[0] if self.exact else 2 * self.r

    def digest(self) -> str:
        """Return the digest of the kernel and of the projections."""
        state = hashlib.sha256()
        for factor in [] if self.exact else self._projections:
            for part in factor:
                state.update(part.numpy().tobytes())
        return digest_json(
            {
                "map": "sketch",
                "kind": "exact" if self.exact else self.kind,
                "kernel": [self.kernel.kind, self.kernel.modalities],
                "dims": self.dims,
                "width": self.width,
                "projections": state.hexdigest(),
            }
        )

    def __call__(
        self, table: TableInMemory, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Return the features (n, width).

        Raises:
            ConfigError: a modality that the table lacks.
            DataError: a table of other dimensions than the map was drawn for, or an embedding that is zero or
                not finite.
        """
        check_dims(self, table)
        device = torch.device(device)
        projections = [] if self.exact else list(self._projections)
        product: torch.Tensor | None = None
        for name in self.kernel.modalities:
            factor = unit_embeddings(table, name, device, dtype)  # (n, d)
            if self.exact:
                return factor
            if self.kernel.kind == "polynomial":
                factor = torch.cat([factor, factor.new_ones(table.n, 1)], 1).mul_(0.5**0.5)  # (n, d + 1)
            for _ in range(_POWER[self.kernel.kind]):
                signs, cells = projections.pop(0)
                if self.kind == "sketch":
                    part = factor @ signs.to(device=device, dtype=dtype)  # (n, m)
                else:
                    part = torch.fft.rfft(self._counts(factor, signs, cells), dim=0)  # (m / 2 + 1, n)
                product = part if product is None else product.mul_(part)
        assert product is not None  # a kernel has a modality
        if self.kind == "sketch":
            return product.mul_((2 * self.r) ** -0.5)
        sketch: torch.Tensor = torch.fft.irfft(product, n=2 * self.r, dim=0).T.contiguous()
        return sketch

    def integers(self, table: TableInMemory, *, device: torch.device | str = "cpu") -> torch.Tensor:
        """Refuse: these features are not bounded, so no fixed scale makes integers of them.

        Raises:
            DataError: always.
        """
        raise DataError(
            f"The {self.kind} features of the {self.kernel.kind} kernel are not bounded, so there are no integers.",
            "Use the features themselves.",
        )

    def _counts(self, factor: torch.Tensor, signs: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Return the count sketch of a factor, (m, n): each coordinate with its sign into its cell."""
        signed = (factor * signs.to(factor)).T.contiguous()  # (d, n)
        return factor.new_zeros(2 * self.r, factor.shape[0]).index_add_(0, cells.to(factor.device), signed)

    @cached_property
    def _projections(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The projection of each factor: signs int8 (d, m) for sketch; signs (d,) and cells (d,) for tensorsketch."""
        rng = generator(self.seed, self.dims)
        power, m = _POWER[self.kernel.kind], 2 * self.r
        projections = []
        for d in self.dims:
            for _ in range(power):
                size = d + (self.kernel.kind == "polynomial")
                shape = (size, m) if self.kind == "sketch" else (size,)
                signs = torch.from_numpy(2 * rng.integers(0, 2, shape, dtype=np.int8) - 1)
                cells = rng.integers(0, m, size if self.kind == "tensorsketch" else 0, dtype=np.int64)
                projections.append((signs, torch.from_numpy(cells)))
        return projections
