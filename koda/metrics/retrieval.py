"""Image-text retrieval of one model: recall at k, query by query."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_array

from koda.devices import device_of
from koda.embeddings import EmbeddingTable
from koda.embeddings.rows import row_slices
from koda.errors import ConfigError, DataError
from koda.metrics.intervals import paired_difference, wilson
from koda.metrics.retrieval_parts import ranked
from koda.records import ALL, Estimate, RecallDifference, Subset
from koda.typing import RETRIEVAL_DIRECTIONS, BoolArray, IntArray

Key = TypeVar("Key", bound=str)  # a role, or a state of a student

TIE = 1e-6  # cosines closer than this are equal: what float32 products leave of identical vectors
_QUERIES, _ITEMS = 512, 8192  # of which the scores are made at a time
_MOST_PAIRS = 8_388_608  # right answers that are held at a time
_PAIRS = 65_536  # right answers to so many queries, of which each score is made by itself
_UNIT_ROWS = 16_384  # embeddings that are brought to length 1 at a time


@dataclass(frozen=True)
class Ranks:
    """The rank of the best right answer to each query.

    Args:
        keys: (n,) the samples whose image, or caption, asked.
        ranks: (n,) from 1; see :func:`recall` for ties.
        n_gallery: items that were ranked.
        images: (n,) the number of the image that each query is, or belongs to.
    """

    keys: tuple[str, ...]
    ranks: IntArray
    n_gallery: int
    images: IntArray

    def hits(self, k: int) -> BoolArray:
        """Return whether each query has a right answer among its first k, (n,)."""
        return self.ranks <= k

    def at(self, k: int) -> Estimate:
        """Return recall at k with its 95 % Wilson interval."""
        hits = self.hits(k)
        return wilson(int(hits.sum()), len(hits))


@dataclass(frozen=True)
class Recall:
    """Retrieval in both directions; ``ks`` are the depths that :meth:`estimates` reports."""

    image_to_text: Ranks
    text_to_image: Ranks
    ks: tuple[int, ...]

    def estimates(self) -> dict[str, dict[str, Estimate]]:
        """Return "image_to_text" and "text_to_image" -> "R@k" -> estimate."""
        return {
            name: {f"R@{k}": ranks.at(k) for k in self.ks}
            for name, ranks in (("image_to_text", self.image_to_text), ("text_to_image", self.text_to_image))
        }

    def among(self, keys: Sequence[str]) -> Recall:
        """Return the retrieval of a part of the queries: the same as :func:`recall` with ``queries=keys``.

        Raises:
            DataError: no keys, a repeated one, or one whose caption did not ask.
        """
        return self._part(_rows(self._row_of, keys))

    def without(self, keys: Sequence[str]) -> Recall:
        """Return the retrieval of all queries but these.

        Raises:
            DataError: as :meth:`among`, or no query left.
        """
        left = np.ones(len(self.text_to_image.keys), dtype=bool)
        left[_rows(self._row_of, keys)] = False
        if not left.any():
            raise DataError("No query is left.", "Leave some of them in.")
        return self._part(np.flatnonzero(left))

    @cached_property
    def _row_of(self) -> Mapping[str, int]:
        """The row of each query's key, indexed once for all parts."""
        return _numbered(self.text_to_image.keys)

    @cached_property
    def _names(self) -> np.ndarray[Any, Any]:
        """The keys of the queries, to be taken by row."""
        names = np.empty(len(self.text_to_image.keys), dtype=object)
        names[:] = self.text_to_image.keys
        return names

    @cached_property
    def _place(self) -> IntArray:
        """The row of each image in the ranks of image-to-text, where it asked."""
        images = self.image_to_text.images
        place = np.empty(int(images.max()) + 1, dtype=np.int64)
        place[images] = np.arange(len(images))
        return place

    def _part(self, asked: IntArray) -> Recall:
        """Return the retrieval of the queries of the given rows."""
        images = self.text_to_image.images[asked]
        first = _first_of(images)  # an image asks once
        names, rows = self._names[asked], self._place[images[first]]
        return Recall(
            image_to_text=Ranks(
                tuple(names[first]), self.image_to_text.ranks[rows], self.image_to_text.n_gallery, images[first]
            ),
            text_to_image=Ranks(tuple(names), self.text_to_image.ranks[asked], self.text_to_image.n_gallery, images),
            ks=self.ks,
        )


