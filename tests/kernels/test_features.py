"""One contract for all feature maps: unbiased, mostly close, never far off; and Fourier features bit by bit."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from koda import EmbeddingTable
from koda.devices import n_features_of
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel, KernelPair
from koda.kernels.features import (
    FeatureMap,
    FourierMap,
    SketchMap,
    draw_features,
    draw_frequencies,
    draw_pair,
    error_bound,
    kernel_error,
    shares_randomness,
)

KERNEL = Kernel({"image": 2.0, "text": 1.5})
IMAGE = Kernel({"image": 3.0})
COSINE = Kernel({"image": None, "text": None}, kind="cosine")
COSINE_IMAGE = Kernel({"image": None}, kind="cosine")
CUBIC = Kernel({"image": None, "text": None}, kind="polynomial")
CUBIC_IMAGE = Kernel({"image": None}, kind="polynomial")

MAPS = [
    *((kernel, kind) for kind in ("orf", "rff") for kernel in (KERNEL, IMAGE)),
    *((kernel, kind) for kind in ("sketch", "tensorsketch") for kernel in (COSINE, COSINE_IMAGE, CUBIC, CUBIC_IMAGE)),
]
NAMES = [f"{kernel.kind}-{'-'.join(kernel.modalities)}-{kind}" for kernel, kind in MAPS]
each_map = pytest.mark.parametrize(("kernel", "kind"), MAPS, ids=NAMES)


def table(n: int = 60, seed: int = 0, d: tuple[int, int] = (6, 5), dtype: type = np.float64) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(n, d[0])), rng.normal(size=(n, d[1]))
    return EmbeddingTable([f"{i:05d}" for i in range(n)], image=image.astype(dtype), text=text.astype(dtype))


@each_map
def test_unbiased_mostly_close_never_far_off(kernel, kind):
    x, r, draws, n = table(40, d=(30, 24)), 150, 60, 40
    exact = kernel.matrix(x)
    # with 30 dimensions a single cosine factor is exact at r >= 15: few coordinates, to see the projection
    r = 14 if kernel is COSINE_IMAGE else r
    stack = []
    for seed in range(draws):
        phi = draw_features(kernel, x, r, kind=kind, seed=seed)(x)
        stack.append(phi @ phi.T)
    found = torch.stack(stack)  # (draws, n, n)
    spread = found.std(0).clamp_min(1e-12) / draws**0.5
    off = ~torch.eye(n, dtype=torch.bool)
    z = ((found.mean(0) - exact) / spread)[off]
    assert abs(float(z.mean())) < 0.5  # unbiased
    assert float(z.abs().mean()) < 1.2
    errors = (found - exact).abs()[:, off] * r**0.5
    assert float((errors < 2).double().mean()) > 0.95  # mostly close
    # never far off; a product of six projections has heavy tails
    assert float(errors.max()) < (40 if kernel is CUBIC else 8)
    if kernel.kind == "gaussian":
        norms = (found - exact).flatten(1).norm(dim=1) / n
        assert float((norms <= error_bound(r)).double().mean()) >= 0.95
    else:  # the diagonal too; that of Fourier features does not vary
        z = ((found.mean(0) - exact) / spread).diagonal()
        assert abs(float(z.mean())) < 1


@each_map
def test_the_contract_of_every_map(kernel, kind):
    x = table(23)
    m = draw_features(kernel, x, 9, kind=kind, seed=3)
    assert isinstance(m, FeatureMap)
    assert (m.kernel, m.kind, m.seed) == (kernel, kind, 3)
    assert m.dims == tuple(getattr(x, name).shape[1] for name in kernel.modalities)
    phi = m(x)
    assert phi.shape == (23, m.width)
    assert m.width == (6 if kernel is COSINE_IMAGE else 18)
    assert phi.dtype == torch.float64
    assert torch.equal(phi, m(x))
    single = m(x, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), phi, atol=1e-5)
    # a row by itself, and rows in another order
    assert m(x.take([4])).shape == (1, m.width)
    rows = np.array([20, 3, 11])
    assert torch.allclose(m(x.take(rows)), phi[rows], atol=1e-13)
    # equal rows
    twice = EmbeddingTable([f"{i}" for i in range(46)], np.tile(x.image, (2, 1)), np.tile(x.text, (2, 1)))
    assert torch.allclose(m(twice), phi.repeat(2, 1), atol=1e-13)
    # the integers, where there are some
    if m.bounded:
        integers = m.integers(x)
        assert integers.dtype == torch.int8
        assert torch.allclose(integers.double() / m.scale, phi)
    else:
        with pytest.raises(DataError, match="not bounded"):
            m.integers(x)
    # equal maps have equal digests, others do not
    assert draw_features(kernel, table(5, seed=9), 9, kind=kind, seed=3).digest() == m.digest()
    others = [draw_features(kernel, x, 10, kind=kind, seed=3), draw_features(kernel, x, 9, kind=kind, seed=4)]
    others.append(draw_features(kernel, table(d=(7, 5)), 9, kind=kind, seed=3))
    if kernel is COSINE_IMAGE:  # no randomness in it
        assert [o.digest() == m.digest() for o in others] == [True, True, False]
        assert shares_randomness(m, others[1])
    else:
        assert all(o.digest() != m.digest() for o in others)
        assert not any(shares_randomness(m, o) for o in others)
    assert shares_randomness(m, draw_features(kernel, table(5, seed=9), 9, kind=kind, seed=3))
    # the measured error is the error of the matrix
    assert kernel_error(m, x) == pytest.approx(float((phi @ phi.T - kernel.matrix(x)).norm()) / 23)
    assert np.isfinite(kernel_error(m, x, max_samples=10))


@each_map
def test_what_cannot_be_mapped_is_refused(kernel, kind):
    m = draw_features(kernel, table(), 4, kind=kind)
    with pytest.raises(DataError, match="dimensions"):
        m(table(d=(5, 6)))
    with pytest.raises(ConfigError, match="n_features"):
        draw_features(kernel, table(), 0, kind=kind)
    missing = EmbeddingTable(["a"], text=np.ones((1, 5)))
    with pytest.raises(ConfigError, match="image embeddings are needed"):
        draw_features(kernel, missing, 4, kind=kind)
    with pytest.raises(ConfigError, match="image embeddings are needed"):
        m(missing)
    for bad in (np.nan, np.inf):
        x = table()
        x.image[7, 2] = bad
        with pytest.raises(DataError, match="not finite"):
            m(x)


def test_the_kind_goes_with_the_kernel():
    x = table()
    assert draw_features(KERNEL, x, 4).kind == "orf"
    assert draw_features(COSINE, x, 4).kind == draw_features(CUBIC, x, 4).kind == "sketch"
    with pytest.raises(ConfigError, match=r"orf do not approximate the cosine kernel(.|\n)*sketch or tensorsketch"):
        draw_features(COSINE, x, 4, kind="orf")
    with pytest.raises(ConfigError, match=r"sketch do not approximate the gaussian kernel(.|\n)*orf or rff"):
        draw_features(KERNEL, x, 4, kind="sketch")
    for kind in ("fourier", "exact"):
        with pytest.raises(ConfigError, match="not known"):
            draw_features(KERNEL, x, 4, kind=kind)
    with pytest.raises(ConfigError, match="not known"):
        draw_frequencies(3, 3, "fourier", 0)


def test_how_many_features_by_device():
    assert n_features_of(None, "cpu") == 1000
    assert n_features_of(None, torch.device("cuda:1")) == 3000
    assert n_features_of(7, "cuda") == 7


def test_two_models_share_the_draw_where_their_dimensions_match():
    narrow = Kernel({"image": 1.0, "text": 1.0})
    for pair in ((KERNEL, narrow), (CUBIC, CUBIC)):
        kernels = KernelPair(*pair, ties={}, median_distances={}, leading_eigenvalues={}, rule="")
        first, second = draw_pair(kernels, table(), table(seed=1), 12, seed=5)
        assert shares_randomness(first, second)
        assert (first.kernel, second.kernel) == (kernels.target, kernels.reference)
        alone = draw_features(kernels.reference, table(seed=1), 12, seed=5)
        assert torch.equal(second(table(seed=1)), alone(table(seed=1)))
        first, second = draw_pair(kernels, table(), table(seed=1, d=(7, 5)), 12, seed=5)
        assert not shares_randomness(first, second)
        first, second = draw_pair(kernels, table(), table(seed=1, d=(5, 6)), 12, seed=5)
        assert not shares_randomness(first, second)
    assert not shares_randomness(draw_features(KERNEL, table(), 12), draw_features(COSINE, table(), 12))


# Fourier features


def test_orthogonal_frequencies_have_the_smaller_error():
    x = table(80, d=(40, 40))
    kernel = Kernel({"image": 9.0, "text": 9.0})
    mean = {
        kind: np.mean([kernel_error(draw_features(kernel, x, 80, kind=kind, seed=s), x) for s in range(8)])
        for kind in ("orf", "rff")
    }
    assert mean["orf"] < mean["rff"] / 1.3


def test_the_measured_error_is_under_the_bound():
    x = table(30)
    assert 0 < kernel_error(draw_features(KERNEL, x, 20), x) < error_bound(20)
    assert error_bound(400) == pytest.approx(error_bound(100) / 2)


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


def test_features_are_cosines_before_sines_of_norm_one_to_their_rounding():
    x = table(7)
    m = draw_features(KERNEL, x, 9, seed=3)
    assert isinstance(m, FourierMap)
    phi = m(x)
    assert torch.allclose(phi.square().sum(1), torch.ones(7, dtype=torch.float64), atol=5e-3)
    z = np.concatenate([x.image / 2.0, x.text / 1.5], axis=1)
    assert np.allclose(phi[:, :9].numpy(), np.cos(z @ m.frequencies.numpy()) / 3, atol=0.03)
    assert np.allclose(phi[:, 9:].numpy(), np.sin(z @ m.frequencies.numpy()) / 3, atol=0.03)


def by_definition(m: FourierMap, x: EmbeddingTable) -> np.ndarray:
    """127 cos and 127 sin of the phases, before rounding, with Python's integers."""
    z = np.concatenate([np.rint(getattr(x, name) * (1024 / s)) for name, s in m.kernel.sigmas.items()], axis=1)
    w = np.rint(m.frequencies.numpy() * (256 / (2 * np.pi)))
    turns = [[sum(int(a) * int(b) for a, b in zip(row, column, strict=True)) % 2**18 for column in w.T] for row in z]
    angles = 2 * np.pi * np.array(turns) / 2**18
    return 127 * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("length", [1.0, 1e3, 1e6], ids=["float32", "float64", "float64, long"])
