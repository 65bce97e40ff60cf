"""Embeddings of one model over a set of samples, joined between models by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.errors import DataError

FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def _matrix(values: ArrayLike, what: str, n: int) -> FloatArray:
    """Check one modality's embeddings and return them as a floating (n, d) array."""
    if hasattr(values, "detach"):  # a torch tensor, without importing torch
        tensor = values.detach().cpu()
        values = tensor.float().numpy() if not tensor.dtype.is_floating_point else _to_numpy(tensor)
    array = np.asarray(values)
    if array.ndim != 2:
        raise DataError(
            f"The {what} embeddings have shape {array.shape}; a matrix (samples, dimensions) is needed.",
            "Pass one row per key.",
        )
    if array.shape[0] != n:
        raise DataError(
            f"There are {n} keys but {array.shape[0]} rows of {what} embeddings.",
            "Keys and rows must correspond one to one.",
        )
    if array.shape[1] == 0:
        raise DataError(f"The {what} embeddings have no dimensions.", "Check the file they came from.")
    if array.dtype.kind not in "fiu":
        raise DataError(f"The {what} embeddings have type {array.dtype}; numbers are needed.")
    if array.dtype.kind != "f":
        array = array.astype(np.float32)
    return array


def _to_numpy(tensor: Any) -> FloatArray:
    """Convert a tensor to numpy; bfloat16, which numpy lacks, goes through float32."""
    array: FloatArray = (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    return array


@dataclass(frozen=True)
class EmbeddingTable:
    """Image and text embeddings of n samples under one model.

    Args:
        keys: n distinct sample keys (text). Tables of two models are joined by these, never by row.
        image: (n, d_image) embeddings, numpy or torch, or None.
        text: (n, d_text) embeddings, or None. At least one modality is needed.
        metadata: optional columns, each of n values (``caption`` among them, where known).
        fingerprint: digest of the model that made them, where known.

    Raises:
        DataError: shapes that disagree, duplicate keys, no modality, no rows.

    Values are not checked here: a row with NaN, infinity or zero norm is found by
    :meth:`invalid_rows`, so that the caller can record it as a rejection.

    >>> import numpy as np
    >>> EmbeddingTable(keys=["a", "b"], image=np.eye(2)).n
    2
    """

    keys: Sequence[str]
    image: FloatArray | None = None  # (n, d_image)
    text: FloatArray | None = None  # (n, d_text)
    metadata: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        keys = tuple(str(key) for key in self.keys)
        n = len(keys)
        if n == 0:
            raise DataError("The embedding table has no rows.", "An audit needs samples.")
        if len(set(keys)) != n:
            seen: set[str] = set()
            first = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise DataError(
                f"The key {first!r} occurs more than once ({n - len(set(keys))} repeated keys in all).",
                "Keys identify samples across models; make them distinct.",
            )
        if self.image is None and self.text is None:
            raise DataError("Neither image nor text embeddings were given.", "Pass at least one of them.")
        object.__setattr__(self, "keys", keys)
        for name in ("image", "text"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, _matrix(values, name, n))
        metadata = dict(self.metadata or {})
        for column, values in metadata.items():
            if len(values) != n:
                raise DataError(
                    f"The metadata column {column!r} has {len(values)} values for {n} keys.",
                    "Give one value per key (None where unknown).",
                )
        object.__setattr__(self, "metadata", metadata)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.keys)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities present: of "image" and "text"."""
        return tuple(name for name in ("image", "text") if getattr(self, name) is not None)

    def take(self, rows: Iterable[int] | np.ndarray[Any, Any]) -> EmbeddingTable:
        """Return the table of the given row numbers, in their order."""
        index = np.asarray(list(rows) if not isinstance(rows, np.ndarray) else rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        numbers: list[int] = index.tolist()

        return EmbeddingTable(
            keys=[self.keys[i] for i in numbers],
            image=None if self.image is None else self.image[index],
            text=None if self.text is None else self.text[index],
            metadata={name: [column[i] for i in numbers] for name, column in self.metadata.items()},
            fingerprint=self.fingerprint,
        )

    def select(self, keys: Sequence[str]) -> EmbeddingTable:
        """Return the rows of the given keys, in their order.

        Raises:
            DataError: a key that is not in the table.
        """
        rows = {key: row for row, key in enumerate(self.keys)}
        missing = [key for key in keys if key not in rows]
        if missing:
            raise DataError(f"{len(missing)} of {len(keys)} keys are not in the table, the first is {missing[0]!r}.")
        return self.take(np.array([rows[key] for key in keys], dtype=np.int64))

    def invalid_rows(self) -> dict[str, str]:
        """Return key -> reason for the rows that no kernel can use (NaN, infinity, zero norm)."""
        reasons: dict[str, str] = {}
        for name in self.modalities:
            values = getattr(self, name)  # (n, d)
            finite = np.isfinite(values).all(axis=1)  # (n,)
            zero = finite & ~(values != 0).any(axis=1)  # (n,)
            for row in np.flatnonzero(~finite).tolist():
                reasons.setdefault(self.keys[row], f"the {name} embedding holds NaN or infinity")
            for row in np.flatnonzero(zero).tolist():
                reasons.setdefault(self.keys[row], f"the {name} embedding is the zero vector")
        return reasons

    @classmethod
    def load(cls, path: str | Path) -> EmbeddingTable:
        """Read an embedding folder: koda's own layout, or clip-retrieval's.

        Raises:
            DataError: no such folder, neither layout, or parts that do not fit together.
        """
        from koda.embedding_io import load_table

        return load_table(Path(path))

    def save(self, path: str | Path) -> None:
        """Write the table as a folder that :meth:`load` reads, atomically."""
        from koda.embedding_io import save_table

        save_table(self, Path(path))
