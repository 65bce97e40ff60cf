"""Processes that are killed, and processes that want the same thing: one artifact, byte for byte."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import koda.extraction.artifact as artifact
from koda.config import DataConfig, ModelSpec
from koda.datasets import PairDataset, read_dataset
from koda.extraction import KIND, embedding_key, extract
from koda.models import ResolvedModel, resolve_model
from koda.storage import ArtifactStore
from koda.storage.artifacts import MARK
from tests.tiny import write_tiny_model

Write = Callable[..., Path]
SHARDS, SHARD = 8, 6
PAUSE = 0.02  # seconds at each step, so that there are moments to choose from

# a server that has imported everything forks the processes: each starts at once
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.extraction.test_interruptions"])


@pytest.fixture
def place(pairs_folder: Write, tmp_path: Path) -> tuple[Path, Path]:
    """Return a table of 48 pairs, with repeated captions and a broken image, and a model's folder."""
    n = SHARDS * SHARD
    captions = [f"caption {i % 7 if i % 3 else i}" for i in range(n)]
    table = pairs_folder(n, ["filepath\ttitle", *(f"{i:03d}.png\t{text}" for i, text in enumerate(captions))])
    (table.parent / "009.png").write_bytes(b"broken")
    return table, write_tiny_model(tmp_path / "tiny", seed=0)


def inputs(table: Path, folder: Path) -> tuple[PairDataset, ResolvedModel]:
    artifact.SHARD_SIZE = SHARD
    dataset = read_dataset(DataConfig(path=str(table), max_rejected=0.9))
    return dataset, resolve_model(ModelSpec(name=f"local-dir:{folder}", precision="bf16"), "cpu")


def work(table: Path, folder: Path, root: Path, told: Connection, pause: float) -> None:
    """Extract in a process of its own; tell the first progress, and at the end the digest and the shards made here."""
    import torch

    torch.set_num_threads(1)
    dataset, model = inputs(table, folder)
    made: list[int] = []
    steps: list[int] = []
    embed = artifact.embed_shard

    def counted(*arguments: Any) -> Any:
        made.append(1)
        return embed(*arguments)

    def step(done: int, total: int) -> None:
        if not steps:
            told.send(None)
        steps.append(done)
        time.sleep(pause)

    artifact.embed_shard = counted  # type: ignore[assignment]
    digest = extract(ArtifactStore(root), dataset, model, device="cpu", progress=step)
    told.send((digest, len(made), len(steps)))


def start(*arguments: Any) -> tuple[Any, Connection]:
    ours, theirs = _context.Pipe(duplex=False)
    process = _context.Process(target=work, args=(*arguments[:3], theirs, arguments[3]))
    process.start()
    theirs.close()
    return process, ours


def finish(process: Any, told: Connection) -> tuple[str, int, int]:
    while (result := told.recv()) is None:
        pass
    process.join()
    assert process.exitcode == 0
    digest, made, steps = result
    return digest, made, steps


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_five_kills_at_random_moments_leave_the_same_artifact(
    place: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "SHARD_SIZE", SHARD)
    dataset, model = inputs(*place)
    digest, made, steps = finish(*start(*place, tmp_path / "whole", 0))
    assert made == SHARDS
    killed, rng = 0, np.random.default_rng(0)
    for moment in rng.uniform(0, steps * PAUSE / 3, 5):
        process, told = start(*place, tmp_path / "killed", PAUSE)
        told.recv()
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed > 0
    found, made, _ = finish(*start(*place, tmp_path / "killed", 0))
    key = embedding_key(dataset, model)
    assert found == digest
    assert made < SHARDS  # what was finished was kept
    whole, resumed = (files_of(ArtifactStore(tmp_path / name).folder(KIND, key)) for name in ("whole", "killed"))
    assert MARK in whole
    assert resumed == whole


def test_two_processes_that_want_the_same_compute_it_once(place: tuple[Path, Path], tmp_path: Path) -> None:
    both = [start(*place, tmp_path / "store", PAUSE) for _ in range(2)]
    results = [finish(*started) for started in both]
    assert sorted(made for _, made, _ in results) == [0, SHARDS]
    assert len({digest for digest, _, _ in results}) == 1
