"""The exchange: what is put there is found until it is taken, and what is wrong with it is said in words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from koda.errors import MachineError
from koda.parallel import Exchange


@pytest.mark.parametrize("storage", ["{folder}", "file://{folder}", "memory://koda-test"])
def test_what_is_put_is_taken_once_and_what_is_shared_lies_there_once(tmp_path: Path, storage: str):
    exchange = Exchange.below(storage.format(folder=tmp_path))
    arrays, same = {"x": np.arange(6).reshape(2, 3)[:, ::2]}, {"x": np.array([[0, 2], [3, 5]])}
    shared, first, second = exchange.share_arrays(arrays), exchange.put_arrays(arrays), exchange.put_arrays(same)
    assert exchange.share_arrays(same) == shared
    assert exchange.get_arrays(first)["x"].tolist() == [[0, 2], [3, 5]]
    assert exchange.take_arrays(first)["x"].shape == (2, 2)
    with pytest.raises(MachineError, match="does not see"):
        exchange.get(first)
    assert exchange.get_arrays(second)["x"].tolist() == exchange.get_arrays(shared)["x"].tolist() == [[0, 2], [3, 5]]
    exchange.drop(second)
    exchange.drop(second)
    with pytest.raises(MachineError, match="does not see"):
        exchange.take(second)
    exchange.put(b"more")
    exchange.remove()
    exchange.remove()
    assert not any(tmp_path.iterdir())


def test_what_was_damaged_is_refused(tmp_path: Path):
    exchange = Exchange.below(str(tmp_path))
    handle = exchange.put(b"sums")
    Path(handle.url).write_bytes(b"sumz")
    with pytest.raises(MachineError, match="is not what was written"):
        exchange.get(handle)
    with pytest.raises(MachineError, match="is not what was written"):
        exchange.get(dataclasses.replace(handle, digest="0" * 64))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(MachineError, match=r"(?s)cannot write to .*/file/.*runner\.storage"):
        Exchange.below(str(tmp_path / "file")).put(b"x")
    with pytest.raises(MachineError, match=r"(?s)cannot write to nowhere://x"):
        Exchange.below("nowhere://x").put(b"x")
