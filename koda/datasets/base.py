"""Pairs, rejections and data sets: what every reader gives, whatever it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from koda.datasets.blobs import Blob
from koda.datasets.pictures import AS_CONFIGURED_BY_DEFAULT, View
from koda.errors import DataError
from koda.records.ledger import Ledger, RejectedKind, rejected_kinds
from koda.storage import digest_json

_DATA_VERSION = 1
_MAX_METADATA_COLUMNS = 200
_SHOWN_KINDS = 3
UNREADABLE = "the image cannot be read"


@dataclass(frozen=True)
class Rejection:
    """A row that was left out, and why.

    Args:
        key: names the sample.
        kind: the short text by which rejections are counted, such as "duplicate key".
        detail: what is wrong with this row in particular; empty where the kind says it all.
    """

    key: str
    kind: str
    detail: str = ""

    @property
    def reason(self) -> str:
        """The whole sentence, ``kind: detail``, as records and shards hold it."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind

    @classmethod
    def from_reason(cls, key: str, reason: str) -> Rejection:
        """Return the rejection that a whole sentence tells of.

        >>> Rejection.from_reason("cat", "the image cannot be read: no such file").kind
        'the image cannot be read'
        """
        kind, _, detail = reason.partition(": ")
        return cls(key, kind, detail)


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be used: the short text by which such rows are counted, and what is wrong in particular."""

    kind: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a source, as a reader found it: usable, or with the fault that makes it unusable.

    Args:
        key: names the sample across models; None where the source gives none.
        image: where its bytes lie; None where there are none.
        caption: None where it is missing; an empty one is counted, not rejected.
        metadata: column -> value.
        fault: why the row cannot be used, or None.
        where: names the row where it has no key, such as "row 7".
        loss: it stands for the rest of a damaged file, nobody knows how many rows; it stays in every subset.
    """

    key: str | None
    image: Blob | None = None
    caption: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
    where: str = ""
    loss: bool = False


@dataclass(frozen=True)
class Source:
    """What a reader found: every row of the source, in its order, the unusable ones too.

    Args:
        name: default name of the data set.
        rows: a sample each, usable or not.
        metadata_columns: names that the metadata of every usable row has.
        n_split: samples more than the source has rows, because a row holds several captions.
        merged: kind -> rows of the source that are part of another row's sample.
        notes: how it was read, in words, where that had to be found out.
        folders: local folders that the images which its rows name may lie in; none where rows name no images.
    """

    name: str
    rows: list[Row]
    metadata_columns: tuple[str, ...] = ()
    n_split: int = 0
    merged: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


def gathered(name: str, rows: list[Row]) -> Source:
    """Return a source of rows that each came with entries of their own, so that all have the same columns.

    An entry that a row lacks is None. Of more than 200 names, which are no columns but contents, the commonest stay.
    """
    counts = Counter(column for row in rows for column in row.metadata)
    common = set(sorted(counts, key=lambda column: (-counts[column], column))[:_MAX_METADATA_COLUMNS])
    columns = tuple(column for column in counts if column in common)
    for place, row in enumerate(rows):
        if tuple(row.metadata) != columns:
            rows[place] = replace(row, metadata={column: row.metadata.get(column) for column in columns})
    return Source(name, rows, columns)


@dataclass(frozen=True, slots=True)
class Pair:
    """One image with its caption; `image` says where its bytes lie, `image_digest` is their sha256.

    Both are None where the source has embeddings and no images. `view` says how a picture is made of the bytes.
    """

    key: str
    image: Blob | None
    caption: str
    image_digest: str | None
    metadata: dict[str, Any] = field(default_factory=dict)
    view: View = AS_CONFIGURED_BY_DEFAULT


