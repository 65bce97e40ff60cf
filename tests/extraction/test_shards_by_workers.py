"""Extraction by workers: the shards of one process, byte for byte, whatever is rejected, repeated or resumed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import koda.extraction.artifact
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.embeddings.layout import shard_name
from koda.errors import ModelError
from koda.extraction import KIND, embedding_key, extract
from koda.extraction.shards_by_workers import pictures_of
from koda.models import ResolvedModel, resolve_model
from koda.parallel import using
from koda.storage import ArtifactStore
from tests.parallel.here import Here
from tests.tiny import write_tiny_model

Write = Callable[..., Path]
#: "two" stands in the first and the third shard, "one" in all three, and a row of the second has no picture
CAPTIONS = ["one", "two", "three", "four", "one", "five", "six", "six", "two", "seven", "one", "eight", "nine"]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koda.extraction.artifact, "SHARD_SIZE", 4)


@pytest.fixture
def dataset(pairs_folder: Write) -> PairDataset:
    rows = [f"{i:03d}.png\t{caption}" for i, caption in enumerate(CAPTIONS)]
    path = pairs_folder(len(CAPTIONS), ["filepath\ttitle", *rows])
    Image.new("RGBA", (12, 12), (200, 0, 0, 128)).save(path.parent / "002.png")  # composed, so that it is altered
    read = read_dataset(DataConfig(path=str(path), max_rejected=0.9))
    (path.parent / "005.png").write_bytes(b"another picture")  # which turns up in the extraction
    return read


@pytest.fixture
def model(tmp_path: Path) -> ResolvedModel:
    folder = write_tiny_model(tmp_path / "tiny", seed=0)
    return resolve_model(ModelSpec.model_validate({"name": f"local-dir:{folder}", "precision": "fp32"}), "cpu")


def whole(store: ArtifactStore, dataset: PairDataset, model: ResolvedModel) -> tuple[str, dict[str, Any] | None]:
    digest = extract(store, dataset, model, device="cpu", batch_size=3)
    return digest, store.info(KIND, embedding_key(dataset, model))


def test_it_is_the_same_bytes_as_in_one_process(tmp_path: Path, dataset: PairDataset, model: ResolvedModel):
    alone = whole(ArtifactStore(tmp_path / "a"), dataset, model)
    here = Here(tmp_path / "exchange")
    with using(here):
        assert whole(ArtifactStore(tmp_path / "b"), dataset, model) == alone
    assert here.parts.count("pictures_of") == 4
    assert not any(Path(here.exchange.url).iterdir())
    assert alone[1] is not None and list(alone[1]["rejected"]) == ["005.png"] and alone[1]["altered"]


@pytest.mark.parametrize("there", [(0,), (1, 2), (0, 2, 3)])
def test_what_an_interrupted_run_left_is_kept(
    tmp_path: Path, dataset: PairDataset, model: ResolvedModel, there: tuple[int, ...]
):
    store = ArtifactStore(tmp_path / "a")
    alone = whole(store, dataset, model)
    key = embedding_key(dataset, model)
    other = ArtifactStore(tmp_path / "b")
    other.folder(KIND, key).mkdir(parents=True)
    for number in there:
        name = shard_name(number)
        (other.folder(KIND, key) / name).write_bytes((store.folder(KIND, key) / name).read_bytes())
    with using(here := Here(tmp_path / "exchange")):
        assert whole(other, dataset, model) == alone
    assert here.parts.count("pictures_of") == 4 - len(there)


def test_a_caption_that_no_kernel_can_use_is_encoded_again_as_in_one_process(
    tmp_path: Path, dataset: PairDataset
) -> None:
    path = tmp_path / "own.py"
    source = """
        import torch

        class make:
            def encode_text(self, captions):
                rows = [[len(c), float(ord(c[-1])), float(c != "two") / len(captions)] for c in captions]
                return torch.tensor(rows) / torch.tensor([[float(c != "two")] for c in captions])
        """
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    model = resolve_model(ModelSpec(name=f"python:{path}:make"), "cpu")
    alone = whole(ArtifactStore(tmp_path / "a"), dataset, model)
    with using(here := Here(tmp_path / "exchange")):
        assert whole(ArtifactStore(tmp_path / "b"), dataset, model) == alone
    assert here.parts.count("captions_of") == 5  # once more than there are shards
    assert alone[1] is not None and len(alone[1]["rejected"]) == 2


def test_a_worker_that_finds_another_model_or_none_says_so(tmp_path: Path, dataset: PairDataset, model: ResolvedModel):
    exchange = Here(tmp_path / "exchange").exchange
    spec = model.spec.model_dump(mode="json")
    with pytest.raises(ModelError, match="finds another model"):
        pictures_of(exchange, (spec, "0" * 64, "cpu"), list(dataset.pairs[:2]), None)
    gone = {**spec, "name": f"local-dir:{tmp_path / 'gone'}"}
    with pytest.raises(ModelError, match="A worker cannot read a model that the run can"):
        pictures_of(exchange, (gone, "1" * 64, "cpu"), list(dataset.pairs[:2]), None)
