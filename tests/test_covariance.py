"""The one-pass covariance against the whole product."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.covariance import covariance
from koda.errors import DataError
from koda.features import draw_features
from koda.kernels import Kernel


def pair(n: int) -> tuple[EmbeddingTable, EmbeddingTable]:
    rng = np.random.default_rng(0)
    keys = [f"{i:03d}" for i in range(n)]
    return EmbeddingTable(keys, image=rng.normal(size=(n, 4))), EmbeddingTable(keys, image=rng.normal(size=(n, 6)))


@pytest.mark.parametrize("n", [1, 37])
@pytest.mark.parametrize("rows", [1, 8, 4096])
@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_it_is_the_product_of_all_features(n, rows, blocks):
    target, reference = pair(n)
    kernel = Kernel({"image": 1.7})
    maps = (draw_features(kernel, target, 5), draw_features(kernel, reference, 8))
    found = covariance(target, reference, maps, rows=rows, blocks=blocks)
    phi = torch.cat([maps[0](target), maps[1](reference)], dim=1)
    assert torch.allclose(found.g, phi.T @ phi / n, atol=1e-13)
    assert torch.equal(found.g, found.g.T)
    assert found.g.dtype == torch.float64
    assert (found.n, found.split) == (n, 10)
    assert float(found.g.trace()) == pytest.approx(2)  # both kernels have k(z, z) = 1


def test_tables_that_are_not_joined_are_refused():
    target, reference = pair(5)
    kernel = Kernel({"image": 1.0})
    maps = (draw_features(kernel, target, 2), draw_features(kernel, reference, 2))
    with pytest.raises(DataError, match="same keys"):
        covariance(target, reference.take(np.arange(4)), maps)
    with pytest.raises(DataError, match="same keys"):
        covariance(target, reference.take(np.arange(4, -1, -1)), maps)
