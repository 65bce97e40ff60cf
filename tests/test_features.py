"""Random Fourier features: unbiased, mostly close, never far off."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.errors import ConfigError, DataError
from koda.features import FeatureMap, draw_features, draw_frequencies, draw_pair, error_bound, kernel_error
from koda.kernels import Kernel, KernelPair

KERNEL = Kernel({"image": 2.0, "text": 1.5})


def table(n: int = 60, seed: int = 0, d: tuple[int, int] = (6, 5)) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        [f"{i:03d}" for i in range(n)], image=rng.normal(size=(n, d[0])), text=rng.normal(size=(n, d[1]))
    )


@pytest.mark.parametrize("kind", ["orf", "rff"])
def test_unbiased_mostly_close_never_far_off(kind):
    x = table()
    exact = KERNEL.matrix(x)
    draws = []
    for seed in range(60):
        phi = draw_features(KERNEL, x, 100, kind=kind, seed=seed)(x)
        draws.append(phi @ phi.T)
    stack = torch.stack(draws)  # (60, n, n)
    spread = stack.std(0).clamp_min(1e-12) / 60**0.5
    off = ~torch.eye(60, dtype=torch.bool)
    z = ((stack.mean(0) - exact) / spread)[off]
    assert abs(float(z.mean())) < 0.5  # unbiased
    assert float(z.abs().mean()) < 1.2
    errors = (stack - exact).abs()[:, off]
    assert float((errors < 0.15).double().mean()) > 0.95  # mostly close
    assert float(errors.max()) < 0.5  # never far off
    norms = (stack - exact).flatten(1).norm(dim=1) / 60
    assert float((norms <= error_bound(100)).double().mean()) >= 0.95


def test_orthogonal_frequencies_have_the_smaller_error():
    x = table(80, d=(40, 40))
    kernel = Kernel({"image": 9.0, "text": 9.0})
    mean = {
        kind: np.mean([kernel_error(draw_features(kernel, x, 80, kind=kind, seed=s), x) for s in range(8)])
        for kind in ("orf", "rff")
    }
    assert mean["orf"] < mean["rff"] / 1.3


def test_features_have_norm_one_and_cosines_before_sines():
    x = table(7)
    m = draw_features(KERNEL, x, 9, seed=3)
    phi = m(x)
    assert phi.shape == (7, m.width) == (7, 18)
    assert torch.allclose(phi.square().sum(1), torch.ones(7, dtype=torch.float64))
    z = np.concatenate([x.image / 2.0, x.text / 1.5], axis=1)
    assert np.allclose(phi[:, :9].numpy(), np.cos(z @ m.frequencies.numpy()) / 3)
    assert np.allclose(phi[:, 9:].numpy(), np.sin(z @ m.frequencies.numpy()) / 3)


def test_frequencies_are_orthogonal_in_blocks_and_standard_normal_one_by_one():
    w = draw_frequencies(6, 15, "orf", 0).numpy()
    for block in (w[:, :6], w[:, 6:12], w[:, 12:]):
        gram = block.T @ block
        assert np.allclose(gram, np.diag(np.diag(gram)), atol=1e-12)
    for kind in ("orf", "rff"):
        many = draw_frequencies(4, 8000, kind, 1).numpy()
        assert np.abs(many.mean(1)).max() < 0.06
        assert np.abs(np.cov(many) - np.eye(4)).max() < 0.08
        assert (many**4).mean() == pytest.approx(3, abs=0.25)


def test_two_models_share_frequencies_where_their_dimensions_match():
    pair = KernelPair(KERNEL, Kernel({"image": 1.0, "text": 1.0}), {}, {}, "")
    first, second = draw_pair(pair, table(), table(seed=1), 12, kind="orf", seed=5)
    assert torch.equal(first.frequencies, second.frequencies)
    first, second = draw_pair(pair, table(), table(seed=1, d=(7, 5)), 12, kind="orf", seed=5)
    assert first.frequencies.shape != second.frequencies.shape
    other = draw_features(KERNEL, table(), 12, seed=6)
    assert not torch.equal(other.frequencies, first.frequencies)


def test_the_measured_error_is_the_error_of_the_matrix():
    x = table(30)
    m = draw_features(KERNEL, x, 20, seed=0)
    phi = m(x)
    assert kernel_error(m, x) == pytest.approx(float((phi @ phi.T - KERNEL.matrix(x)).norm()) / 30)
    assert 0 < kernel_error(m, x, max_samples=10) < error_bound(20)
    assert error_bound(400) == pytest.approx(error_bound(100) / 2)


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(ConfigError, match="n_features"):
        draw_features(KERNEL, table(), 0)
    with pytest.raises(ConfigError, match="not known"):
        draw_frequencies(3, 3, "fourier", 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="text"):
        draw_features(KERNEL, EmbeddingTable(["a"], image=np.ones((1, 6))), 4)
    with pytest.raises(DataError, match="dimensions"):
        draw_features(KERNEL, table(), 4)(table(d=(6, 6)))


def test_one_frequency_and_one_sample():
    x = table(1)
    m = draw_features(KERNEL, x, 1)
    assert isinstance(m, FeatureMap)
    assert m(x).shape == (1, 2)
    assert kernel_error(m, x) == pytest.approx(0, abs=1e-12)