def test_the_integers_are_the_definition_in_either_precision(length):
    x = EmbeddingTable([f"{i}" for i in range(9)], image=length * table(9).image, text=table(9).text)
    m = draw_features(KERNEL, x, 8, seed=1)
    table_step = 127 * np.pi / 2**14
    assert np.abs(m.integers(x).numpy() - by_definition(m, x)).max() <= 0.5 + table_step


def test_integers_do_not_depend_on_chunks_threads_precision_or_neighbours(monkeypatch):
    n, r = 1003, 33
    x = table(n, d=(48, 31), dtype=np.float32)
    x.image[500] *= 1e5  # its chunk needs float64, others do not
    m = draw_features(KERNEL, x, r, seed=2)
    whole = m.integers(x)
    for size in (1, 7, 1000):
        parts = [m.integers(x.take(range(i, min(i + size, n)))) for i in range(0, n if size > 1 else 40, size)]
        assert torch.equal(torch.cat(parts), whole[: sum(len(part) for part in parts)])
    monkeypatch.setattr("koda.kernels.features.fourier._ELEMENTS", {"cpu": 2000})
    assert torch.equal(m.integers(x), whole)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(m.integers(x), whole)
    finally:
        torch.set_num_threads(threads)
    double = EmbeddingTable(x.keys, x.image.astype(np.float64), x.text.astype(np.float64))
    assert torch.equal(m.integers(double), whole)
    order = np.random.default_rng(0).permutation(n)
    assert torch.equal(m.integers(x.take(order)), whole[order])


