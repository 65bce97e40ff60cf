"""Zero-shot classification: images told apart by the names of their classes alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from koda.config import ZeroShotConfig
from koda.datasets import PairDataset
from koda.datasets.text import category_of
from koda.errors import ConfigError, DataError, did_you_mean, nearest
from koda.typing import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

_CHUNK_ELEMENTS = 8_388_608  # scores at a time


def classes_of(config: ZeroShotConfig, dataset: PairDataset) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the classes, and key -> number of the class for the samples whose label is one of them.

    Raises:
        ConfigError: a column that the data set lacks, fewer than two classes, or no sample with a label among them.
    """
    for name in filter(None, (config.column, config.labels)):
        if name not in dataset.metadata_columns:
            raise ConfigError(
                f"zero_shot: the data set {dataset.name} has no column {name!r}.",
                did_you_mean(nearest(name, dataset.metadata_columns, alike=0.6))
                or f"It has {', '.join(dataset.metadata_columns) or 'none'}.",
            )
    classes = config.classes
    if classes is None:
        values = {category_of(pair.metadata[config.column]) for pair in dataset.pairs if config.column is not None}
        classes = tuple(sorted(value for value in values if value is not None))
    if len(classes) < 2:
        raise ConfigError(
            f"zero_shot: the column {config.column!r} has {len(classes)} value{'s' * (len(classes) != 1)}; "
            "telling classes apart needs two.",
            "Choose another column, or list the classes.",
        )
    number = {name: place for place, name in enumerate(classes)}
    labels = {pair.key: category_of(pair.metadata[config.labels]) for pair in dataset.pairs}
    right = {key: number[label] for key, label in labels.items() if label in number}
    if not right:
        seen = next((label for label in labels.values() if label is not None), None)
        raise ConfigError(
            f"zero_shot: no sample's {config.labels} is one of the classes {', '.join(classes[:5])} (the first "
            f"is {seen!r}).",
            "Write the classes as the column does.",
        )
    return classes, right


def class_vectors(
    encode: Callable[[list[str]], FloatArray], classes: Sequence[str], templates: Sequence[str]
) -> FloatArray:
    """Return a unit vector for each class: the mean of the unit embeddings of its name in every template, (c, d).

    Args:
        encode: texts -> (b, d).
        classes: c names.
        templates: texts in which ``{}`` stands for the name.

    Raises:
        DataError: an embedding that is zero or not finite, or a class whose embeddings cancel out.

    Source: Radford et al. (2021), section 3.1.4.
    """
    texts = [template.replace("{}", name) for name in classes for template in templates]
    units = _unit(np.asarray(encode(texts), dtype=np.float64), texts)  # (c t, d)
    means = units.reshape(len(classes), len(templates), -1).mean(axis=1)  # (c, d)
    return _unit(means, classes)


def class_ranks(images: FloatArray, vectors: FloatArray, right: IntArray, device: torch.device) -> IntArray:
    """Return the rank of the right class of each image by cosine, (n,); ties count against the model.

    Args:
        images: (n, d), of any length.
        vectors: (c, d), of length 1.
        right: (n,) the number of the right class.
    """
    import torch  # here, since the classes alone are asked for by what a cached audit runs

    from koda.metrics.retrieval import TIE

    ranks = np.empty(len(images), dtype=np.int64)
    step = max(1, _CHUNK_ELEMENTS // max(vectors.shape))
    classes = torch.from_numpy(np.ascontiguousarray(vectors)).to(device, torch.float32)
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        block = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device, torch.float32)
        scores = torch.nn.functional.normalize(block, dim=1) @ classes.T  # (b, c)
        own = scores.gather(1, torch.from_numpy(right[rows, None]).to(device))  # (b, 1)
        ranks[rows] = torch.count_nonzero(scores >= own - TIE, dim=1).cpu().numpy()  # the right one is among them
    return ranks


def _unit(values: FloatArray, names: Sequence[str]) -> FloatArray:
    norms = np.linalg.norm(values, axis=1)  # (m,)
    bad = ~(np.isfinite(norms) & (norms > 1e-12))
    if bad.any():
        raise DataError(f"The text embedding of {names[int(np.argmax(bad))]!r} is zero or not finite.", "Reword it.")
    unit: FloatArray = values / norms[:, None]
    return unit
