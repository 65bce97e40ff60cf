"""Batch sizes: halved when memory runs out, down to one, then an error in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from koda.config import ModelSpec
from koda.devices import is_out_of_memory
from koda.errors import ModelError
from koda.extraction.batches import Batches, joined
from koda.models import Encoder, load_encoder, resolve_model
from tests.tiny import write_tiny_model

CPU_WORDS = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    spec = ModelSpec(name=f"local-dir:{write_tiny_model(tmp_path / 'tiny', seed=0)}", precision="fp32")
    return load_encoder(resolve_model(spec, "cpu"), "cpu")


def room_for(n: int, error: Exception, seen: list[int]) -> Callable[[torch.Tensor], np.ndarray]:
    def encode(batch: torch.Tensor) -> np.ndarray:
        seen.append(len(batch))
        if len(batch) > n:
            raise error
        return batch.numpy()

    return encode


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU_WORDS), MemoryError()]
)
def test_running_out_of_memory_halves_the_batch(encoder: Encoder, error: Exception) -> None:
    batches, seen = Batches(encoder, 16), []
    pixels = torch.arange(40.0).reshape(20, 2)
    parts = batches.run(room_for(5, error, seen), pixels)
    assert np.array_equal(joined(parts, 2), pixels.numpy())
    assert seen == [16, 8, 4, 4, 4, 4, 4]
    assert batches.size == 4  # and stays there
    assert batches.run(room_for(5, error, seen), pixels[:3])[0].shape == (3, 2)


def test_no_room_for_one_is_an_error_in_words(encoder: Encoder) -> None:
    with pytest.raises(ModelError, match=r"(?s)tiny: memory does not hold the model and one sample.*smaller model"):
        Batches(encoder, 4).run(room_for(0, torch.OutOfMemoryError("no"), []), torch.zeros(3, 2))


def test_other_errors_are_not_taken_for_it(encoder: Encoder) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Batches(encoder).run(room_for(0, RuntimeError("shapes cannot be multiplied"), []), torch.zeros(3, 2))


def test_the_processor_says_so_in_these_words() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_no_parts_make_an_empty_matrix() -> None:
    assert joined([], 7).shape == (0, 7)
