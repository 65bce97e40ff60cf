"""The one-pass covariance against the whole product, and its exactness over shards, orders and chunks."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.errors import DataError
from koda.kernels import Kernel
from koda.kernels import covariance as module
from koda.kernels.covariance import CovarianceBlocks, StackedFeatures, accumulate
from koda.kernels.features import draw_features


def pair(n: int) -> tuple[EmbeddingTable, EmbeddingTable]:
    rng = np.random.default_rng(0)
    keys = [f"{i:05d}" for i in range(n)]
    return EmbeddingTable(keys, image=rng.normal(size=(n, 4))), EmbeddingTable(keys, image=rng.normal(size=(n, 6)))


def maps_of(target, reference, kind: str = "gaussian"):
    kernel = Kernel({"image": 1.7}) if kind == "gaussian" else Kernel({"image": None}, kind=kind)
    return draw_features(kernel, target, 5), draw_features(kernel, reference, 8)


def covariance(target, reference, maps, rows: int | None = None) -> CovarianceBlocks:
    return accumulate(StackedFeatures(target, reference, maps, torch.device("cpu"), rows))


@pytest.mark.parametrize("kind", ["gaussian", "polynomial"])
@pytest.mark.parametrize("n", [1, 37])
@pytest.mark.parametrize("rows", [1, 8, None])
def test_it_is_the_product_of_all_features(n, rows, kind):
    target, reference = pair(n)
    maps = maps_of(target, reference, kind)
    found = covariance(target, reference, maps, rows=rows)
    phi = torch.cat([maps[0](target), maps[1](reference)], dim=1)
    assert torch.allclose(found.g, phi.T @ phi / n, atol=1e-13)
    assert torch.equal(found.g, found.g.T)
    assert found.g.dtype == torch.float64
    assert (found.n, found.split, found.exact) == (n, maps[0].width, kind == "gaussian")


@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_the_column_blocks_do_not_matter(blocks):
    target, reference = pair(29)
    features = StackedFeatures(target, reference, maps_of(target, reference), torch.device("cpu"))
    assert accumulate(features, blocks=blocks).digest() == accumulate(features).digest()


def test_shards_in_any_order_and_chunks_of_any_size_give_the_same_bytes():
    target, reference = pair(203)
    maps = maps_of(target, reference)
    whole = covariance(target, reference, maps).digest()
    rng = random.Random(0)
    for shards in (1, 4, 32):
        edges = [203 * i // shards for i in range(shards + 1)]
        rows = np.random.default_rng(shards).permutation(203)
        parts = []
        for start, stop in pairwise(edges):
            some = rows[start:stop]
            parts.append(covariance(target.take(some), reference.take(some), maps, rows=rng.choice([1, 3, 50])))
        rng.shuffle(parts)
        sums = torch.stack([part.sums for part in parts]).sum(0)
        assert CovarianceBlocks(sums, sum(part.n for part in parts), maps, True).digest() == whole


def test_sums_of_different_maps_have_another_digest():
    target, reference = pair(9)
    first = covariance(target, reference, maps_of(target, reference))
    other = draw_features(Kernel({"image": 1.7}), target, 5, seed=1)
    second = covariance(target, reference, (other, first.maps[1]))
    assert first.digest() != second.digest()


def test_the_extremes_of_int8_are_summed_exactly():
    """Columns of 127 fill the integers of float32 after 1040 rows; more rows are split."""
    x = torch.full((5000, 3), 127, dtype=torch.int8)
    x[:, 1] = -127
    x[::2, 2] = 1
    expected = (x.long().T @ x.long()).double()
    for add in (module._add_fp32, module._add_int8):
        sums = torch.zeros(3, 3, dtype=torch.float64)
        add(sums, x, [0, 1, 3])
        assert torch.equal(sums.triu(), expected.triu())


def test_integer_products_and_single_precision_give_the_same_sums(monkeypatch):
    target, reference = pair(61)
    maps = maps_of(target, reference)
    digests = set()
    for int8 in (False, True):
        monkeypatch.setattr(module, "has_int8_products", lambda device, int8=int8: int8)
        digests.add(covariance(target, reference, maps, rows=17).digest())
    assert len(digests) == 1


def test_features_are_kept_up_to_the_limit_and_made_again_beyond_it():
    target, reference = pair(40)
    maps = maps_of(target, reference)
    for limit, same in ((10**6, True), (10, False)):
        features = StackedFeatures(target, reference, maps, torch.device("cpu"), rows=7, cache_bytes=limit)
        first = [chunk for _, chunk in features.chunks()]
        second = [chunk for _, chunk in features.chunks()]
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert all((a is b) == same for a, b in zip(first, second, strict=True))


def test_tables_that_are_not_joined_are_refused():
    target, reference = pair(5)
    maps = maps_of(target, reference)
    with pytest.raises(DataError, match="same keys"):
        covariance(target, reference.take(np.arange(4)), maps)
    with pytest.raises(DataError, match="same keys"):
        covariance(target, reference.take(np.arange(4, -1, -1)), maps)