@pytest.mark.parametrize("setting", ["torch", "environment"])
def test_settings_that_make_float32_products_inexact_change_nothing(setting, monkeypatch):
    x = table(300, d=(64, 64))
    m = draw_features(Kernel({"image": 1.0, "text": 1.0}), x, 50)
    plain = m.integers(x)
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        if setting == "torch":
            torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        else:
            monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
        assert torch.equal(m.integers(x), plain)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


def test_the_integers_are_the_same_on_every_machine():
    keys = [f"{i}" for i in range(64)]
    grid = np.arange(64 * 20, dtype=np.float32).reshape(64, 20) * 37 % 1009 / 256 - 2
    frequencies = torch.arange(20 * 50, dtype=torch.float64).reshape(20, 50) * 53 % 997 / 128 - 4
    m = FourierMap(Kernel({"image": 0.75}), frequencies, "rff", 0, (20,))
    found = m.integers(EmbeddingTable(keys, image=grid))
    assert hashlib.sha256(found.numpy().tobytes()).hexdigest()[:16] == "8d65f2b88b487630"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_integers_are_the_same_on_a_gpu():
    x = table(2000, d=(300, 200), dtype=np.float32)
    m = draw_features(Kernel({"image": 8.0, "text": 6.0}), x, 257)
    assert torch.equal(m.integers(x, device="cuda").cpu(), m.integers(x))
    x.image[77] *= 1e4
    assert torch.equal(m.integers(x, device="cuda").cpu(), m.integers(x))


