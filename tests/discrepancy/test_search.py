"""find_discrepancies from tables to solution: planted structure, invariances, and input that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest

from koda import DiscrepancyConfig, EmbeddingTable, find_discrepancies, slices
from koda.discrepancy import Problem, forms
from koda.discrepancy.limits import EnergyLimit
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.outcome import RawDirection
from koda.discrepancy.solver.state import SolverRequest
from koda.errors import ConfigError, DataError, SolverError
from koda.kernels import Kernel, KernelPair
from tests.dense import share_of, tie_of
from tests.discrepancy.problems import tables


def config(**changes) -> DiscrepancyConfig:
    return DiscrepancyConfig(**{"n_directions": 3, "device": "cpu", **changes})


def with_rows(table: EmbeddingTable, name: str, rows: dict[int, float]) -> EmbeddingTable:
    values = np.array(getattr(table, name))
    for row, value in rows.items():
        values[row] = value
    parts = {"image": table.image, "text": table.text, name: values}
    return EmbeddingTable(table.keys, **parts)


@pytest.mark.parametrize("n", [90, 260])
def test_it_solves_the_problem_of_the_two_kernel_matrices(n):
    target, reference = tables(n)
    solution = find_discrepancies(target, reference, config())
    assert solution.stats["solver"] == ("dense" if n < 200 else "subspace")
    a, b = (
        k.matrix(t).numpy() / n for k, t in ((solution.kernels.target, target), (solution.kernels.reference, reference))
    )
    ties = {role: tie_of(n * matrix) for role, matrix in (("target", a), ("reference", b))}
    assert solution.kernels.ties == pytest.approx(ties, rel=1e-4)
    assert solution.eps == pytest.approx((1 + 0.003 * ties["reference"] * (n - 1)) / n, rel=1e-6)
    exact = solve_dense(a, b, SolverRequest(EnergyLimit(solution.eps), 3))
    for d, e in zip(solution.directions, exact.directions, strict=True):
        assert d.target_energy == pytest.approx(e.target_energy, rel=1e-8)
        assert np.linalg.norm(d.x) == pytest.approx(1, abs=1e-12)
        assert d.x @ b @ d.x <= solution.eps + 1e-10
        assert d.quotient == pytest.approx((d.x @ a @ d.x) / (d.x @ b @ d.x), rel=1e-9)
        assert d.target_share == pytest.approx(share_of(d.x, n * a, ties["target"]), rel=1e-4)
        assert d.reference_share == pytest.approx(share_of(d.x, n * b, ties["reference"]), rel=1e-4, abs=1e-9)
        assert d.reference_share <= 0.003 + 1e-8
        assert d.x[d.x > 0].sum() >= -d.x[d.x < 0].sum()
        assert d.gap <= 1e-6
    assert "3 directions" in solution.status


def test_a_planted_group_is_found():
    target, reference = tables(150, seed=3, share=0.2)
    first = find_discrepancies(target, reference, config(modality="image")).directions[0]
    moved = np.abs(target.image - reference.image).max(axis=1) > 0
    top = np.argsort(-np.abs(first.x))[: moved.sum()]
    assert moved[top].mean() > 0.8


def test_a_rotation_of_the_embeddings_changes_nothing():
    target, reference = tables(100, seed=2)
    q = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0]
    turned = EmbeddingTable(target.keys, image=target.image @ q, text=target.text @ q)
    plain, other = (find_discrepancies(t, reference, config()) for t in (target, turned))
    for d, e in zip(plain.directions, other.directions, strict=True):
        assert e.target_energy == pytest.approx(d.target_energy, rel=1e-6)
    same = find_discrepancies(
        reference, EmbeddingTable(reference.keys, image=reference.image @ q, text=reference.text @ q)
    )
    assert same.directions == ()
    assert same.status.startswith("no discrepancy")


@pytest.mark.parametrize("n", [60, 240])
@pytest.mark.parametrize("features", ["auto", "orf"])
def test_the_same_model_twice_has_no_discrepancy(n, features):
    _, reference = tables(n)
    solution = find_discrepancies(reference, reference, config(features=features, n_features=40))
    assert solution.directions == ()
    assert solution.status.startswith("no discrepancy")
    assert solution.kernels.target == solution.kernels.reference


@pytest.mark.parametrize(("modality", "used"), [("image", {"image"}), ("text", {"text"}), ("joint", {"image", "text"})])
def test_the_modality_decides_which_embeddings_count(modality, used):
    target, reference = tables(40)
    solution = find_discrepancies(target, reference, config(modality=modality))
    assert set(solution.kernels.target.sigmas) == used
    assert bool(solution.directions) == ("image" in used)  # the texts of the two models are equal


def test_a_missing_modality_is_named():
    target, reference = tables(20)
    image_only = EmbeddingTable(target.keys, image=target.image)
    with pytest.raises(ConfigError, match=r"needs text.*target table lacks"):
        find_discrepancies(image_only, reference, config())
    assert find_discrepancies(image_only, reference, config(modality="image")).keys


def test_keys_that_do_not_meet_show_an_example_of_each_side():
    target, reference = tables(10)
    other = EmbeddingTable([f"img/{k}.jpg" for k in reference.keys], image=reference.image, text=reference.text)
    with pytest.raises(DataError, match=r"'s00000'.*'img/s00000.jpg'"):
        find_discrepancies(target, other, config())


def test_samples_that_cannot_be_used_are_left_out_with_a_reason():
    target, reference = tables(50)
    target = with_rows(target, "image", {3: np.nan, 5: 0.0})
    reference = with_rows(reference, "text", {7: np.inf})
    solution = find_discrepancies(target.take(np.arange(48)), reference.take(np.arange(1, 50)), config())
    assert set(solution.rejected) == {f"s{i:05d}" for i in (0, 3, 5, 7, 48, 49)}
    assert "NaN" in solution.rejected["s00003"]
    assert "zero vector" in solution.rejected["s00005"]
    assert "reference" in solution.rejected["s00007"]
    assert "no embedding" in solution.rejected["s00000"]
    assert len(solution.keys) == len(solution.directions[0].x) == 44
    # a fault in a modality that is not compared costs no sample
    assert not find_discrepancies(target, reference, config(modality="text")).rejected.keys() & {"s00003", "s00005"}


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_samples_are_refused(n):
    target, reference = tables(8)
    with pytest.raises(DataError, match="at least 3"):
        find_discrepancies(target.take(np.arange(n)), reference, config())


def test_three_samples_and_more_directions_than_samples():
    target, reference = tables(3)
    solution = find_discrepancies(target, reference, config(n_directions=10, eps=0.9))
    assert len(solution.directions) <= 3
    assert "of 10 directions" in solution.status


def test_constant_embeddings_are_refused_by_name():
    target, reference = tables(30)
    flat = with_rows(target, "text", dict.fromkeys(range(30), 1.0))
    with pytest.raises(DataError, match=r"text embeddings of the target model are constant"):
        find_discrepancies(flat, reference, config())


def test_duplicate_samples_are_solved():
    """Three copies of each: of the four nearest two are equal, and the bandwidth is that of the others."""
    target, reference = tables(120)
    rows = np.repeat(np.arange(120), 3)
    keys = [f"d{i:03d}" for i in range(360)]
    thrice = [EmbeddingTable(keys, image=t.image[rows], text=t.text[rows]) for t in (target, reference)]
    solution = find_discrepancies(*thrice, config(max_reference_share=0.05, tolerance=1e-10))
    assert solution.kernels.ties == pytest.approx({"target": 0.65, "reference": 0.65}, abs=1e-3)
    a, b = (
        k.matrix(t).numpy() / 360
        for k, t in zip((solution.kernels.target, solution.kernels.reference), thrice, strict=True)
    )
    exact = solve_dense(a, b, SolverRequest(EnergyLimit(solution.eps), 3))
    for d, e in zip(solution.directions, exact.directions, strict=True):
        assert d.target_energy == pytest.approx(e.target_energy, rel=1e-8)
        assert np.ptp(d.x.reshape(120, 3), axis=1).max() < 1e-5


def test_the_three_ways_to_set_the_limit():
    target, reference = tables(60)
    by_share = find_discrepancies(target, reference, config(max_reference_share=0.1))
    tie = tie_of(by_share.kernels.reference.matrix(reference).numpy())
    assert by_share.eps == pytest.approx((1 + 0.1 * tie * 59) / 60, rel=1e-6)
    by_quantile = find_discrepancies(target, reference, config(eps_quantile=0.5))
    values = np.linalg.eigvalsh(by_quantile.kernels.reference.matrix(reference).numpy() / 60)
    assert by_quantile.eps == pytest.approx(np.quantile(values[values > 1e-14], 0.5))
    assert find_discrepancies(target, reference, config(eps=0.02)).eps == 0.02


def test_a_limit_under_rounding_is_refused_and_the_quantile_offered():
    with pytest.raises(ConfigError, match=r"eps_quantile: 0.5, is"):
        find_discrepancies(*tables(40), config(eps=1e-30))


def test_an_infeasible_limit_returns_no_directions_and_says_why():
    target, reference = tables(40)
    narrow = KernelPair(  # K_B near the identity
        Kernel({"image": 1.0}), Kernel({"image": 0.3}), {"target": 0.1, "reference": 1e-4}, {}, {}, "given"
    )
    solution = find_discrepancies(target, reference, config(modality="image", eps=0.5 / 40), kernels=narrow)
    assert solution.directions == ()
    assert "lambda_min" in solution.status
    assert solution.stats["lambda_min"] > solution.eps


def test_a_solution_that_fails_its_checks_is_an_error(monkeypatch):
    target, reference = tables(40)
    honest = solve_dense

    def wrong(*args, **kwargs):
        solution = honest(*args, **kwargs)
        d = solution.directions[0]
        bad = RawDirection(d.x * 1.001, d.target_energy, d.reference_energy, d.multiplier, d.upper, d.state)
        return type(solution)((bad, *solution.directions[1:]))

    monkeypatch.setattr("koda.discrepancy.problem.solve_dense", wrong)
    with pytest.raises(SolverError, match="fails its checks"):
        find_discrepancies(target, reference, config())


@pytest.mark.parametrize(("n", "r"), [(90, 60), (500, 40)])
def test_features_solve_the_problem_of_the_feature_kernels(n, r):
    """For n > 4 r in the range of G, and else over the samples: both the dense answer for Phi Phi' / n."""
    from koda.kernels.features import draw_pair

    target, reference = tables(n)
    solution = find_discrepancies(target, reference, config(features="orf", n_features=r, max_reference_share=0.02))
    maps = draw_pair(solution.kernels, target, reference, r, kind="orf", seed=0)
    a, b = (((phi := m(t).numpy()) @ phi.T) / n for m, t in zip(maps, (target, reference), strict=True))
    exact = solve_dense(a, b, SolverRequest(EnergyLimit(solution.eps), 3))
    for d, e in zip(solution.directions, exact.directions, strict=True):
        assert d.target_energy == pytest.approx(e.target_energy, rel=1e-6)
        assert d.x @ b @ d.x <= solution.eps * (1 + 1e-6)
    assert 0 < solution.stats["feature_error"] < solution.stats["feature_error_bound"]
    assert solution.stats["features_shared"]


