"""The typical tie: against the definition written out, at its edges, and as the unit of shares."""

from __future__ import annotations

import numpy as np
import pytest

from koda import DiscrepancyConfig, EmbeddingTable, find_discrepancies
from koda.errors import DataError
from koda.kernels import choose_kernels
from koda.kernels.ties import nearest_count
from tests.dense import gaussian, share_of, tie_of


def config(**changes) -> DiscrepancyConfig:
    return DiscrepancyConfig(**{"modality": "image", "device": "cpu", **changes})


def keys_of(n: int) -> list[str]:
    return [f"k{i:04d}" for i in range(n)]


def table(n: int, seed: int = 0, d: int = 6) -> EmbeddingTable:
    image, text = np.random.default_rng(seed).normal(size=(2, n, d))
    return EmbeddingTable(keys_of(n), image=image, text=text)


def planted(n: int = 500, seed: int = 0, d: int = 12) -> tuple[EmbeddingTable, EmbeddingTable, np.ndarray]:
    """Two models with noise of their own; the target alone ties 4 % of the samples together, as near as is typical."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, 10, n)
    base = rng.normal(size=(10, d))[topic] + rng.normal(size=(n, d))
    inside = np.zeros(n, dtype=bool)
    inside[rng.choice(n, n // 25, replace=False)] = True
    target = np.where(inside[:, None], 1.5 * rng.normal(size=d) + 0.6 * rng.normal(size=(n, d)), base)
    noise, other = 0.1 * rng.normal(size=(2, n, d))
    keys = keys_of(n)
    return EmbeddingTable(keys, image=target + noise), EmbeddingTable(keys, image=base + other), inside


@pytest.mark.parametrize(("n", "count"), [(2, 1), (3, 1), (101, 1), (140, 1), (162, 2), (1001, 10), (4096, 41)])
def test_the_nearest_are_one_per_cent_of_the_others_and_at_least_one(n, count):
    assert nearest_count(n) == count


@pytest.mark.parametrize("n", [2, 3, 40, 330])
@pytest.mark.parametrize(
    "settings",
    [{}, {"sigma": "matched"}, {"sigma": 1.7}, {"kernel": "cosine"}, {"kernel": "polynomial"}],
    ids=lambda settings: "-".join(map(str, settings.values())) or "auto",
)
@pytest.mark.parametrize("modality", ["image", "joint"])
def test_it_is_what_the_definition_says(n, settings, modality):
    target, reference = table(n), table(n, 1)
    if n < 40:  # of so few, in space, the directions would be opposite
        target, reference = (EmbeddingTable(t.keys, image=t.image + 3, text=t.text + 3) for t in (target, reference))
    pair = choose_kernels(target, reference, config(modality=modality, **settings))
    for role, part, kernel in (("target", target, pair.target), ("reference", reference, pair.reference)):
        matrices = {}
        for name, sigma in kernel.sigmas.items():
            x = getattr(part, name)
            cosines = (unit := x / np.linalg.norm(x, axis=1, keepdims=True)) @ unit.T
            matrices[name] = {
                "gaussian": lambda x=x, sigma=sigma: gaussian(x, sigma),
                "cosine": lambda cosines=cosines: cosines,
                "polynomial": lambda cosines=cosines: ((1 + cosines) / 2) ** 3,
            }[kernel.kind]()
        assert pair.ties[role] == pytest.approx(tie_of(np.prod(list(matrices.values()), axis=0)), rel=1e-4)
        assert pair.modality_ties[role] == pytest.approx({name: tie_of(m) for name, m in matrices.items()}, rel=1e-4)


def test_the_diagonal_is_not_among_the_nearest_whatever_equals_it():
    """Every third sample has a twin, in either order of the rows: the twin counts, the sample itself does not."""
    x = table(300).image
    x[1::3] = x[0::3]
    part = EmbeddingTable(keys_of(300), image=x)
    for settings in ({"sigma": 0.5}, {"kernel": "polynomial"}):
        pair = choose_kernels(part, part, config(**settings))
        matrix = pair.target.matrix(part).numpy()
        assert pair.ties["target"] == pytest.approx(tie_of(matrix), rel=1e-4)
        assert tie_of(matrix) > 1 / 4.5  # of the three nearest of two thirds of the samples one is equal


def test_it_hardly_depends_on_the_number_of_samples_nor_on_their_order():
    sigma = choose_kernels(table(2000), table(2000, 1), config()).target.sigmas["image"]
    ties = [
        choose_kernels(part := table(n, seed=5), part, config(sigma=sigma)).ties["target"] for n in (500, 1000, 2000)
    ]
    assert ties == pytest.approx([0.3] * 3, abs=0.04)
    part = table(500)
    mixed = part.take(np.random.default_rng(0).permutation(500))
    one, other = (choose_kernels(given, part, config()).ties["target"] for given in (part, mixed))
    assert one == pytest.approx(other, rel=1e-6)


def test_it_is_measured_on_a_subsample_of_the_seed():
    part = table(400)
    ties = {
        seed: [
            choose_kernels(given, part, config(sigma=1.0, seed=seed), max_samples=150).ties
            for given in (part, part.take(np.random.default_rng(0).permutation(400)))
        ]
        for seed in (0, 1)
    }
    assert ties[0][0] == pytest.approx(ties[0][1], rel=1e-6)
    assert ties[0][0] != ties[1][0]


def test_some_duplicates_count_as_alike_and_do_not_shrink_the_bandwidth():
    x = table(300).image
    twins = x.copy()
    twins[:30] = twins[30:60]  # of a fifth of the samples, the nearest of three is equal
    one, other = (choose_kernels(part := EmbeddingTable(keys_of(300), image=v), part, config()) for v in (x, twins))
    assert other.ties["target"] == pytest.approx(0.3, abs=1e-4)
    assert 0.8 < other.target.sigmas["image"] / one.target.sigmas["image"] < 1


def test_where_duplicates_alone_make_the_tie_the_bandwidth_is_that_of_the_others():
    x = np.repeat(table(200).image, 2, axis=0)
    part = EmbeddingTable(keys_of(400), image=x)  # of the four nearest one is equal: 0.25 at any bandwidth
    pair = choose_kernels(part, part, config())
    matrix = pair.target.matrix(part).numpy()
    apart = [np.sort(np.delete(row, [i, i ^ 1]))[-3:].mean() for i, row in enumerate(matrix)]
    assert np.mean(apart) == pytest.approx(0.3, abs=1e-3)
    assert pair.ties["target"] == pytest.approx(tie_of(matrix), rel=1e-4) == pytest.approx(0.475, abs=1e-3)


def test_samples_that_all_have_a_copy_are_refused_where_the_copies_are_all_that_is_near():
    part = EmbeddingTable(keys_of(80), image=np.repeat(table(40).image, 2, axis=0))
    with pytest.raises(DataError, match=r"nearest 1 % of the other samples are equal.*no bandwidth") as error:
        choose_kernels(part, part, config())
    assert "Leave duplicates out" in str(error.value)


@pytest.mark.parametrize(
    ("sigma", "words"),
    [(0.01, "ties nothing together"), (0.3, None), (10.0, None), (100.0, "ties everything together")],
)
def test_a_bandwidth_under_which_nothing_or_everything_is_tied_is_refused_with_the_figure(sigma, words):
    part = table(60)
    if words is None:
        tie = choose_kernels(part, part, config(sigma=sigma)).ties["reference"]
        assert 1e-6 <= tie <= 0.99
        return
    with pytest.raises(DataError, match=rf"kernel of the target model {words}: the mean similarity") as error:
        choose_kernels(part, part, config(sigma=sigma))
    assert f"{tie_of(gaussian(part.image, sigma)):.2g}" in str(error.value)
    assert f"sigma = {sigma:g} for both models, as configured (60 samples)" in str(error.value)
    assert "Use sigma: auto" in str(error.value)


def test_the_model_whose_kernel_is_of_no_use_is_named():
    far = EmbeddingTable(keys_of(60), image=1000 * table(60).image)
    for tables, role in (((far, table(60)), "target"), ((table(60), far), "reference")):
        with pytest.raises(DataError, match=f"kernel of the {role} model ties nothing"):
            find_discrepancies(*tables, config(sigma=1.0))


def test_kernels_without_a_bandwidth_are_refused_likewise():
    mirrored = EmbeddingTable(["a", "b"], image=[[1.0, 0.0], [-1.0, 0.1]])
    with pytest.raises(DataError, match="ties nothing together") as error:
        choose_kernels(mirrored, mirrored, config(kernel="cosine"))
    assert "gaussian kernel" in str(error.value)
    narrow = EmbeddingTable(keys_of(50), image=1 + 0.01 * table(50).image)
    with pytest.raises(DataError, match="ties everything together"):
        choose_kernels(narrow, narrow, config(kernel="cosine"))
    assert choose_kernels(narrow, narrow, config()).ties["target"] == pytest.approx(0.3, abs=1e-4)


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (4.0, True)])
def test_ties_ten_times_apart_under_one_bandwidth_are_warned_about(scale, warned):
    target, reference, _ = planted(120)
    target = EmbeddingTable(target.keys, image=scale * target.image)
    settings = config(sigma=2.0, n_directions=2, max_reference_share=0.1)
    solution = find_discrepancies(target, reference, settings)
    low, high = sorted(tie_of(gaussian(t.image, 2.0)) for t in (target, reference))
    assert (high > 10 * low) == warned
    warnings = [text for text in solution.stats.get("warnings", []) if "tie far from alike" in text]
    assert bool(warnings) == warned
    if warned:
        assert f"{low:.2g} (target) and {high:.2g} (reference)" in warnings[0]
        assert "use sigma: auto" in warnings[0]
        assert warnings[0] in solution.status
    free = find_discrepancies(target, reference, settings.model_copy(update={"sigma": "auto"}))
    assert "far from alike" not in free.status


def test_ties_ten_times_apart_under_matched_bandwidths_are_warned_about():
    """A tight group of 8 % leads the target's spectrum, and the reference has bursts of four alike instead.

    So that no more leads there than a burst, matching shrinks the target's kernel to a part of the group.
    """
    rng = np.random.default_rng(0)
    base = rng.normal(size=(2, 300, 32))
    tight = np.where(np.arange(300)[:, None] < 24, 0.1 * base, base)
    bursts = np.repeat(rng.normal(size=(2, 75, 32)), 4, axis=1) + 0.3 * base
    target, reference = (EmbeddingTable(keys_of(300), image=v[0], text=v[1]) for v in (tight, bursts))
    settings = config(modality="joint", sigma="matched", n_directions=1)
    solution = find_discrepancies(target, reference, settings)
    ties = solution.kernels.ties
    assert ties["reference"] > 10 * ties["target"]
    assert any("far from alike" in text for text in solution.stats["warnings"])
    assert "far from alike" in solution.status
    free = find_discrepancies(target, reference, settings.model_copy(update={"sigma": "auto"}))
    assert "far from alike" not in free.status


def test_the_same_model_twice_has_equal_ties_and_no_discrepancy():
    part = table(200)
    for sigma in ("auto", "matched", 1.0):
        solution = find_discrepancies(part, part, config(sigma=sigma))
        ties = solution.kernels.ties
        assert ties["target"] == ties["reference"]
        assert solution.directions == ()


@pytest.mark.parametrize("seed", range(3))
def test_shares_in_ties_do_not_depend_on_the_bandwidth(seed):
    """The first direction of a planted group at three bandwidths: one share in ties, raw ones far apart."""
    target, reference, inside = planted(seed=seed)
    shares, raw = [], []
    for tie in (0.15, 0.3, 0.6):
        kernels = choose_kernels(target, reference, config(), tie=tie)
        assert kernels.ties == pytest.approx({"target": tie, "reference": tie}, abs=1e-4)
        first = find_discrepancies(target, reference, config(n_directions=1), kernels=kernels).directions[0]
        top = np.argsort(-np.abs(first.x))[: inside.sum()]
        assert inside[top].mean() > 0.8
        matrix = kernels.target.matrix(target).numpy()
        assert first.target_share == pytest.approx(share_of(first.x, matrix, tie_of(matrix)), rel=1e-3)
        shares.append(first.target_share)
        raw.append(share_of(first.x, matrix, 1.0))
    assert max(shares) < 1.4 * min(shares)
    assert max(raw) > 2 * min(raw)


@pytest.mark.parametrize(("sigma", "words"), [(0.7, "hardly anything"), (12.0, "nearly everything"), (2.0, None)])
def test_a_kernel_under_which_groups_can_hardly_be_found_is_warned_about(sigma, words):
    target, reference, _ = planted(120)
    solution = find_discrepancies(target, reference, config(sigma=sigma, n_directions=1, max_reference_share=0.1))
    warned = [text for text in solution.stats.get("warnings", []) if "groups can hardly be found" in text]
    outside = [not 0.01 <= tie <= 0.9 for tie in solution.kernels.ties.values()]
    assert any(outside) == bool(warned) == (words is not None)
    if words:
        tie = solution.kernels.ties["target"]
        assert f"the kernel of the target ties {words} together: its typical tie is {tie:.2g}" in warned[0]
        assert "groups can hardly be found" in solution.status


def test_one_model_normalised_and_the_other_not_is_warned_about():
    def warning(target, reference, **settings):
        return choose_kernels(target, reference, config(**settings)).warning

    part = table(100)
    lengths = np.linspace(5, 14, 100)[:, None]
    unit = part.image / np.linalg.norm(part.image, axis=1, keepdims=True)
    normal, raw, half, scaled = (
        EmbeddingTable(part.keys, image=values)
        for values in (unit, lengths * unit, unit.astype(np.float16), 100 * unit)
    )
    words = "embeddings of the target have length 1, those of the reference lengths from 5 to 14"
    assert words in warning(normal, raw)
    assert "of the reference have length 1, those of the target" in warning(raw, half)
    assert "normalised" not in warning(normal, half) + warning(normal, scaled) + warning(raw, raw)
    assert "normalised" not in warning(normal, raw, kernel="cosine")
