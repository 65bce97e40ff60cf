"""What every feature map can do, and the small functions that maps share."""

from __future__ import annotations

from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch

from koda.embeddings import TableInMemory
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel, KernelKind, dimensions

FeatureKind = Literal["orf", "rff", "sketch", "tensorsketch"]
KINDS_OF: dict[KernelKind, tuple[FeatureKind, ...]] = {
    "gaussian": ("orf", "rff"),
    "cosine": ("sketch", "tensorsketch"),
    "polynomial": ("sketch", "tensorsketch"),
}  # the first is the default


@runtime_checkable
class FeatureMap(Protocol):
    """Explicit features phi of a kernel: ``k(z, z') ~ phi(z)'phi(z')``.

    Attributes:
        kernel: the kernel that is approximated.
        kind: how; one of "orf", "rff", "sketch", "tensorsketch".
        seed: of the draw.
        dims: dimension of each modality of the tables that the map is for.
        width: number of coordinates.
        bounded: whether :meth:`integers` gives the features as int8, exactly reproducibly.
        scale: what the integers are to be divided by.
    """

    @property
    def kernel(self) -> Kernel: ...  # noqa: D102

    @property
    def kind(self) -> FeatureKind: ...  # noqa: D102

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def dims(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def bounded(self) -> bool: ...  # noqa: D102

    @property
    def scale(self) -> float: ...  # noqa: D102

    def __call__(
        self, table: TableInMemory, *, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float64
    ) -> torch.Tensor:
        """Return the features (n, width)."""

    def integers(self, table: TableInMemory, *, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return scale x features as int8 (n, width); only where ``bounded``."""

    def digest(self) -> str:
        """Return a digest that is the same for maps that give the same features."""


def check_kind(kernel: Kernel, kind: str | None) -> FeatureKind:
    """Return the kind of features, by default the first that suits the kernel.

    Raises:
        ConfigError: an unknown kind, or one for another kernel.
    """
    right = KINDS_OF[kernel.kind]
    if kind is None:
        return right[0]
    for name in right:
        if name == kind:
            return name
    if kind not in get_args(FeatureKind):
        raise ConfigError(f"features: {kind!r} is not known.", f"Use {' or '.join(right)}.")
    raise ConfigError(
        f"features: {kind} do not approximate the {kernel.kind} kernel.", f"Use {' or '.join(right)}, or exact."
    )


def check_dims(feature_map: FeatureMap, table: TableInMemory) -> None:
    """Refuse a table that the map was not drawn for.

    Raises:
        ConfigError: a modality that the table lacks.
        DataError: a table of other dimensions.
    """
    dims = dimensions(feature_map.kernel, table)
    if dims != feature_map.dims:
        raise DataError(
            f"The feature map is for embeddings of {_words(feature_map.dims)} dimensions, "
            f"the table has {_words(dims)}.",
            "Draw the map for this model.",
        )


def generator(seed: int, dims: tuple[int, ...]) -> np.random.Generator:
    """Return the generator of a draw: it depends on the seed and the dimensions, not on the model."""
    return np.random.default_rng((seed, *dims))


def _words(dims: tuple[int, ...]) -> str:
    return " and ".join(map(str, dims))
