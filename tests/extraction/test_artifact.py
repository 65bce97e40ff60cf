"""Extraction: shards, rejections, and an interruption that costs only what was missing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import koda.extraction
from koda.artifacts import MARK, ArtifactStore
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.embedding_io import read_shard
from koda.extraction import KIND, embedding_key, extract, load_embeddings
from koda.models import ResolvedModel, resolve_model
from tests.tiny import write_tiny_model

Write = Callable[..., Path]


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(koda.extraction, "SHARD_SIZE", 4)


@pytest.fixture
def model(tmp_path: Path) -> ResolvedModel:
    return resolve_model(ModelSpec(name=f"local-dir:{write_tiny_model(tmp_path / 'tiny', seed=0)}"))


def data(path: Path) -> PairDataset:
    return read_dataset(DataConfig(path=str(path), max_rejected=0.9))


@pytest.mark.usefixtures("small_shards")
def test_rows_belong_to_their_keys_whatever_the_batch_size(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path
) -> None:
    dataset = data(pairs_folder(10))
    tables = []
    for batch_size in (1, 3, 64):
        store = ArtifactStore(tmp_path / f"store-{batch_size}")
        extract(store, dataset, model, device="cpu", batch_size=batch_size)
        key = embedding_key(dataset, model)
        tables.append(load_embeddings(store, key, dataset))
        assert len(list(store.folder(KIND, key).glob("shard-*"))) == 3
    assert tables[0].keys == tuple(pair.key for pair in dataset.pairs)
    assert tables[0].metadata["caption"][3] == "caption 3"
    assert tables[0].metadata["colour"][3] == "red"
    for table in tables[1:]:
        assert np.abs(table.image - tables[0].image).max() < 1e-6
        assert np.abs(table.text - tables[0].text).max() < 1e-6


@pytest.mark.usefixtures("small_shards")
def test_images_that_cannot_be_decoded_are_recorded(pairs_folder: Write, model: ResolvedModel, tmp_path: Path) -> None:
    path = pairs_folder(6)
    (path.parent / "002.png").write_bytes(b"broken")
    for name in ("004.png", "005.png"):  # a whole shard of them
        (path.parent / name).write_bytes(name.encode())
    dataset, store = data(path), ArtifactStore(tmp_path / "store")
    extract(store, dataset, model, device="cpu")
    key = embedding_key(dataset, model)
    info = store.info(KIND, key)
    assert info is not None
    assert info["n"] == 3
    assert sorted(info["rejected"]) == ["002.png", "004.png", "005.png"]
    assert "not an image file" in info["rejected"]["002.png"]
    assert load_embeddings(store, key).keys == ("000.png", "001.png", "003.png")


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path
) -> None:
    dataset, store = data(pairs_folder(10)), ArtifactStore(tmp_path / "store")
    digest = extract(store, dataset, model, device="cpu")
    folder = store.folder(KIND, embedding_key(dataset, model))
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    shard = folder / "shard-00001.safetensors"
    shard.write_bytes(shard.read_bytes()[:-3])
    seen: list[int] = []
    assert extract(store, dataset, model, device="cpu", progress=lambda done, _: seen.append(done)) == digest
    changed = {name for name, stamp in stamps.items() if (folder / name).stat().st_mtime_ns != stamp}
    assert changed == {"shard-00001.safetensors"}
    assert seen[-1] == 10


def test_a_kill_in_mid_embedding_costs_only_the_missing_shards(
    pairs_folder: Write, model: ResolvedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process is killed after its second shard; the next run makes the others and the same artifact."""
    monkeypatch.setattr(koda.extraction, "SHARD_SIZE", 8)
    path = pairs_folder(48)
    dataset = data(path)
    folder = ArtifactStore(tmp_path / "killed").folder(KIND, embedding_key(dataset, model))
    script = textwrap.dedent(
        f"""
        import time, koda.extraction as e
        from pathlib import Path
        from koda.artifacts import ArtifactStore
        from koda.config import DataConfig, ModelSpec
        from koda.datasets import read_dataset
        from koda.models import resolve_model
        e.SHARD_SIZE = 8
        model = resolve_model(ModelSpec(name={model.spec.name!r}))
        dataset = read_dataset(DataConfig(path={str(path)!r}, max_rejected=0.9))
        def slow(done, total):
            if done >= 20: time.sleep(60)
        store = ArtifactStore(Path({str(tmp_path / "killed")!r}))
        e.extract(store, dataset, model, device="cpu", batch_size=4, progress=slow)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    try:
        second = folder / "shard-00001.safetensors"
        deadline = time.monotonic() + 60
        while not second.is_file() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*")}
    assert sorted(kept) == ["shard-00000.safetensors", "shard-00001.safetensors"]
    assert not (folder / MARK).exists()
    (folder / ".shard-00002.safetensors.x.tmp").write_bytes(b"half")

    digest = extract(ArtifactStore(tmp_path / "killed"), dataset, model, device="cpu")
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == kept
    assert digest == extract(ArtifactStore(tmp_path / "whole"), dataset, model, device="cpu")
    assert read_shard(folder / "shard-00005.safetensors")[0] == [f"{i:03d}.png" for i in range(40, 48)]