def recall_difference(candidate: Recall, baseline: Recall, *, seed: int = 0) -> dict[str, dict[str, Estimate]]:
    """Return recall at k of the candidate less that of the baseline, with paired bootstrap intervals.

    The bootstrap draws images, each with all its captions; see :func:`koda.metrics.intervals.paired_difference`.

    Args:
        candidate, baseline: of the same queries in the same order.
        seed: of the bootstrap.

    Returns:
        "image_to_text" and "text_to_image" -> "R@k" -> difference.

    Raises:
        DataError: other queries.
    """
    differences: dict[str, dict[str, Estimate]] = {}
    for name in RETRIEVAL_DIRECTIONS:
        new, old = getattr(candidate, name), getattr(baseline, name)
        if new.keys != old.keys:
            raise DataError("The two models were not asked the same queries.", "Join the tables by key.")
        images = None if name == "image_to_text" else new.images  # an image asks once
        differences[name] = {
            f"R@{k}": paired_difference(new.hits(k), old.hits(k), images, seed=seed) for k in candidate.ks
        }
    return differences


@dataclass(frozen=True)
class SubsetRecalls(Generic[Key]):
    """Retrieval of several models, each under its key, on one set of samples.

    Args:
        subset: the set.
        recalls: of each model.
        difference: of the two models that were asked to be compared; None where one of them cannot retrieve.
    """

    subset: Subset
    recalls: Mapping[Key, Recall]
    difference: RecallDifference | None


