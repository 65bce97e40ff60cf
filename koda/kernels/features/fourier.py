"""Random Fourier features of the joint Gaussian kernel, as integers that every machine agrees on.

``phi(u, v) = r^-1/2 [cos(w_i'u + s_i'v), sin(w_i'u + s_i'v)]_{i = 1..r}`` in R^{2r}, with (w, s) such that
``E phi(z)'phi(z') = k(z, z')`` (paper 2606.04180, section 5).

The features are *defined* by integer arithmetic, so that they do not depend on the order of a sum. With z the
embeddings over their bandwidths and W the frequencies ::

    zi = round(2^10 z),   wi = round(2^8 W / 2 pi),   phase = zi wi     in units of 2^-18 turns
    features = round(127 cos phase), round(127 sin phase)               over 127 sqrt(r)

A phase in turns is reduced by dropping its whole part, a mask of the low bits, and cosine and sine come from a table
of 2^14 steps a turn: nothing is rounded but what the definition rounds. Each partial sum of ``zi wi`` is an
integer of at most ``|zi| |wi|`` (Cauchy-Schwarz), hence exact in float32 where that is under 2^24, in float64 under
2^53. What the rounding costs beside the sampling error of r frequencies, r^-1/2: z moves by 3e-4 bandwidths a
coordinate, the bandwidth of the kernel by 3e-5 of itself, a feature by 2e-3 of its largest value.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import torch

from koda.embeddings import TableInMemory
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel
from koda.kernels.features.base import FeatureKind, check_dims
from koda.storage import digest_json

LEVEL = 127  # the integer that stands for 1
_Z_BITS, _W_BITS = 10, 8  # z in steps of 2^-10 bandwidths, frequencies in steps of 2^-8 turns
_TABLE_BITS = 14  # steps of the table of cosines and sines, 4e-4 rad
_SHIFT = _Z_BITS + _W_BITS - _TABLE_BITS
_EXACT_FP32, _EXACT_FP64 = 2.0**24, 2.0**53
_SLACK = 1.01  # norms are computed in floating point; this much more is surely a bound
_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}  # phases that are computed at a time, by device
_LOWER_PRECISION = {  # settings of the libraries under torch that make a float32 product inexact
    "NVIDIA_TF32_OVERRIDE": ("", "0"),
    "CUBLAS_EMULATE_SINGLE_PRECISION": ("", "0"),
    "ONEDNN_DEFAULT_FPMATH_MODE": ("", "STRICT"),
    "DNNL_DEFAULT_FPMATH_MODE": ("", "STRICT"),
}


@dataclass(frozen=True, eq=False)
class FourierMap:
    """Random Fourier features of a Gaussian kernel: bounded, and the same bits on every machine.

    Args:
        kernel: the kernel that is approximated.
        frequencies: (d, r) float64, of unit bandwidth, d the dimensions of all modalities together.
        kind: "orf" or "rff".
        seed: of the frequencies.
        dims: dimension of each modality.

    ``phi(z)'phi(z)`` is 1 to some 1e-3, the rounding of the features.
    """

    kernel: Kernel
    frequencies: torch.Tensor
    kind: FeatureKind
    seed: int
    dims: tuple[int, ...]
    _kept: dict[tuple[str, torch.dtype], torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    bounded = True

    @property
    def r(self) -> int:
        """Number of frequencies."""
        return int(self.frequencies.shape[1])

    @property
    def width(self) -> int:
        """Number of coordinates, 2 r."""
        return 2 * self.r

    @property
    def scale(self) -> float:
        """What the integers are to be divided by: 127 sqrt(r)."""
        return LEVEL * math.sqrt(self.r)

    def digest(self) -> str:
        """Return the digest of the kernel and of the frequencies as they are used, rounded."""
        steps = self._steps(torch.device("cpu"), torch.float64).to(torch.int32).numpy()
        return digest_json(
            {
                "map": "fourier",
                "bits": [_Z_BITS, _W_BITS, _TABLE_BITS, LEVEL],
                "kind": self.kind,
                "kernel": [self.kernel.kind, self.kernel.bandwidths],
                "dims": self.dims,
                "r": self.r,
                "frequencies": hashlib.sha256(steps.astype("<i4").tobytes()).hexdigest(),
            }
        )

    def __call__(
        self, table: TableInMemory, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Return the features (n, 2r), cosines before sines.

        Raises:
            ConfigError: a modality that the table lacks.
            DataError: a table of other dimensions than the map was drawn for, embeddings that are not
                finite, or a bandwidth far too narrow for them.
        """
        return self.integers(table, device=device).to(dtype).div_(self.scale)

    def integers(self, table: TableInMemory, *, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return 127 cos and 127 sin of the phases, rounded: int8 (n, 2r), cosines before sines.

        A row gives the same integers in whatever chunk, on whatever device, in single as in double precision
        embeddings of the same values.

        Raises:
            as :meth:`__call__`.
        """
        check_dims(self, table)
        device = torch.device(device)
        r = self.r
        result = torch.empty(table.n, 2 * r, dtype=torch.int8, device=device)  # (n, 2r)
        pairs = _cosines_and_sines(str(device))
        rows = max(1, _ELEMENTS.get(device.type, 1 << 21) // max(r, sum(self.dims)))
        for start in range(0, table.n, rows):
            index = self._steps_of_turn(table, slice(start, start + rows), device)  # (rows, r) int32
            both = pairs.index_select(0, index.reshape(-1)).view(torch.int8).reshape(-1, r, 2)
            result[start : start + rows, :r] = both[:, :, 0]
            result[start : start + rows, r:] = both[:, :, 1]
        return result

    def _steps_of_turn(self, table: TableInMemory, rows: slice, device: torch.device) -> torch.Tensor:
        """Return the phases less their whole turns, in steps of the table, (n, r) int32."""
        steps = [
            torch.as_tensor(getattr(table, name)[rows])
            .to(device=device, dtype=torch.float64)
            .mul(2.0**_Z_BITS / sigma)
            .round_()
            for name, sigma in self.kernel.bandwidths.items()
        ]
        zi = torch.cat(steps, 1) if len(steps) > 1 else steps[0]  # (n, d)
        single = zi.float()
        largest = float(torch.linalg.vector_norm(single, dim=1).amax())
        if not math.isfinite(largest):  # too much for float32, or not finite at all
            largest = float(torch.linalg.vector_norm(zi, dim=1).amax())
        bound = _SLACK * largest * max(1.0, self._longest)
        mask = (1 << _TABLE_BITS) - 1
        if bound < _EXACT_FP32 and _float32_is_exact(device):
            phase = single @ self._steps(device, torch.float32)  # (n, r), integers
            return phase.to(torch.int32).bitwise_right_shift_(_SHIFT).bitwise_and_(mask)
        if bound < _EXACT_FP64:
            phase = zi @ self._steps(device, torch.float64)
            return phase.to(torch.int64).bitwise_right_shift_(_SHIFT).bitwise_and_(mask).to(torch.int32)
        if not math.isfinite(largest):
            raise DataError(
                "Some embeddings are not finite, or too large for their bandwidth.",
                "Leave them out; EmbeddingTable.invalid_rows() names rows with NaN or infinity.",
            )
        sigmas = " and ".join(f"{sigma:g} for the {name}s" for name, sigma in self.kernel.bandwidths.items())
        raise DataError(
            f"The bandwidth ({sigmas}) is far too narrow: an embedding is {largest / 2**_Z_BITS:.1e} bandwidths long.",
            "Use a larger discrepancy.sigma, or auto.",
        )

    def _steps(self, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        """Return the frequencies in steps of 2^-8 turns, (d, r), integers in floating point."""
        key = (str(device), dtype)
        if key not in self._kept:
            steps = (self.frequencies.cpu() * (2.0**_W_BITS / (2 * math.pi))).round_()
            self._kept[key] = steps.to(device=device, dtype=dtype)
        return self._kept[key]

    @cached_property
    def _longest(self) -> float:
        """Return the largest norm of a frequency, in steps."""
        return float(torch.linalg.vector_norm(self._steps(torch.device("cpu"), torch.float64), dim=0).amax())


@cache
def _cosines_and_sines(device: str) -> torch.Tensor:
    """Return round(127 cos) and round(127 sin) at the middle of each step, int8 pairs packed as int16, (2^14,)."""
    angles = (np.arange(1 << _TABLE_BITS) + 0.5) * (2 * np.pi / (1 << _TABLE_BITS))
    pairs = np.rint(LEVEL * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.int8)  # (2^14, 2)
    return torch.from_numpy(pairs).view(torch.int16).reshape(-1).to(device)


def _float32_is_exact(device: torch.device) -> bool:
    """Say whether float32 products are IEEE ones: neither torch nor a library under it was told to use fewer bits."""
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    if getattr(backend.matmul, "fp32_precision", "") not in ("none", "ieee"):
        return False
    return all(os.environ.get(name, "").upper() in right for name, right in _LOWER_PRECISION.items())


def draw_frequencies(d: int, r: int, kind: str, seed: int | tuple[int, ...]) -> torch.Tensor:
    """Return (d, r) frequencies, each N(0, I_d) by itself.

    "rff": independent. "orf": in blocks of d, orthogonal directions of a Haar rotation with lengths of
    chi_d, which makes the kernel error smaller at equal r (orthogonal random features).
    """
    rng = np.random.default_rng(seed)
    if kind == "rff":
        return torch.from_numpy(rng.standard_normal((d, r)))
    if kind != "orf":
        raise ConfigError(f"features: {kind!r} is not known.", "Use orf or rff.")
    blocks = []
    for start in range(0, r, d):
        size = min(d, r - start)
        q, upper = np.linalg.qr(rng.standard_normal((d, d))[:, :size])
        q = q * np.where(np.diag(upper) < 0, -1.0, 1.0)  # (d, size), columns of a Haar rotation
        blocks.append(q * np.sqrt(rng.chisquare(d, size=size)))
    return torch.from_numpy(np.concatenate(blocks, axis=1))
