"""The artifact of embeddings: which shards are there, which are to be made, and what is noted of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from koda.datasets import Pair, PairDataset
from koda.embeddings import EmbeddingTable
from koda.embeddings.layout import SHARD_SIZE, shard_name
from koda.embeddings.matrix_files import read_shard_header
from koda.embeddings.reading import read_shard
from koda.embeddings.writing import write_shard
from koda.errors import DataError
from koda.extraction.batches import Batches
from koda.extraction.captions import CaptionMemory
from koda.extraction.embedding_folder import copy_stored
from koda.extraction.images import ImageStream
from koda.extraction.precision import cosine_to_fp32
from koda.extraction.shards import Shard, embed_shard
from koda.extraction.shards_by_workers import ShardsByWorkers
from koda.models import Encoder, ResolvedModel, load_encoder
from koda.parallel import current
from koda.storage import ArtifactStore, digest_json, digest_once, write_atomically

KIND = "embeddings"
_EXTRACTION_VERSION = 2
_FINISHED = ".finished.json"  # digests of the shards, until the artifact is complete

Progress = Callable[[int, int], None]

_PICTURES_VERSION = 2  # 2: those of 16 bits and of fractions are scaled, transparent ones composed


def embedding_key(dataset: PairDataset, model: ResolvedModel) -> str:
    """Return the key of a model's embeddings of a data set: both digests, the shard size, and how pictures are made."""
    pictures = [_PICTURES_VERSION] if "image" in model.modalities and not model.stored else []
    by_row = ["rows"] if model.stored and dataset.join == "rows" else []
    return digest_json([_EXTRACTION_VERSION, dataset.digest, model.fingerprint.digest, SHARD_SIZE, *pictures, *by_row])


