"""One contract for all kernels, against the formulas, and the rules that choose bandwidths."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from koda import DiscrepancyConfig, EmbeddingTable
from koda.devices import device_of, kind_of
from koda.errors import ConfigError, DataError
from koda.kernels import Kernel, choose_kernels
from koda.kernels import kernel as module
from koda.kernels.bandwidths import kernels_from_note, kernels_to_note
from tests.dense import tie_of


def table(n: int, seed: int = 0, d: tuple[int, int] = (5, 3), scale: float = 1.0) -> EmbeddingTable:
    rng = np.random.default_rng(seed)
    return EmbeddingTable(
        [f"k{i:04d}" for i in range(n)], image=scale * rng.normal(size=(n, d[0])), text=rng.normal(size=(n, d[1]))
    )


def of_one_modality(u, v, kind, sigma):
    if kind == "gaussian":
        return np.exp(-((u[:, None] - v[None]) ** 2).sum(-1) / (2 * sigma**2))
    cosines = np.einsum("ik,jk->ij", u, v) / np.outer(np.sqrt((u**2).sum(1)), np.sqrt((v**2).sum(1)))
    return cosines if kind == "cosine" else ((1 + cosines) / 2) ** 3


def by_formula(x, y, kernel):
    parts = [of_one_modality(getattr(x, m), getattr(y, m), kernel.kind, s) for m, s in kernel.sigmas.items()]
    return np.prod(parts, axis=0)


MODALITIES = [{"image": 1.3}, {"text": 0.7}, {"image": 1.3, "text": 0.7}]
KERNELS = [
    *(Kernel(sigmas) for sigmas in MODALITIES),
    *(Kernel(dict.fromkeys(names), kind=kind) for kind in ("cosine", "polynomial") for names in MODALITIES),
]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.kind}-{'-'.join(k.modalities)}")
def test_the_contract_of_every_kernel(kernel, monkeypatch):
    x, y = table(23), table(11, seed=1)
    whole = kernel.matrix(x)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 150)  # several row blocks
    square = kernel.matrix(x)
    assert torch.allclose(square, whole, atol=1e-14)
    # the formula, between two tables and of one with itself
    assert np.allclose(kernel.matrix(x, y).numpy(), by_formula(x, y, kernel), atol=1e-13)
    assert np.allclose(square.numpy(), by_formula(x, x, kernel), atol=1e-13)
    # symmetric, diagonal 1, positive semidefinite
    assert torch.equal(square, square.T)
    assert torch.equal(square.diagonal(), torch.ones(23, dtype=torch.float64))
    assert float(torch.linalg.eigvalsh(square)[0]) > -1e-12
    # of part of the rows: the part of the matrix
    rows = np.array([20, 3, 11, 4])
    assert torch.allclose(kernel.matrix(x.take(rows)), square[rows][:, rows], atol=1e-13)
    # one row
    assert kernel.matrix(x.take([5])).tolist() == [[1.0]]
    # equal rows under other keys
    twice = EmbeddingTable([*x.keys, *(f"{key}'" for key in x.keys)], np.tile(x.image, (2, 1)), np.tile(x.text, (2, 1)))
    doubled = kernel.matrix(twice)
    assert torch.allclose(doubled, square.repeat(2, 2), atol=1e-13)
    assert float(doubled.abs().max()) <= 1
    assert float(torch.linalg.eigvalsh(doubled)[0]) > -1e-12
    # single precision is near
    single = kernel.matrix(x, dtype=torch.float32)
    assert single.dtype == torch.float32
    assert torch.equal(single, single.T)
    assert torch.allclose(single.double(), square, atol=1e-5)
    half = EmbeddingTable(x.keys, x.image.astype(np.float16), x.text.astype(np.float16))
    assert torch.allclose(kernel.matrix(half), square, atol=5e-3)
    # through JSON and back
    assert Kernel(**json.loads(json.dumps(vars(kernel)))) == kernel
    assert kernel.modalities == tuple(kernel.sigmas)
    assert kernel.bandwidths == (dict(kernel.sigmas) if kernel.kind == "gaussian" else {})


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.kind}-{'-'.join(k.modalities)}")
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nothing_that_is_not_finite_comes_out(kernel, bad):
    x = table(6)
    for values in (x.image, x.text):
        values[2, 1] = bad
    for call in (lambda: kernel.matrix(x), lambda: kernel.matrix(table(3), x), lambda: kernel.matrix(x, table(3))):
        with pytest.raises(DataError, match="not finite"):
            call()


def test_embeddings_at_the_ends_of_the_numbers():
    x = table(6)
    large = EmbeddingTable(x.keys, image=1e200 * x.image)
    with pytest.raises(DataError, match="too large"):
        Kernel({"image": 1.0}).matrix(large)
    cosine = Kernel({"image": None}, kind="cosine")
    for scale in (1e200, 1e-200, 1e-307):
        scaled = EmbeddingTable(x.keys, image=scale * x.image)
        assert torch.allclose(cosine.matrix(scaled), cosine.matrix(x), atol=1e-12 if scale > 1e-300 else 1e-6)
    x.image[4] = 0
    with pytest.raises(DataError, match="'k0004'"):
        cosine.matrix(x)


@given(st.integers(0, 1000), st.sampled_from(["cosine", "polynomial"]))
@settings(max_examples=15, deadline=None)
def test_rotation_and_the_length_of_each_row_leave_directions_alone(seed, kind):
    x = table(9, seed)
    rng = np.random.default_rng(seed)
    q = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    moved = EmbeddingTable(x.keys, image=rng.uniform(0.1, 10, size=(9, 1)) * (x.image @ q))
    kernel = Kernel({"image": None}, kind=kind)
    assert torch.allclose(kernel.matrix(x), kernel.matrix(moved), atol=1e-12)


@given(st.integers(0, 1000), st.floats(0.1, 10), st.floats(-1e3, 1e3))
@settings(max_examples=20, deadline=None)
def test_rotation_shift_and_joint_scaling_leave_the_kernel_alone(seed, scale, shift):
    x = table(9, seed)
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(5, 5)))[0]
    moved = EmbeddingTable(x.keys, image=scale * (x.image @ q) + shift)
    plain, other = Kernel({"image": 0.8}).matrix(x), Kernel({"image": 0.8 * scale}).matrix(moved)
    assert torch.allclose(plain, other, atol=1e-9)


def test_the_gaussian_kernel_normalises_nothing():
    x = table(6)
    double = EmbeddingTable(x.keys, image=2 * x.image)
    assert not torch.allclose(Kernel({"image": 1.0}).matrix(x), Kernel({"image": 1.0}).matrix(double), atol=0.01)


@pytest.mark.parametrize("kind", ["gaussian", "cosine"])
@pytest.mark.parametrize("sigmas", [{}, {"audio": 1.0}, {"image": 0.0}, {"image": float("nan")}])
def test_kernels_that_are_none_are_refused(sigmas, kind):
    with pytest.raises(ConfigError):
        Kernel(sigmas, kind=kind)


def test_bandwidths_are_for_the_gaussian_kernel():
    with pytest.raises(ConfigError, match="for the gaussian kernel"):
        Kernel({"image": 1.0}, kind="polynomial")
    with pytest.raises(ConfigError, match="must be positive"):
        Kernel({"image": None})
    with pytest.raises(ConfigError, match="gaussian, cosine, polynomial"):
        Kernel({"image": 1.0}, kind="laplace")  # type: ignore[arg-type]


def test_a_modality_that_the_table_lacks_is_named():
    image_only = EmbeddingTable(["a", "b"], image=np.eye(2))
    with pytest.raises(ConfigError, match="text embeddings are needed"):
        Kernel({"image": 1.0, "text": 1.0}).matrix(image_only)
    with pytest.raises(ConfigError, match="text embeddings are needed"):
        choose_kernels(image_only, image_only, DiscrepancyConfig(modality="joint", device="cpu"))
    with pytest.raises(ConfigError, match="text embeddings are needed"):
        choose_kernels(image_only, image_only, DiscrepancyConfig(kernel="cosine", device="cpu"))


def test_dimensions_that_differ_are_refused():
    with pytest.raises(DataError, match="dimensions"):
        Kernel({"image": 1.0}).matrix(table(3), table(3, d=(4, 3)))
    with pytest.raises(DataError, match="dimensions"):
        Kernel({"image": 1.0, "text": 1.0}).matrix(table(3), table(3, d=(4, 4)))
    with pytest.raises(DataError, match="dimensions"):
        Kernel({"image": None}, kind="cosine").matrix(table(3), table(3, d=(4, 3)))


def median_distance(values):
    return np.median(np.sqrt(((values[:, None] - values[None]) ** 2).sum(-1))[np.triu_indices(len(values), 1)])


@pytest.mark.parametrize("n", [2, 60, 400])
def test_auto_gives_each_model_by_itself_a_typical_tie_of_three_tenths(n):
    target, reference = table(n, 0, scale=3.0), table(n, 1)
    target.image[: n // 10] = target.image[0] + 0.1 * target.image[: n // 10]  # a tight group
    pair = choose_kernels(target, reference, DiscrepancyConfig(device="cpu"))
    for role, part, kernel in (("target", target, pair.target), ("reference", reference, pair.reference)):
        assert tie_of(by_formula(part, part, kernel)) == pytest.approx(0.3, abs=1e-4)
        assert pair.ties[role] == pytest.approx(0.3, abs=1e-4)
        medians = {name: median_distance(getattr(part, name)) for name in ("image", "text")}
        assert pair.median_distances[role] == pytest.approx(medians, rel=0.01)
        # one multiplier for both modalities
        multipliers = [kernel.sigmas[name] / pair.median_distances[role][name] for name in medians]
        assert multipliers[0] == pytest.approx(multipliers[1], rel=1e-9)
        assert f"{role} {multipliers[0]:.4g} x its median distance" in pair.rule
    assert "a typical tie of 0.3" in pair.rule
    assert pair.curve == ()
    assert pair.warning == ""
    alone = choose_kernels(target, table(n, 2), DiscrepancyConfig(device="cpu"))
    assert alone.target == pair.target  # whatever it is compared with


def test_matched_gives_the_reference_two_fifths_of_its_median_distance():
    target, reference = table(200, 0, scale=3.0), table(200, 1)
    pair = choose_kernels(target, reference, DiscrepancyConfig(sigma="matched", device="cpu"))
    for name in ("image", "text"):
        median = median_distance(getattr(reference, name))
        assert pair.median_distances["reference"][name] == pytest.approx(median, rel=0.01)
        assert pair.reference.sigmas[name] == pytest.approx(0.4 * pair.median_distances["reference"][name])
    for role, part, kernel in (("target", target, pair.target), ("reference", reference, pair.reference)):
        assert pair.ties[role] == pytest.approx(tie_of(by_formula(part, part, kernel)), rel=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_matched_leading_eigenvalues_agree_within_five_per_cent(seed):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(4, 5))
    tight = centres[rng.integers(0, 4, 300)] + 0.1 * rng.normal(size=(300, 5))
    keys = [str(i) for i in range(300)]
    target, reference = EmbeddingTable(keys, image=tight), EmbeddingTable(keys, image=rng.normal(size=(300, 5)))
    pair = choose_kernels(target, reference, DiscrepancyConfig(modality="image", sigma="matched", device="cpu"))
    top = {
        role: np.linalg.eigvalsh(kernel.matrix(t).numpy() / 300)[-1]
        for role, kernel, t in (("target", pair.target, target), ("reference", pair.reference, reference))
    }
    assert top["target"] == pytest.approx(top["reference"], rel=0.055)
    assert pair.leading_eigenvalues == pytest.approx(top, rel=1e-3)
    # the curve: every multiplier that was tried, the last one among them, and larger ones have larger values
    multiplier = pair.target.sigmas["image"] / pair.median_distances["target"]["image"]
    tried = dict(pair.curve)
    last = tried[min(tried, key=lambda c: abs(c - multiplier))]
    assert last == pytest.approx(pair.leading_eigenvalues["target"], rel=1e-6)
    assert list(pair.curve) == sorted(pair.curve)
    assert [value for _, value in pair.curve] == sorted(tried.values())
    for c, value in pair.curve:
        matrix = Kernel({"image": c * pair.median_distances["target"]["image"]}).matrix(target).numpy()
        assert value == pytest.approx(np.linalg.eigvalsh(matrix / 300)[-1], rel=1e-3)


@pytest.mark.parametrize("kind", ["cosine", "polynomial"])
@pytest.mark.parametrize("n", [2, 40, 400])
def test_kernels_without_a_bandwidth_are_taken_as_they_are(kind, n):
    target, reference = table(n, scale=3.0), table(n, 1)
    for part in (target, reference):
        # the constant vector is orthogonal to what leads; but of two samples one would be the mirror image of the other
        part.image[:] -= part.image.mean(0) if n > 2 else -3.0
    config = DiscrepancyConfig(kernel=kind, modality="image", device="cpu")
    pair = choose_kernels(target, reference, config)
    assert pair.target == pair.reference == Kernel({"image": None}, kind=kind)
    assert pair.median_distances == {}
    assert pair.curve == ()
    assert f"{kind} kernel has no bandwidth" in pair.rule
    for role, part in (("target", target), ("reference", reference)):
        matrix = by_formula(part, part, pair.target)
        assert pair.leading_eigenvalues[role] == pytest.approx(np.linalg.eigvalsh(matrix / n)[-1], rel=1e-3)
        assert pair.ties[role] == pytest.approx(tie_of(matrix), rel=1e-4)


@pytest.mark.parametrize("settings", [{}, {"sigma": "matched"}, {"sigma": 0.9}, {"kernel": "cosine"}])
def test_a_pair_survives_json(settings):
    pair = choose_kernels(table(40), table(40, 1), DiscrepancyConfig(device="cpu", **settings))
    assert kernels_from_note(json.loads(json.dumps(kernels_to_note(pair)))) == pair
    assert bool(pair.curve) == (settings.get("sigma") == "matched")
    curve = ((0.6, 0.2), (0.4, 0.1))
    assert replace(pair, curve=curve).curve == ((0.4, 0.1), (0.6, 0.2))


@pytest.mark.parametrize("sigma", ["auto", "matched"])
def test_the_same_model_twice_gets_equal_bandwidths_whatever_the_order_of_rows(sigma):
    x = table(150)
    config = DiscrepancyConfig(sigma=sigma, device="cpu")
    pair = choose_kernels(x, x, config, max_samples=64)
    assert pair.target == pair.reference
    assert pair.ties["target"] == pair.ties["reference"]
    assert pair.modality_ties["target"] == pair.modality_ties["reference"]
    if sigma == "matched":
        ((multiplier, value),) = pair.curve
        assert (multiplier, value) == pytest.approx((0.4, pair.leading_eigenvalues["target"]), rel=1e-6)
    shuffled = x.take(np.random.default_rng(0).permutation(150))
    again = choose_kernels(shuffled, x, config, max_samples=64)
    assert (again.target, again.reference) == (pair.target, pair.reference)


def test_a_given_bandwidth_is_used_as_it_is():
    target, reference = table(20), table(20, 1)
    pair = choose_kernels(target, reference, DiscrepancyConfig(sigma=2.5, device="cpu"))
    assert pair.target == pair.reference == Kernel({"image": 2.5, "text": 2.5})
    assert pair.rule == "sigma = 2.5 for both models, as configured (20 samples)"
    for role, part in (("target", target), ("reference", reference)):
        assert pair.ties[role] == pytest.approx(tie_of(by_formula(part, part, pair.target)), rel=1e-5)
        medians = {name: median_distance(getattr(part, name)) for name in ("image", "text")}
        assert pair.median_distances[role] == pytest.approx(medians, rel=0.02)


@pytest.mark.parametrize("sigma", ["auto", "matched"])
def test_the_scale_of_the_embeddings_is_that_of_the_bandwidths_and_changes_nothing_else(sigma):
    target, reference, config = table(60), table(60, 1), DiscrepancyConfig(sigma=sigma, device="cpu")
    pair = choose_kernels(target, reference, config)
    for scale in (2.0**64, 2.0**-70, 2.0**-400):  # whose squares float32 has not, or not in full
        scaled = (EmbeddingTable(t.keys, image=scale * t.image, text=t.text) for t in (target, reference))
        other = choose_kernels(*scaled, config)
        assert (other.ties, other.leading_eigenvalues) == (pair.ties, pair.leading_eigenvalues)
        for role in ("target", "reference"):
            sigmas = getattr(pair, role).sigmas
            assert getattr(other, role).sigmas == {"image": scale * sigmas["image"], "text": sigmas["text"]}
            assert other.median_distances[role]["image"] == scale * pair.median_distances[role]["image"]


@pytest.mark.parametrize("scale", [1e20, 1e200])
def test_a_bandwidth_far_under_every_distance_is_refused_in_words(scale):
    far = EmbeddingTable(table(60).keys, image=scale * table(60).image)
    with pytest.raises(DataError, match=r"ties nothing together: .* is 0 "):
        choose_kernels(far, far, DiscrepancyConfig(modality="image", sigma=1.0, device="cpu"))


def test_constant_rows_are_refused():
    flat = EmbeddingTable([str(i) for i in range(5)], image=np.ones((5, 3)), text=np.eye(5))
    with pytest.raises(DataError, match="image embeddings of the target model are constant"):
        choose_kernels(flat, flat, DiscrepancyConfig(device="cpu"))
    with pytest.raises(DataError, match="image embeddings of the target model are constant"):
        choose_kernels(flat, flat, DiscrepancyConfig(kernel="cosine", device="cpu"))


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta:x"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(ConfigError, match=name):
        device_of(name)
    with pytest.raises(ConfigError, match=name):
        kind_of(name)
    assert device_of("auto").type == kind_of("auto") in {"cpu", "cuda"}
