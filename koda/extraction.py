"""Extraction: a data set through a model into a sharded embedding artifact, resumable by shard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from koda.artifacts import ArtifactStore
from koda.datasets import Pair, PairDataset, decode_image
from koda.digest import digest_json
from koda.embedding_io import SHARD_SIZE, read_shard, shard_name, write_shard
from koda.embeddings import EmbeddingTable, FloatArray
from koda.errors import DataError
from koda.models import Encoder, ResolvedModel, load_encoder

if TYPE_CHECKING:
    import torch

KIND = "embeddings"
_EXTRACTION_VERSION = 1
_AHEAD = 3  # batches decoded while one is in the model

Progress = Callable[[int, int], None]


def embedding_key(dataset: PairDataset, model: ResolvedModel) -> str:
    """Return the key of a model's embeddings of a data set: both digests and the shard size."""
    return digest_json([_EXTRACTION_VERSION, dataset.digest, model.fingerprint.digest, SHARD_SIZE])


def extract(
    store: ArtifactStore,
    dataset: PairDataset,
    model: ResolvedModel,
    *,
    device: str = "auto",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> str:
    """Embed a data set with a model, shard by shard, and return the digest of the artifact.

    Shards that an earlier, interrupted run finished are kept. Two processes that extract the same
    thing do not compute it twice: the second waits for the first and uses what it made.

    Raises:
        DataError: not one sample could be embedded.
        ModelError: the model does not load.
        StoreError: the disk is full or read-only.
    """
    key = embedding_key(dataset, model)
    with store.lock(KIND, key):
        if store.has(KIND, key):
            return store.digest(KIND, key)
        folder = store.folder(KIND, key)
        shards = [dataset.pairs[first : first + SHARD_SIZE] for first in range(0, len(dataset.pairs), SHARD_SIZE)]
        done = 0
        encoder = load_encoder(model, device)
        rejected: dict[str, str] = {}
        n_embedded = n_long = 0
        for number, pairs in enumerate(shards):
            path = folder / shard_name(number)
            if not _is_whole(path, pairs):
                keys, arrays, left_out, long = _embed(
                    encoder, pairs, batch_size, None if progress is None else _shifted(progress, done, dataset)
                )
                write_shard(path, keys, arrays, left_out, {"n_long": long, "fingerprint": model.fingerprint.digest})
            keys, _, left_out, extra = read_shard(path)
            rejected.update(left_out)
            n_embedded += len(keys)
            n_long += extra["n_long"]
            done += len(pairs)
            if progress is not None:
                progress(done, len(dataset.pairs))
        if n_embedded == 0:
            reason = next(iter(rejected.values()), "it has no rows")
            raise DataError(
                f"The data set {dataset.name} has no usable pair: {model.label} embedded none of "
                f"{len(dataset.pairs)} ({reason}).",
                "Check the images and the model.",
            )
        info = {
            "n": n_embedded,
            "rejected": rejected,
            "n_long": n_long,
            "model": encoder.describe(),
            "device": str(encoder.device),
        }
        return store.complete(KIND, key, info)


def load_embeddings(store: ArtifactStore, key: str, dataset: PairDataset | None = None) -> EmbeddingTable:
    """Load a complete embedding artifact, with captions and metadata where the data set is given."""
    table = EmbeddingTable.load(store.folder(KIND, key))
    if dataset is None:
        return table
    pairs = {pair.key: pair for pair in dataset.pairs}
    metadata = {"caption": [pairs[name].caption for name in table.keys]}
    for column in dataset.metadata_columns:
        if column not in metadata:
            metadata[column] = [pairs[name].metadata[column] for name in table.keys]
    return EmbeddingTable(table.keys, table.image, table.text, metadata, table.fingerprint)


def _shifted(progress: Progress, done: int, dataset: PairDataset) -> Progress:
    return lambda within, _: progress(done + within, len(dataset.pairs))


def _is_whole(path: Any, pairs: Sequence[Pair]) -> bool:
    """Tell whether a shard is there and accounts for every one of its pairs."""
    if not path.is_file():
        return False
    try:
        keys, arrays, rejected, extra = read_shard(path)
    except DataError:
        return False
    return bool(arrays) and "n_long" in extra and sorted([*keys, *rejected]) == [pair.key for pair in pairs]


def _embed(
    encoder: Encoder, pairs: Sequence[Pair], batch_size: int, progress: Progress | None
) -> tuple[list[str], dict[str, FloatArray], dict[str, str], int]:
    """Embed one shard: keys, arrays, rejected key -> reason, and the number of captions cut."""
    rejected: dict[str, str] = {}
    keys: list[str] = []
    images: list[FloatArray] = []
    texts: list[FloatArray] = []
    n_long = seen = 0
    for batch, pixels in _decoded(encoder, pairs, batch_size):
        usable = []
        tensors = []
        for pair, tensor in zip(batch, pixels, strict=True):
            if isinstance(tensor, DataError):
                rejected[pair.key] = tensor.message
            else:
                usable.append(pair)
                tensors.append(tensor)
        if usable:
            import torch

            captions = [pair.caption for pair in usable]
            image = encoder.encode_images(torch.stack(tensors))  # (b, d)
            text = encoder.encode_texts(captions)  # (b, d)
            n_long += encoder.count_long(captions)
            table = EmbeddingTable([pair.key for pair in usable], image, text)
            broken = table.invalid_rows()
            rejected.update(broken)
            good = np.array([pair.key not in broken for pair in usable])
            keys += [pair.key for pair in usable if pair.key not in broken]
            images.append(image[good])
            texts.append(text[good])
        seen += len(batch)
        if progress is not None:
            progress(seen, len(pairs))
    width = int(encoder.resolved.fingerprint.config["embed_dim"])
    empty = np.zeros((0, width), dtype=np.float32)
    arrays = {"image": np.concatenate([empty, *images]), "text": np.concatenate([empty, *texts])}
    return keys, arrays, rejected, n_long


def _decoded(
    encoder: Encoder, pairs: Sequence[Pair], batch_size: int
) -> Iterator[tuple[Sequence[Pair], list[torch.Tensor | DataError]]]:
    """Yield batches of preprocessed images, decoding some batches ahead of the model."""

    def prepare(pair: Pair) -> torch.Tensor | DataError:
        try:
            return encoder.preprocess(decode_image(pair))
        except DataError as error:
            return error

    batches = [pairs[first : first + batch_size] for first in range(0, len(pairs), batch_size)]
    with ThreadPoolExecutor(2) as pool:
        waiting: deque[tuple[Sequence[Pair], list[Future[torch.Tensor | DataError]]]] = deque()
        for batch in batches:
            waiting.append((batch, [pool.submit(prepare, pair) for pair in batch]))
            if len(waiting) >= _AHEAD:
                ready, futures = waiting.popleft()
                yield ready, [future.result() for future in futures]
        while waiting:
            ready, futures = waiting.popleft()
            yield ready, [future.result() for future in futures]