@dataclass(frozen=True)
class PairDataset:
    """The usable pairs of a source, in the order of their keys, with everything that was left out.

    ``digest`` names the content (keys, captions, image bytes, metadata) and neither the path nor the order of
    the source, so a copied or re-sorted data set is recognised. ``n_source`` counts the samples that are asked for,
    pairs and rejections; the ``ledger`` accounts for every row of the source. ``join`` is "rows" where keys are row
    numbers, by which stored embeddings are joined too.
    """

    name: str
    path: str
    pairs: tuple[Pair, ...]
    rejections: tuple[Rejection, ...]
    n_source: int
    metadata_columns: tuple[str, ...]
    digest: str
    format: str
    ledger: Ledger
    join: Literal["keys", "rows"] = "keys"

    def __repr__(self) -> str:
        return f"PairDataset({self.name!r}: {len(self.pairs)} pairs, {len(self.rejections)} left out)"

    @cached_property
    def by_key(self) -> dict[str, Pair]:
        """The pairs by their keys."""
        return {pair.key: pair for pair in self.pairs}

    @property
    def n_duplicate_images(self) -> int:
        """Pairs whose image has the same bytes as an earlier pair's."""
        digests = [pair.image_digest for pair in self.pairs if pair.image_digest is not None]
        return len(digests) - len(set(digests))

    @property
    def n_empty_captions(self) -> int:
        """Pairs whose caption has nothing but white space."""
        return sum(not pair.caption.strip() for pair in self.pairs)


def digest_of(pairs: Iterable[Pair]) -> str:
    """Return the digest of a data set's content: of its pairs, which are in the order of their keys.

    A view that is not the default is part of it, since other pictures are then compared.
    """
    content = [
        [pair.key, pair.caption, pair.image_digest, pair.metadata, *_other_than_default(pair.view)] for pair in pairs
    ]
    return digest_json([_DATA_VERSION, content])


def _other_than_default(view: View) -> list[str]:
    return [] if view == AS_CONFIGURED_BY_DEFAULT else [view.exif, view.background]


def count_kinds(rejections: Iterable[Rejection]) -> dict[str, int]:
    """Return how many rejections there are of each kind, the commonest first."""
    return {item.kind: item.count for item in kinds_of(rejections)}


def allowed_rejections(n_source: int, limit: float) -> float:
    """Return how many rows may be left out: `data.max_rejected` is a share below 1, from 1 on a count."""
    return limit * n_source if limit < 1 else limit


def kinds_of(rejections: Iterable[Rejection]) -> list[RejectedKind]:
    """Return how many rejections there are of each kind, the commonest first, with one of each in full."""
    return rejected_kinds((item.kind, item.key, item.reason) for item in rejections)


def check_rejections(name: str, n_source: int, rejections: Iterable[Rejection], limit: float) -> None:
    """Refuse to go on when nothing usable is left, or more was left out than the user allows.

    Args:
        name: the data set, for the message.
        n_source: samples that are asked for.
        rejections: what was left out.
        limit: below 1 a share of the samples, from 1 on a count.

    Raises:
        DataError: with the commonest reasons, one of each in full.
    """
    left_out = list(rejections)
    common = commonest(left_out)
    if n_source - len(left_out) < 1:
        why = f"all {n_source} rows were rejected: {common}" if n_source else "it has no rows"
        raise DataError(f"The data set {name} has no usable pair: {why}.", _remedy(left_out))
    if len(left_out) > allowed_rejections(n_source, limit):
        raise DataError(
            f"The data set {name} has {len(left_out)} unusable rows of {n_source}, more than the limit "
            f"data.max_rejected = {limit:g} allows: {common}.",
            "Mend the data, or raise data.max_rejected (below 1 a share, from 1 on a count).",
        )


def commonest(rejections: Iterable[Rejection]) -> str:
    """Return the commonest reasons for a message, each with how often it is there and one row of it in full."""
    return "; ".join(f"{item.count} x {_example(item)}" for item in kinds_of(rejections)[:_SHOWN_KINDS])


def _example(item: RejectedKind) -> str:
    """Return a kind with one row of it in full: "the image cannot be read, such as 'a' (no such file: /x/a.png)"."""
    detail = item.reason.removeprefix(item.kind).removeprefix(": ")
    return f"{item.kind}, such as {item.key!r}" + (f" ({detail})" if detail else "")


def _remedy(rejections: Sequence[Rejection]) -> str:
    """Return what to do about a data set of which nothing is left."""
    if not rejections:
        return "Look into the file: it has a header and nothing below it, or data.path names another one."
    commonest = kinds_of(rejections)[0]
    if commonest.kind == UNREADABLE and "\\" in commonest.reason:
        return "The paths are written with backslashes; write them with slashes, and set data.images."
    if commonest.kind == UNREADABLE:
        return "Check the paths of the images, and data.images, the folder that they are relative to."
    return "Mend the rows, or name other columns or files."