def retrieval_by_subset(
    tables: Mapping[Key, EmbeddingTable],
    subsets: Mapping[Subset, Sequence[str]],
    compared: tuple[Key, Key],
    *,
    queries: Sequence[str] | None = None,
    drawn: Sequence[str] | None = None,
    rests: Mapping[Subset, Sequence[str]] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> list[SubsetRecalls[Key]]:
    """Return the retrieval of several models on all queries and on parts of them, against all samples as the gallery.

    Args:
        tables: the embeddings of each model over the same samples, with the columns ``caption`` and ``image`` as
            :func:`koda.metrics.identity.with_captions_and_images` gives them.
        subsets: the samples of each part; one without samples is left out.
        compared: the two models that are compared, the newer first.
        queries: the samples that ask, of which the parts are parts; default all.
        drawn: the queries that stand for all of them, where not all are asked; those of the parts are asked beside
            them, and "all others" are others of these.
        rests: of some parts, the samples of which all others follow the part, where there are any.
        seed: of the bootstrap.
        device: where the scores are computed.

    Returns:
        All queries first, then the parts in their order; nothing where no model has images and texts in one space.

    Raises:
        DataError: as :func:`recall`, or a part that holds a sample twice or one that the tables lack.
    """
    if drawn is not None:
        queries = sorted({*drawn, *(key for members in subsets.values() for key in members)})
    ranked = {key: recall(table, queries=queries, groups="image", device=device) for key, table in tables.items()}
    asked = {key: result for key, result in ranked.items() if result is not None}
    if not asked:
        return []
    whole = asked if drawn is None else {key: result.among(drawn) for key, result in asked.items()}
    known = set(next(iter(whole.values())).text_to_image.keys)
    measured = [_compared(ALL, whole, compared, seed)]
    for subset, members in subsets.items():
        if members:
            among = {key: result.among(members) for key, result in asked.items()}
            measured.append(_compared(subset, among, compared, seed))
        left_out = [key for key in (rests or {}).get(subset, ()) if key in known]
        if members and left_out and len(left_out) < len(known):
            others = {key: result.without(left_out) for key, result in whole.items()}
            measured.append(_compared(subset.others, others, compared, seed))
    return measured


def _compared(
    subset: Subset, recalls: Mapping[Key, Recall], compared: tuple[Key, Key], seed: int
) -> SubsetRecalls[Key]:
    """Put the difference of two models beside the retrieval of all."""
    return SubsetRecalls(subset, recalls, difference_of(subset, recalls, compared, seed))


def difference_of(
    subset: Subset, recalls: Mapping[Key, Recall], compared: tuple[Key, Key], seed: int
) -> RecallDifference | None:
    """Return the retrieval of the newer of two models less that of the older; None where one of them cannot retrieve.

    Args:
        subset: the samples that asked.
        recalls: of each model on them.
        compared: the two models, the newer first.
        seed: of the bootstrap.
    """
    newer, older = (recalls.get(key) for key in compared)
    if newer is None or older is None:
        return None
    figures: dict[str, Any] = recall_difference(newer, older, seed=seed)
    n, n_images = len(older.text_to_image.keys), len(older.image_to_text.keys)
    return RecallDifference(subset=subset, n=n, n_images=n_images, **figures)


def recall(
    table: EmbeddingTable,
    *,
    ks: Sequence[int] = (1, 5, 10),
    queries: Sequence[str] | None = None,
    groups: str | None = None,
    device: str = "cpu",
) -> Recall | None:
    """Return recall at k of image-to-text and text-to-image retrieval, by cosine similarity.

    The gallery is the whole table, and the queries may be a part of it; for the gallery of the part alone pass
    ``table.select(keys)``.

    What is right: an image and a caption belong together if a row of the table holds both. Rows with the
    same value in the column ``groups`` show one image (the first of them is embedded, and stands in the gallery
    once); without it each row is an image of its own. Rows with exactly the same text in the metadata column
    ``caption`` hold one caption, so that the copy of a caption is never counted as wrong.

    Rank: 1 + the number of wrong items whose score is at least the best right one's, less 1e-6. Ties count
    against the model, so embeddings that are all equal retrieve nothing, not everything.

    Args:
        table: image and text embeddings in one space, (n, d) each.
        ks: depths to report.
        queries: keys that ask; default all.
        groups: metadata column that identifies the image, for data with several captions an image.
        device: where the scores are computed, in float32; memory is flat in n.

    Returns:
        None where a modality is missing, or the two have different dimensions and so share no space.

    Raises:
        ConfigError: no depths or one under 1, or no such column.
        DataError: no queries, a repeated or unknown key, an embedding that is zero or not finite.
    """
    if not ks or min(ks) < 1:
        raise ConfigError(f"ks: {list(ks)}; recall needs depths from 1 on.")
    if groups is not None and groups not in table.metadata:
        raise ConfigError(f"groups: the table has no column {groups!r}.", f"It has {sorted(table.metadata)}.")
    if table.image is None or table.text is None or table.image.shape[1] != table.text.shape[1]:
        return None
    if invalid := table.invalid_rows():
        key, reason = next(iter(invalid.items()))
        raise DataError(f"{len(invalid)} rows cannot be ranked, the first is {key!r}: {reason}.", "Leave them out.")
    asked = np.arange(table.n) if queries is None else _rows(_numbered(table.keys), queries)  # (q,)
    image_of = _labels(None if groups is None else table.metadata[groups], table.n)  # (n,)
    text_of = _labels(table.metadata.get("caption"), table.n)  # (n,)
    first_rows = np.unique(image_of, return_index=True)[1]  # (n_images,) row that stands for the image
    asking: dict[int, str] = {}  # image -> key: an image asks once, whatever its captions
    for row in asked.tolist():
        asking.setdefault(int(image_of[row]), table.keys[row])
    asking_images = np.fromiter(asking, dtype=np.int64)

    n_images, n_texts = len(first_rows), int(text_of.max()) + 1
    ones = np.ones(table.n, dtype=np.int32)
    belongs = csr_array((ones, (image_of, text_of)), shape=(n_images, n_texts))  # repeated pairs add up
    rows_of_text = csr_array((ones, (text_of, np.arange(table.n))), shape=(n_texts, table.n))

    where = device_of(device)
    images = _unit(table.image[first_rows], where)  # (n_images, d)
    texts = _unit(table.text, where)  # (n, d)
    i2t = _ranked(images[asking_images], texts, belongs[asking_images], rows_of_text)
    asking_texts = text_of[asked]
    every_image = csr_array((np.ones(n_images, dtype=np.int32), (np.arange(n_images),) * 2))
    t2i = _ranked(texts[asked], images, belongs.T.tocsr()[asking_texts], every_image)
    return Recall(
        image_to_text=Ranks(tuple(asking.values()), i2t, table.n, asking_images),
        text_to_image=Ranks(tuple(table.keys[row] for row in asked.tolist()), t2i, n_images, image_of[asked]),
        ks=tuple(sorted(set(ks))),
    )


def _numbered(keys: Sequence[str]) -> Mapping[str, int]:
    return {key: row for row, key in enumerate(keys)}


def _rows(row_of: Mapping[str, int], queries: Sequence[str]) -> IntArray:
    if unknown := [key for key in queries if key not in row_of]:
        raise DataError(f"{len(unknown)} queries are not in the table, the first is {unknown[0]!r}.")
    if not queries or len(set(queries)) != len(queries):
        raise DataError("There are no queries." if not queries else "Queries are repeated.", "Pass each key once.")
    return np.array([row_of[key] for key in queries], dtype=np.int64)


def _first_of(numbers: IntArray) -> IntArray:
    """Return where each of the numbers, none under 0, stands first, in that order, without a sort of them all."""
    first = np.empty(int(numbers.max()) + 1, dtype=np.int64)
    places = np.arange(len(numbers))
    first[numbers[::-1]] = places[::-1]  # of several the one written last, which is the first
    where: IntArray = np.flatnonzero(first[numbers] == places)
    return where


def _labels(column: Sequence[Any] | None, n: int) -> IntArray:
    """Return a number per row, equal for equal values, in the order of first occurrence; absent values are distinct."""
    numbers: dict[object, int] = {}
    labels = np.empty(n, dtype=np.int64)
    for row in range(n):
        value = None if column is None else column[row]
        absent = value is None or (isinstance(value, float) and math.isnan(value))
        labels[row] = numbers.setdefault((row,) if absent else str(value), len(numbers))
    return labels


def _unit(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """Return the rows at norm 1 in float32; scaled first, so that no square overflows or vanishes."""
    unit = torch.empty(values.shape, dtype=torch.float32, device=device)  # (n, d)
    for part in row_slices(len(values), _UNIT_ROWS):  # float64 takes four times the memory of what is stored
        rows = torch.as_tensor(np.ascontiguousarray(values[part])).to(device=device, dtype=torch.float64)  # (b, d)
        rows = rows / rows.abs().amax(dim=1, keepdim=True)
        unit[part] = (rows / rows.norm(dim=1, keepdim=True)).float()
    return unit


def _ranked(queries: torch.Tensor, gallery: torch.Tensor, answers: Any, items: Any) -> IntArray:
    """Return the ranks of :func:`_ranks`, of which workers make those of many queries."""
    return ranked(_ranks, queries, gallery, answers, items, _QUERIES)


def _ranks(queries: torch.Tensor, gallery: torch.Tensor, answers: Any, items: Any) -> IntArray:
    """Return the rank of the best right item of each query, (q,).

    Args:
        queries: (q, d), gallery: (n, d); rows of norm 1.
        answers: (q, t) sparse, what is right for each query; items: (t, n) sparse, where it stands in the gallery.
    """
    ranks = np.empty(len(queries), dtype=np.int64)
    for rows in _blocks(answers, items):
        asking = queries[rows]  # (b, d)
        pairs = (answers[rows] @ items).tocsc()  # (b, n) what is right, without a dense mask, by item
        limit = _best(asking, gallery, pairs) - TIE  # (b,)
        above = torch.ones(len(asking), dtype=torch.int64, device=asking.device)
        for part in row_slices(len(gallery), _ITEMS):
            scores = asking @ gallery[part].T  # (b, items)
            right, query = _right(scores, pairs, part)  # (pairs,) each
            above += _at_least(scores, limit)
            above.index_add_(0, query, -(right >= limit[query]).long())  # right ones are among them
        ranks[rows] = above.cpu().numpy()
    return ranks


def _blocks(answers: Any, items: Any) -> Iterator[slice]:
    """Cut the queries into blocks: of fewer queries where very much is right for each, as where captions are alike."""
    right = answers @ np.diff(items.indptr)  # (q,) how many are right for each
    for block in row_slices(answers.shape[0], _QUERIES):
        pairs, count = int(right[block].sum()), block.stop - block.start
        for part in row_slices(count, max(1, min(count, count * _MOST_PAIRS // max(pairs, 1)))):
            yield slice(block.start + part.start, block.start + part.stop)


def _best(asking: torch.Tensor, gallery: torch.Tensor, pairs: Any) -> torch.Tensor:
    """Return the highest score of what is right for each query, (b,)."""
    best = torch.full_like(asking[:, 0], -torch.inf)
    if pairs.nnz <= _PAIRS:
        query = torch.from_numpy(pairs.indices.astype(np.int64)).to(asking.device)
        item = torch.from_numpy(_columns(pairs, slice(0, len(gallery)))).to(asking.device)
        return best.scatter_reduce_(0, query, (asking[query] * gallery[item]).sum(dim=1), "amax")
    for part in row_slices(len(gallery), _ITEMS):  # one caption of very many images
        right, query = _right(asking @ gallery[part].T, pairs, part)
        best.scatter_reduce_(0, query, right, "amax")
    return best


def _right(scores: torch.Tensor, pairs: Any, part: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of what is right in a part of the gallery, and the queries that it is right for."""
    query = torch.from_numpy(pairs.indices[pairs.indptr[part.start] : pairs.indptr[part.stop]].astype(np.int64))
    item = torch.from_numpy(_columns(pairs, part) - part.start)
    query, item = query.to(scores.device), item.to(scores.device)
    return scores[query, item], query


def _columns(pairs: Any, part: slice) -> IntArray:
    """Return the column of each pair in some columns of a matrix that is stored by column."""
    counts = np.diff(pairs.indptr[part.start : part.stop + 1])
    columns: IntArray = np.repeat(np.arange(part.start, part.stop, dtype=np.int64), counts)
    return columns


def _at_least(scores: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """Count the scores of each row that reach its limit, (b,)."""
    reached = scores >= limit[:, None]
    if scores.device.type != "cpu":
        return torch.count_nonzero(reached, dim=1)
    # torch first makes eight bytes of each of them, which takes a third of the time of the product
    return torch.from_numpy(np.array([np.count_nonzero(row) for row in reached.numpy()], dtype=np.int64))
