"""Rows of a solution are the rows of the target table as passed in, whatever the order of the reference."""

from __future__ import annotations

import numpy as np
import pytest

import koda
from koda import DiscrepancyConfig, EmbeddingTable, Solution, find_discrepancies
from koda.discrepancy import Problem
from koda.discrepancy.extension import common_keys, extend
from koda.discrepancy.saving import load_solution, save_solution
from koda.kernels import Kernel, KernelPair
from tests.discrepancy.problems import tables

SETTINGS = [
    pytest.param(90, {}, id="dense"),
    pytest.param(260, {}, id="subspace"),
    pytest.param(260, {"features": "orf", "n_features": 20}, id="features"),
    pytest.param(90, {"method": "spec"}, id="spec"),
    pytest.param(90, {"eps_quantile": 0.5, "max_reference_share": None}, id="quantile"),
]


def config(**changes) -> DiscrepancyConfig:
    return DiscrepancyConfig(**{"n_directions": 3, "device": "cpu", "tolerance": 1e-10, **changes})


def mixed(table: EmbeddingTable, seed: int) -> EmbeddingTable:
    return table.take(np.random.default_rng(seed).permutation(table.n))


def assert_alike(solution: Solution, other: Solution) -> None:
    """The same values at the same keys."""
    assert set(solution.keys) == set(other.keys)
    row_of = {key: row for row, key in enumerate(other.keys)}
    rows = [row_of[key] for key in solution.keys]
    assert other.eps == pytest.approx(solution.eps, rel=1e-9)
    for d, e in zip(solution.directions, other.directions, strict=True):
        assert e.target_energy == pytest.approx(d.target_energy, rel=1e-8)
        assert e.reference_energy == pytest.approx(d.reference_energy, rel=1e-6)
        assert np.allclose(d.x, e.x[rows], atol=1e-4)


@pytest.mark.parametrize(("n", "changes"), SETTINGS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_target_in_any_order_has_the_same_value_at_each_key(n, changes, seed):
    target, reference = tables(n, seed=1)
    assert list(target.keys) == sorted(target.keys)
    settings = config(**changes)
    plain = find_discrepancies(target, reference, settings)
    shuffled = mixed(target, seed)
    solution = find_discrepancies(shuffled, mixed(reference, seed + 10), settings)
    assert solution.keys == tuple(shuffled.keys) != plain.keys == tuple(target.keys)
    assert solution.directions
    assert_alike(plain, solution)


def test_the_values_index_the_rows_that_were_passed_in():
    target, reference = tables(120, seed=3, share=0.2)
    tied = np.abs(target.image - reference.image).max(axis=1) > 0
    order = np.random.default_rng(0).permutation(120)
    first = find_discrepancies(target.take(order), reference, config(modality="image")).directions[0]
    top = np.argsort(-np.abs(first.x))[: tied.sum()]
    assert tied[order][top].mean() > 0.8


def test_the_order_of_the_reference_changes_nothing():
    target, reference = tables(120, seed=1)
    target = mixed(target, 0)
    solutions = [find_discrepancies(target, part, config()) for part in (reference, mixed(reference, 1))]
    for d, e in zip(solutions[0].directions, solutions[1].directions, strict=True):
        assert np.array_equal(d.x, e.x)


def test_keys_of_one_model_and_rows_that_cannot_be_used_are_skipped_without_a_shift():
    target, reference = tables(100, seed=2)
    image, text = np.array(target.image), np.array(reference.text)
    image[[3, 50]], text[70] = [[np.nan], [0.0]], np.inf
    target = EmbeddingTable(target.keys, image, target.text)
    reference = EmbeddingTable(reference.keys, reference.image, text)
    shuffled = mixed(target, 4).take(range(97))
    others = mixed(reference, 5).take(range(4, 100))
    solution = find_discrepancies(shuffled, others, config())
    bad = {"s00003", "s00050", "s00070"}
    kept = [key for key in shuffled.keys if key in set(others.keys) - bad]
    assert bad & set(shuffled.keys) & set(others.keys)
    assert solution.keys == tuple(kept)
    assert set(solution.rejected) == (set(shuffled.keys) | set(others.keys)) - set(kept)
    assert_alike(find_discrepancies(target.select(sorted(kept)), reference.select(sorted(kept)), config()), solution)


def test_what_comes_after_the_search_keeps_the_order(tmp_path):
    target, reference = tables(150, seed=5)
    target = mixed(target, 0)
    seen = target.keys[:110]
    problem = Problem.of(target.select(seen), mixed(reference.select(seen), 1), config())
    assert problem.keys == seen
    solution = problem.solve(config())
    save_solution(solution, tmp_path)
    back = load_solution(tmp_path)
    assert back.keys == solution.keys == seen
    assert np.array_equal(back.directions[0].x, solution.directions[0].x)
    assert back.kernels == solution.kernels
    assert back.directions[0].target_share == solution.directions[0].target_share  # in ties, as before
    assert common_keys(solution, target, reference) == target.keys
    assert np.array_equal(extend(solution, target, reference)[:, :110], [d.x for d in solution.directions])
    sorted_keys = sorted(seen)
    plain = find_discrepancies(target.select(sorted_keys), reference.select(sorted_keys), config())
    pairs = zip(koda.slices(solution, target, reference), koda.slices(plain, target, reference), strict=True)
    for piece, other in pairs:
        for lobe, same in ((piece.positive, other.positive), (piece.negative, other.negative)):
            assert set(lobe.members) == set(same.members)
            values = dict(zip(solution.keys, solution.directions[piece.direction - 1].x, strict=True))
            drawn = [
                (key, score) for key, score, old in zip(lobe.keys, lobe.scores, lobe.in_sample, strict=True) if old
            ]
            assert all(values[key] == score for key, score in drawn)


def test_the_sign_of_lobes_that_weigh_the_same_does_not_depend_on_the_order():
    """Two copies of a sample and two of its mirror image: the lobes are equal, and so are their largest entries."""
    rng = np.random.default_rng(0)
    keys = [f"k{i}" for i in range(8)]
    side = np.repeat([1.0, -1.0], 4)[:, None]
    target = EmbeddingTable(keys, image=side * np.array([1.0, 0.0]))
    reference = EmbeddingTable(keys, image=rng.normal(size=(8, 3)))
    cosine = Kernel({"image": None}, kind="cosine")
    kernels = KernelPair(cosine, cosine, {"target": 1.0, "reference": 0.8}, {}, {}, "given")
    settings = config(modality="image", kernel="cosine", n_directions=1)
    plain = find_discrepancies(target, reference, settings, kernels=kernels)
    for seed in range(6):
        assert_alike(plain, find_discrepancies(mixed(target, seed), reference, settings, kernels=kernels))


def test_the_error_of_features_is_measured_on_the_same_samples():
    target, reference = tables(2300, seed=0, d=4)
    settings = config(features="orf", n_features=10, n_directions=1, tolerance=1e-3)
    plain, other = (Problem.of(part, reference, settings).forms.stats for part in (target, mixed(target, 0)))
    for role, error in plain["feature_errors"].items():
        assert other["feature_errors"][role] == pytest.approx(error, rel=1e-10)
