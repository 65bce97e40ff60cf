"""Zero-shot classification: images told apart by the names of their classes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from koda.config import ZeroShotConfig
from koda.datasets import Pair, PairDataset
from koda.datasets.text import category_of
from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.errors import ConfigError, DataError, did_you_mean, nearest
from koda.metrics.identity import image_ids
from koda.records import ALL, AccuracyDifference, Estimate, Subset
from koda.typing import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    import torch

_DEPTHS = (1, 5)
_CHUNK_ELEMENTS = 8_388_608  # scores at a time

Key = TypeVar("Key", bound=str)  # a role, or a state of a student
Tops = dict[str, Estimate]  # "top-1" -> estimate


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
        example = next((label for label in labels.values() if label is not None), None)
        raise ConfigError(
            f"zero_shot: no sample's {config.labels} is one of the classes {', '.join(classes[:5])} (the first "
            f"is {example!r}).",
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


def classify(
    images: FloatArray, vectors: FloatArray, right: IntArray, device: torch.device
) -> tuple[IntArray, IntArray]:
    """Return the rank of the right class of each image by cosine, and the class chosen, (n,) each.

    Ties count against the model: where another class comes as near as the right one, that one is chosen, and of
    several the first.

    Args:
        images: (n, d), of any length.
        vectors: (c, d), of length 1.
        right: (n,) the number of the right class.
    """
    import torch  # here, since the classes alone are asked for by what a cached audit runs

    from koda.metrics.retrieval import TIE

    ranks, chosen = np.empty((2, len(images)), dtype=np.int64)
    step = max(1, _CHUNK_ELEMENTS // max(vectors.shape))
    classes = torch.from_numpy(np.ascontiguousarray(vectors)).to(device, torch.float32)
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        block = torch.from_numpy(np.ascontiguousarray(images[rows])).to(device, torch.float32)
        scores = torch.nn.functional.normalize(block, dim=1) @ classes.T  # (b, c)
        of_right = torch.from_numpy(right[rows, None]).to(device)  # (b, 1)
        own = scores.gather(1, of_right)  # (b, 1)
        rank = torch.count_nonzero(scores >= own - TIE, dim=1)  # the right one is among them
        others = scores.scatter(1, of_right, -torch.inf)
        # the first of those that come equally near, whatever the last bits of this machine's products say
        nearest_other = (others >= others.amax(dim=1, keepdim=True) - TIE).int().argmax(dim=1)
        ranks[rows] = rank.cpu().numpy()
        chosen[rows] = torch.where(rank == 1, of_right[:, 0], nearest_other).cpu().numpy()
    return ranks, chosen


@dataclass(frozen=True)
class ClassRanks:
    """The rank of the right class of each sample under one model; the zero-shot counterpart of ranked queries.

    Args:
        keys: (n,) the samples that were classified.
        ranks: (n,) from 1; see :func:`classify` for ties.
        images: (n,) the number of the image that each sample shows.
        right, chosen: (n,) the number of the right class, and of the one chosen.
    """

    keys: tuple[str, ...]
    ranks: IntArray
    images: IntArray
    right: IntArray
    chosen: IntArray

    def hits(self, k: int) -> BoolArray:
        """Return whether the right class of each sample is among the first k, (n,)."""
        return self.ranks <= k

    def among(self, keys: Iterable[str]) -> ClassRanks:
        """Return the ranks of the samples named, in the order of these; those that were not classified are left out."""
        rows = np.array(sorted(self._row_of[key] for key in keys if key in self._row_of), dtype=np.int64)
        parts = (part[rows] for part in (self.ranks, self.images, self.right, self.chosen))
        return ClassRanks(tuple(self.keys[row] for row in rows.tolist()), *parts)

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        """The row of each sample, indexed once for all parts."""
        return {key: row for row, key in enumerate(self.keys)}


@dataclass(frozen=True)
class SubsetAccuracies(Generic[Key]):
    """Zero-shot accuracy of several models, each under its key, on one set of samples.

    Args:
        subset: the set.
        n: its samples whose label is one of the classes.
        ranks: of each model.
        tops: of each model.
        difference: of the two models that were asked to be compared; None where one of them has no class vectors.
    """

    subset: Subset
    n: int
    ranks: Mapping[Key, ClassRanks]
    tops: Mapping[Key, Tops]
    difference: AccuracyDifference | None


def zero_shot_by_subset(
    tables: Mapping[Key, EmbeddingTable],
    vectors: Mapping[Key, FloatArray],
    labels: Mapping[str, int],
    subsets: Mapping[Subset, Iterable[str]],
    pairs: Mapping[str, Pair],
    compared: tuple[Key, Key],
    *,
    seed: int = 0,
    device: str = "cpu",
) -> list[SubsetAccuracies[Key]]:
    """Return the accuracies of several models on all labelled samples and on parts of them.

    A depth that is no less than the number of classes is left out, since every answer would be right.

    Args:
        tables: the image embeddings of each model that has class vectors, and of others.
        vectors: (c, d) the class vectors of each model that can have them.
        labels: sample -> number of its class, for the samples that are classified.
        subsets: the samples of each part; those without a label are left out, and so is a part without any left.
        pairs: key -> pair; the bootstrap draws the samples of one image together.
        compared: the two models that are compared, the newer first.
        seed: of the bootstrap.
        device: where the scores are computed.

    Returns:
        All labelled samples first, then the parts in their order; nothing without class vectors or labels.
    """
    from koda.metrics.intervals import paired_difference, wilson  # here, since scipy is slow to load

    if not vectors or not labels:
        return []
    keys = list(labels)
    right = np.fromiter(labels.values(), dtype=np.int64)  # (m,)
    image_of = np.unique(image_ids(keys, pairs), return_inverse=True)[1]  # (m,)
    whole: dict[Key, ClassRanks] = {}
    for key, of_classes in vectors.items():
        images = tables[key].select(keys).image
        assert images is not None, "class vectors are compared with images"
        ranks, chosen = classify(images, of_classes, right, device_of(device))
        whole[key] = ClassRanks(tuple(keys), ranks, image_of, right, chosen)
    depths = [k for k in _DEPTHS if k < len(next(iter(vectors.values())))]
    measured = []
    for subset, members in {ALL: keys, **subsets}.items():
        part = {key: of_model.among(members) for key, of_model in whole.items()}
        n = len(next(iter(part.values())).keys)
        if not n:
            continue
        tops = {
            key: {f"top-{k}": wilson(int(of_model.hits(k).sum()), n) for k in depths} for key, of_model in part.items()
        }
        newer, older = (part.get(key) for key in compared)
        difference = None
        if newer is not None and older is not None:
            top = {f"top-{k}": paired_difference(newer.hits(k), older.hits(k), newer.images, seed=seed) for k in depths}
            difference = AccuracyDifference(subset=subset, n=n, top=top)
        measured.append(SubsetAccuracies(subset, n, part, tops, difference))
    return measured


def _unit(values: FloatArray, names: Sequence[str]) -> FloatArray:
    norms = np.linalg.norm(values, axis=1)  # (m,)
    bad = ~(np.isfinite(norms) & (norms > 1e-12))
    if bad.any():
        raise DataError(f"The text embedding of {names[int(np.argmax(bad))]!r} is zero or not finite.", "Reword it.")
    unit: FloatArray = values / norms[:, None]
    return unit