def test_two_models_that_are_nearly_one_are_proved_too():
    """What the subspace sees of the reference does not hold the target down there; all of the reference does."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 32))[rng.integers(0, 60, 1500)] + 0.8 * rng.normal(size=(1500, 32))
    keys = [f"{i:04}" for i in range(1500)]
    target, copy = (EmbeddingTable(keys, image=y) for y in (x, x + 0.2 * rng.normal(size=x.shape)))
    settings = config(modality="image", features="orf", n_features=250, n_directions=5)
    directions = find_discrepancies(target, copy, settings).directions
    assert len(directions) == 5
    assert max(d.gap for d in directions) <= settings.tolerance


def test_features_may_leave_their_range():
    """A limit under every non-zero eigenvalue can be met outside the range of Phi alone."""
    target, reference = tables(300)
    solution = find_discrepancies(target, reference, config(features="orf", n_features=3, eps=1e-4))
    assert len(solution.directions) == 3
    for d in solution.directions:
        assert d.reference_energy <= 1e-4 * (1 + 1e-6)
        assert np.linalg.norm(d.x) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("n", [80, 260])
def test_spec_is_the_leading_eigenvectors_of_the_difference(n):
    target, reference = tables(n)
    for eta in (1.0, 2.5):
        solution = find_discrepancies(target, reference, config(method="spec", eta=eta))
        a, b = (
            k.matrix(t).numpy() / n
            for k, t in ((solution.kernels.target, target), (solution.kernels.reference, reference))
        )
        values, vectors = np.linalg.eigh(a - eta * b)
        for i, d in enumerate(solution.directions):
            assert d.target_energy - eta * d.reference_energy == pytest.approx(values[-1 - i], rel=1e-7)
            assert abs(d.x @ vectors[:, -1 - i]) == pytest.approx(1, abs=1e-4)
            assert (d.multiplier, d.gap < 1e-6) == (eta, True)
        assert solution.eps == max(d.reference_energy for d in solution.directions)
    assert find_discrepancies(reference, reference, config(method="spec")).directions == ()


@pytest.mark.parametrize(
    "settings",
    [
        {"kernel": "cosine"},
        {"kernel": "polynomial"},
        {"kernel": "polynomial", "features": "sketch", "n_features": 30},
        {"kernel": "cosine", "features": "tensorsketch", "n_features": 30},
        {"features": "rff", "n_features": 30},
    ],
)
@pytest.mark.parametrize("modality", ["joint", "image"])
def test_every_kernel_and_feature_map_is_solved(settings, modality):
    target, reference = tables(220)
    solution = find_discrepancies(target, reference, config(modality=modality, **settings))
    assert solution.directions
    for d in solution.directions:
        assert d.reference_energy <= solution.eps * (1 + 1e-9)
        assert d.gap <= 1e-6
    assert find_discrepancies(reference, reference, config(modality=modality, **settings)).directions == ()


def test_features_whose_error_exceeds_the_shares_are_warned_about():
    target, reference = tables(300)
    solution = find_discrepancies(target, reference, config(features="orf", n_features=20))
    raw = [d.target_share * d.target_tie for d in solution.directions]  # the error of the features is no share
    weak = [share for share in raw if share < solution.stats["feature_error"]]
    assert weak
    assert f"share of {len(weak)} of 3 directions" in solution.stats["warnings"][0]
    assert solution.stats["warnings"][0] in solution.status
    assert "warnings" not in find_discrepancies(target, reference, config()).stats


def test_a_covariance_made_before_is_used_and_that_of_others_refused(monkeypatch):
    target, reference = tables(300)
    settings = config(features="orf", n_features=20)
    problem = Problem.of(target, reference, settings)
    assert problem.covariance is not None
    plain = problem.solve(settings)
    monkeypatch.setattr(forms, "summed", None)  # summing again would fail
    again = find_discrepancies(target, reference, settings, kernels=problem.kernels, covariance=problem.covariance)
    for d, e in zip(plain.directions, again.directions, strict=True):
        assert np.array_equal(d.x, e.x)
    with pytest.raises(DataError, match="300 samples"):
        find_discrepancies(
            target.take(np.arange(250)),
            reference,
            settings,
            kernels=problem.kernels,
            covariance=problem.covariance,
        )
    assert Problem.of(target, reference, config()).covariance is None


@pytest.mark.parametrize("counts", [(3, 6), (6, 3)])
@pytest.mark.parametrize("n", [70, 300])
def test_a_search_goes_on_to_more_directions_from_where_it_was(n, counts):
    """The space of 300 samples' features has as many dimensions outside their range as directions are asked for."""
    target, reference = tables(n)
    settings = [config(features="orf", n_features=20, n_directions=count) for count in counts]
    problem = Problem.of(target, reference, settings[0])
    problem.solve(settings[0])
    on, anew = problem.solve(settings[1], warm=True), find_discrepancies(target, reference, settings[1])
    assert len(on.directions) == counts[1]
    for d, e in zip(on.directions, anew.directions, strict=True):
        assert d.target_energy == pytest.approx(e.target_energy, rel=1e-6)
        assert d.reference_energy == pytest.approx(e.reference_energy, rel=1e-6)


