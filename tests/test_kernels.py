"""Gaussian kernels against the formula, and the rules that choose their bandwidths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koda import DiscrepancyConfig, EmbeddingTable
from koda import kernels as module
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel, choose_kernels, device_of


def table(n: int, seed: int = 0, d: tuple[int, int] = (5, 3), scale: float = 1.0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        [f"k{i:04d}" for i in range(n)], image=scale * rng.normal(size=(n, d[0])), text=rng.normal(size=(n, d[1]))
    )


def by_formula(x, y, sigmas):
    total = sum(((getattr(x, m)[:, None] - getattr(y, m)[None]) ** 2).sum(-1) / (2 * s**2) for m, s in sigmas.items())
    return np.exp(-total)


@pytest.mark.parametrize("sigmas", [{"image": 1.3}, {"text": 0.7}, {"image": 1.3, "text": 0.7}])
def test_the_matrix_is_the_formula(sigmas, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 150)  # several row blocks
    x, y = table(23), table(11, seed=1)
    kernel = Kernel(sigmas)
    assert np.allclose(kernel.matrix(x, y).numpy(), by_formula(x, y, sigmas), atol=1e-13)
    square = kernel.matrix(x)
    assert np.allclose(square.numpy(), by_formula(x, x, sigmas), atol=1e-13)
    assert torch.equal(square, square.T)
    assert torch.equal(square.diagonal(), torch.ones(23, dtype=torch.float64))


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_rotation_shift_and_joint_scaling_leave_the_kernel_alone(seed, scale, shift):
    x = table(9, seed)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    moved = EmbeddingTable(x.keys, image=scale * (x.image @ q) + shift)
    plain, other = Kernel({"image": 0.8}).matrix(x), Kernel({"image": 0.8 * scale}).matrix(moved)
    assert torch.allclose(plain, other, atol=1e-9)


def test_embeddings_are_not_normalised_and_single_precision_is_near():
    x = table(6)
    double = EmbeddingTable(x.keys, image=2 * x.image)
    assert not torch.allclose(Kernel({"image": 1.0}).matrix(x), Kernel({"image": 1.0}).matrix(double), atol=0.01)
    single = Kernel({"image": 1.0}).matrix(x, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), Kernel({"image": 1.0}).matrix(x), atol=1e-5)


def test_one_row_is_its_own_kernel():
    assert Kernel({"image": 1.0}).matrix(table(1)).tolist() == [[1.0]]


@pytest.mark.parametrize("sigmas", [{}, {"audio": 1.0}, {"image": 0.0}, {"image": float("nan")}])
def test_kernels_that_are_none_are_refused(sigmas):
    with pytest.raises(ConfigError):
        Kernel(sigmas)


def test_a_modality_that_the_table_lacks_is_named():
    image_only = EmbeddingTable(["a", "b"], image=np.eye(2))
    with pytest.raises(ConfigError, match="text embeddings are needed"):
        Kernel({"image": 1.0, "text": 1.0}).matrix(image_only)
    with pytest.raises(ConfigError, match="text embeddings are needed"):
        choose_kernels(image_only, image_only, DiscrepancyConfig(modality="joint", device="cpu"))


def test_dimensions_that_differ_are_refused():
    with pytest.raises(DataError, match="dimensions"):
        Kernel({"image": 1.0}).matrix(table(3), table(3, d=(4, 3)))


def test_the_reference_gets_two_fifths_of_its_median_distance():
    target, reference = table(200, 0, scale=3.0), table(200, 1)
    pair = choose_kernels(target, reference, DiscrepancyConfig(device="cpu"))
    for name in ("image", "text"):
        values = getattr(reference, name)
        distances = np.sqrt(((values[:, None] - values[None]) ** 2).sum(-1))[np.triu_indices(200, 1)]
        assert pair.median_distances["reference"][name] == pytest.approx(np.median(distances), rel=0.01)
        assert pair.reference.sigmas[name] == pytest.approx(0.4 * pair.median_distances["reference"][name])


@pytest.mark.parametrize("seed", range(3))
def test_the_leading_eigenvalues_agree_within_five_per_cent(seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 5))
    tight = centres[rng.integers(0, 4, 300)] + 0.1 * rng.normal(size=(300, 5))
    keys = [str(i) for i in range(300)]
    target, reference = EmbeddingTable(keys, image=tight), EmbeddingTable(keys, image=rng.normal(size=(300, 5)))
    pair = choose_kernels(target, reference, DiscrepancyConfig(modality="image", device="cpu"))
    top = {
        role: np.linalg.eigvalsh(kernel.matrix(t).numpy() / 300)[-1]
        for role, kernel, t in (("target", pair.target, target), ("reference", pair.reference, reference))
    }
    assert top["target"] == pytest.approx(top["reference"], rel=0.055)
    assert pair.leading_eigenvalues == pytest.approx(top, rel=1e-3)


def test_the_same_model_twice_gets_equal_bandwidths_whatever_the_order_of_rows():
    x = table(150)
    config = DiscrepancyConfig(device="cpu")
    pair = choose_kernels(x, x, config, max_samples=64)
    assert pair.target == pair.reference
    shuffled = x.take(np.random.default_rng(0).permutation(150))
    again = choose_kernels(shuffled, x, config, max_samples=64)
    assert (again.target, again.reference) == (pair.target, pair.reference)


def test_a_given_bandwidth_is_used_as_it_is():
    pair = choose_kernels(table(20), table(20, 1), DiscrepancyConfig(sigma=2.5, device="cpu"))
    assert pair.target == pair.reference == Kernel({"image": 2.5, "text": 2.5})
    assert pair.median_distances == {}


def test_constant_rows_are_refused():
    flat = EmbeddingTable([str(i) for i in range(5)], image=np.ones((5, 3)), text=np.eye(5))
    with pytest.raises(DataError, match="image embeddings of the target model are constant"):
        choose_kernels(flat, flat, DiscrepancyConfig(device="cpu"))


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        device_of(name)
    assert device_of("auto").type in {"cpu", "cuda"}