def extract(
    store: ArtifactStore,
    dataset: PairDataset,
    model: ResolvedModel,
    *,
    device: str = "auto",
    batch_size: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Embed a data set with a model, shard by shard, and return the digest of the artifact.

    Shards that an earlier, interrupted run finished are kept, and the others come out byte for byte as they would
    have: what is in a batch depends on the data set alone. Two processes that extract the same thing do not compute
    it twice: the second waits for the first and uses what it made.

    Each distinct caption is encoded once in the whole data set. Embeddings depend a little on what else is in their
    batch, since the matrix products of another size add up in another order: between the batch sizes 1, 7 and 64 the
    values of one sample differ by less than 1e-6 in fp32, and its cosine is at least 0.9999 in bf16.

    Where the run has workers the shards are theirs, see :mod:`koda.extraction.shards_by_workers`: the same bytes.

    Args:
        store: where the artifact lies.
        dataset: pairs, in the order of their keys.
        model: see :func:`koda.models.resolve_model`.
        device: as in the configuration.
        batch_size: at most so many at once; default by device. Where memory does not hold them, half as many.
        progress: called with (pairs done, pairs in all).

    Raises:
        DataError: not one sample could be embedded.
        ModelError: the model does not load, does not fit in memory, or is not itself in its precision.
        StoreError: the disk is full or read-only.
    """
    key = embedding_key(dataset, model)
    with store.lock(KIND, key):
        if store.has(KIND, key):
            return store.digest(KIND, key)
        store.discard_damaged(KIND, key)
        folder = store.folder(KIND, key)
        shards = [dataset.pairs[first : first + SHARD_SIZE] for first in range(0, len(dataset.pairs), SHARD_SIZE)]
        if model.stored:
            return store.complete(
                KIND, key, _usable(copy_stored(folder, dataset, shards, model, progress), dataset, model)
            )
        finished = _finished(folder)
        missing = [n for n, pairs in enumerate(shards) if not _is_whole(folder / shard_name(n), pairs, finished)]
        cosine = cosine_to_fp32(model, dataset.pairs, device)
        encoder = load_encoder(model, device)
        captions = CaptionMemory([[pair.caption for pair in pairs] for pairs in shards])
        rejected: dict[str, str] = {}
        altered: dict[str, int] = {}
        n_embedded = n_long = done = 0
        with _maker(folder, encoder, shards, missing, captions, batch_size) as make:
            for number, pairs in enumerate(shards):
                path = folder / shard_name(number)
                if number in missing:
                    shown = None if progress is None else _shifted(progress, done, len(dataset.pairs))
                    made = make(number, shown)
                    notes = {
                        "n_long": made.n_long,
                        "altered": made.altered,
                        "fingerprint": model.fingerprint.digest,
                    }
                    write_shard(path, made.keys, made.arrays, made.rejected, notes)
                    finished[path.name] = digest_once(path)
                    write_atomically(folder / _FINISHED, json.dumps(finished).encode())
                header = read_shard_header(path)
                if "text" in encoder.modalities and captions.wants(number):
                    keys, arrays, *_ = read_shard(path)
                    of = {pair.key: pair.caption for pair in pairs}
                    captions.learn(number, [of[name] for name in keys], arrays["text"])
                rejected.update(header.rejected)
                n_embedded += len(header.keys)
                n_long += header.notes["n_long"]
                for kind, count in header.notes["altered"].items():
                    altered[kind] = altered.get(kind, 0) + count
                done += len(pairs)
                if progress is not None:
                    progress(done, len(dataset.pairs))
        info = {
            "n": n_embedded,
            "rejected": rejected,
            "n_long": n_long,
            "altered": altered,
            "model": {**encoder.describe(), "precision_cosine": cosine},
            "device": str(encoder.device),
        }
        (folder / _FINISHED).unlink(missing_ok=True)
        return store.complete(KIND, key, _usable(info, dataset, model))


@contextmanager
def _maker(
    folder: Path,
    encoder: Encoder,
    shards: Sequence[Sequence[Pair]],
    missing: Sequence[int],
    captions: CaptionMemory,
    batch_size: int | None,
) -> Iterator[Callable[[int, Progress | None], Shard]]:
    """Yield what makes the missing shards, asked for in their order: the workers of the run, or this process."""
    if (workers := current()) is not None:

        def finished(number: int) -> list[str]:
            keys = set(read_shard_header(folder / shard_name(number)).keys)
            return [pair.caption for pair in shards[number] if pair.key in keys]

        yield ShardsByWorkers(workers, encoder, shards, missing, captions, finished, batch_size).make
        return
    batches = Batches(encoder, batch_size)
    with ImageStream(encoder, [shards[n] for n in missing], batches.size) as images:
        yield lambda number, progress: embed_shard(encoder, shards[number], images, batches, captions, progress)


def _usable(info: dict[str, Any], dataset: PairDataset, model: ResolvedModel) -> dict[str, Any]:
    """Return what is noted of an artifact, unless it holds nothing."""
    if info["n"] == 0:
        reason = next(iter(info["rejected"].values()), "it has no rows")
        raise DataError(
            f"The data set {dataset.name} has no usable pair: {model.label} embedded none of "
            f"{len(dataset.pairs)} ({reason}).",
            "Check the images and the model.",
        )
    return info


def load_embeddings(store: ArtifactStore, key: str, dataset: PairDataset | None = None) -> EmbeddingTable:
    """Load a complete embedding artifact; with a data set its samples alone, with captions and metadata.

    Raises:
        StoreError: it is not there, or damaged.
    """
    table = store.read(KIND, key, EmbeddingTable.load)
    if dataset is None:
        return table
    pairs = dataset.by_key
    if any(name not in pairs for name in table.keys):
        table = table.select([name for name in table.keys if name in pairs])
    metadata = {"caption": [pairs[name].caption for name in table.keys]}
    for column in dataset.metadata_columns:
        if column not in metadata:
            metadata[column] = [pairs[name].metadata[column] for name in table.keys]
    return EmbeddingTable(table.keys, table.image, table.text, metadata, table.fingerprint)


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    return lambda within, _: progress(done + within, total)


def _finished(folder: Path) -> dict[str, str]:
    """Return name -> digest of the shards that an interrupted run finished; those of an older koda it does not know."""
    try:
        return {str(name): str(digest) for name, digest in json.loads((folder / _FINISHED).read_bytes()).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_whole(path: Path, pairs: Sequence[Pair], finished: Mapping[str, str]) -> bool:
    """Tell whether a shard is there in full, as it was written, and accounts for every one of its pairs."""
    if not path.is_file() or finished.get(path.name, (digest := digest_once(path))) != digest:
        return False
    try:
        header = read_shard_header(path)
    except DataError:
        return False
    accounted = sorted([*header.keys, *header.rejected]) == [pair.key for pair in pairs]
    return bool(header.arrays) and {"n_long", "altered"} <= set(header.notes) and accounted