def test_a_bandwidth_beyond_exact_arithmetic_is_refused():
    x = table(5)
    for sigma in (1e-12, 1e-40, 1e-300):
        with pytest.raises(DataError, match=f"{sigma:g} for the images.*far too narrow|too large for their bandwidth"):
            draw_features(Kernel({"image": sigma}), x, 4)(x)


def test_one_frequency_and_one_sample():
    x = table(1)
    m = draw_features(KERNEL, x, 1)
    assert m(x).shape == (1, 2)
    assert kernel_error(m, x) == pytest.approx(0, abs=1e-2)


def test_the_digest_is_of_what_is_used():
    x = table()
    m = draw_features(KERNEL, x, 9)
    assert isinstance(m, FourierMap)
    assert replace(m, frequencies=m.frequencies + 1e-9).digest() == m.digest()
    assert replace(m, frequencies=m.frequencies + 0.1).digest() != m.digest()
    assert replace(m, kernel=Kernel({"image": 2.0, "text": 1.6})).digest() != m.digest()


# sketches


@pytest.mark.parametrize("kind", ["sketch", "tensorsketch"])
def test_one_cosine_factor_that_fits_is_exact(kind):
    x = table(d=(12, 5))
    for r, exact in ((5, False), (6, True), (40, True)):
        m = draw_features(COSINE_IMAGE, x, r, kind=kind)
        assert isinstance(m, SketchMap)
        assert m.exact is exact
        assert m.width == (12 if exact else 2 * r)
        assert (kernel_error(m, x) < 1e-14) is exact
    assert torch.allclose(m(x), torch.from_numpy(x.image / np.linalg.norm(x.image, axis=1, keepdims=True)))


@pytest.mark.parametrize("kind", ["sketch", "tensorsketch"])
def test_sketches_see_directions_only_and_refuse_what_has_none(kind):
    x = table()
    m = draw_features(CUBIC, x, 20, kind=kind)
    longer = EmbeddingTable(x.keys, image=1e3 * x.image, text=1e-3 * x.text)
    assert torch.allclose(m(x), m(longer), atol=1e-12)
    x.text[3] = 0
    with pytest.raises(DataError, match="'00003'"):
        m(x)