def test_the_same_seed_gives_the_same_bytes():
    target, reference = tables(260)
    for settings in (config(), config(features="orf", n_features=30)):
        first, second = (find_discrepancies(target, reference, settings) for _ in range(2))
        for d, e in zip(first.directions, second.directions, strict=True):
            assert d.x.tobytes() == e.x.tobytes()


def test_tables_on_disk_give_the_same_directions(tmp_path):
    target, reference = tables(240)
    target.save(tmp_path / "target")
    reference.save(tmp_path / "reference")
    opened = [EmbeddingTable.open(tmp_path / name) for name in ("target", "reference")]
    for settings in (config(), config(features="orf", n_features=20)):
        plain, lazy = find_discrepancies(target, reference, settings), find_discrepancies(*opened, settings)
        for d, e in zip(plain.directions, lazy.directions, strict=True):
            assert np.array_equal(d.x, e.x)


def test_what_is_no_table_or_no_configuration_is_said_in_words() -> None:
    pair = tables(60)
    for wrong in (np.eye(3), [1, 2], None, "runs/siglip", {"image": np.eye(3)}):
        with pytest.raises(DataError, match="which is no table of embeddings"):
            find_discrepancies(wrong, pair[1])  # type: ignore[arg-type]
        with pytest.raises(DataError, match="The reference is"):
            find_discrepancies(pair[0], wrong)  # type: ignore[arg-type]
    solution = find_discrepancies(*pair, config(n_directions=1))
    with pytest.raises(DataError, match="The target is ndarray"):
        slices(solution, pair[0].image, pair[1])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="The solution is EmbeddingTable"):
        slices(pair[0], *pair)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="The configuration is dict"):
        find_discrepancies(*pair, {"n_directions": 3})  # type: ignore[arg-type]
    for broken in (EmbeddingTable(pair[0].keys, np.full((60, 3), np.nan)),):
        with pytest.raises(DataError, match=r"0 usable samples are left of 60(.|\n)*NaN"):
            find_discrepancies(broken, broken, DiscrepancyConfig(modality="image"))


def test_a_solution_and_its_slices_have_a_short_repr() -> None:
    pair = tables(300)
    solution = find_discrepancies(*pair, DiscrepancyConfig(n_directions=2, device="cpu"))
    assert len(repr(solution)) < 500 and "2 directions of 300 samples" in repr(solution)
    assert all(len(repr(direction)) < 300 for direction in solution.directions)
    assert all(len(repr(piece)) < 400 for piece in slices(solution, *pair))
