"""Findings that other samples lead to as well, and findings that they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import koda.slicing.stability
from koda.config import DiscrepancyConfig
from koda.discrepancy import Problem, find_discrepancies
from koda.embeddings import EmbeddingTable
from koda.records import AuditRecord, Stability
from koda.report import render
from koda.slicing.stability import stability, subspace_overlap
from tests.records.versions import of_version_1
from tests.report import factory

CONFIG = DiscrepancyConfig(modality="image", n_directions=1, device="cpu")


def _tables(share, n=400, d=12, seed=0):
    """Two models with noise of their own; the target alone ties a share of the samples together."""
    rng = np.random.default_rng(seed)
    base, centre = rng.normal(size=(n, d)), 1.5 * rng.normal(size=d)
    inside = rng.random(n) < share
    target = np.where(inside[:, None], centre + 0.3 * base, base) + 0.1 * rng.normal(size=(n, d))
    keys = [f"k{i:03d}" for i in range(n)]
    return EmbeddingTable(keys, image=target), EmbeddingTable(keys, image=base + 0.1 * rng.normal(size=(n, d)))


def _searched(share, config=CONFIG, **world):
    target, reference = _tables(share, **world)
    half = target.keys[: target.n // 2]
    return find_discrepancies(target.select(half), reference.select(half), config), target, reference


def test_a_planted_group_comes_back_and_noise_does_not():
    (planted,) = stability(*_searched(0.1), runs=2)
    (noise,) = stability(*_searched(0.0), runs=2)
    assert planted.n_runs == noise.n_runs == 2
    assert planted.jaccard > 0.6 > 0.5 > noise.jaccard
    assert planted.subspace > noise.subspace


def test_the_same_search_again_overlaps_in_full(monkeypatch):
    """Where every run is given the solution's own samples, nothing changes."""
    config = CONFIG.model_copy(update={"n_directions": 3})
    solution, target, reference = _searched(0.1, config, n=300)
    monkeypatch.setattr(
        koda.slicing.stability, "drawn_keys", lambda keys, size, seed: sorted(solution.keys if seed[1] else keys)
    )
    for one in stability(solution, target, reference, runs=2):
        assert one.jaccard > 0.9  # to the tolerance of the runs
        assert one.subspace == pytest.approx(1, abs=1e-2)


def test_the_sign_and_the_order_of_rows_do_not_matter():
    solution, target, reference = _searched(0.1)
    first = stability(solution, target, reference, runs=1)
    (direction,) = solution.directions
    turned = replace(solution, directions=(replace(direction, x=-direction.x),))
    order = np.random.default_rng(0).permutation(target.n)
    (again,) = stability(turned, target.take(order), reference, runs=1)
    assert again.jaccard == pytest.approx(first[0].jaccard)
    assert again.subspace == pytest.approx(first[0].subspace)


def test_random_features_are_replaced_by_exact_kernels():
    config = CONFIG.model_copy(update={"features": "orf", "n_features": 1000})
    (one,) = stability(*_searched(0.1, config), runs=1)
    assert one.jaccard > 0.5


def _watched(monkeypatch) -> list[tuple[str, ...]]:
    """The samples of each search from here on."""
    searches, real = [], Problem.solve
    solve = lambda self, *args, **options: searches.append(self.keys) or real(self, *args, **options)  # noqa: E731
    monkeypatch.setattr(Problem, "solve", solve)
    return searches


def test_runs_are_capped(monkeypatch):
    searched = _searched(0.1)
    monkeypatch.setattr(koda.slicing.stability, "MAX_SAMPLES", 90)
    monkeypatch.setattr(koda.slicing.stability, "COMMON", 120)
    searches = _watched(monkeypatch)
    stability(*searched, runs=2)
    assert [len(keys) for keys in searches] == [90, 90]


def test_odd_runs_take_half_of_the_searched_samples_and_even_ones_another_split(monkeypatch):
    solution, target, reference = _searched(0.1)
    searches = _watched(monkeypatch)
    stability(solution, target, reference, runs=2)
    drawn = [set(keys) for keys in searches]
    assert len(drawn[0]) == 100
    assert drawn[0] < set(solution.keys)
    assert len(drawn[1]) == 200
    assert drawn[1] - set(solution.keys)


def test_a_search_without_proofs_overlaps_as_one_with_them(monkeypatch):
    config = CONFIG.model_copy(update={"n_directions": 3})
    searched = _searched(0.1, config, n=900)
    monkeypatch.setattr(koda.slicing.stability, "MAX_SAMPLES", 300)  # over the size that is solved densely
    quick = stability(*searched, runs=2)
    real, asked = Problem.solve, []

    def proved(self, config, **options):
        asked.append(options.pop("prove"))
        return real(self, config, **options)

    monkeypatch.setattr(Problem, "solve", proved)
    for one, other in zip(quick, stability(*searched, runs=2), strict=True):
        assert one.jaccard == pytest.approx(other.jaccard, abs=1e-3)
        assert one.subspace == pytest.approx(other.subspace, abs=1e-4)
    assert asked == [False, False]


def test_nothing_asked_or_nothing_found_is_nothing():
    solution, target, reference = _searched(0.1)
    assert stability(solution, target, reference, runs=0) == ()
    assert stability(replace(solution, directions=()), target, reference, runs=2) == ()


def test_a_run_that_finds_nothing_counts_as_0(monkeypatch):
    real = Problem.solve
    nothing = lambda self, *args, **options: replace(real(self, *args, **options), directions=())  # noqa: E731
    searched = _searched(0.1)
    monkeypatch.setattr(Problem, "solve", nothing)
    (one,) = stability(*searched, runs=2)
    assert one.jaccard == one.subspace == 0


def test_subspace_overlap_of_known_angles():
    angle = 0.3
    a = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    b = np.array([[np.cos(angle), 0, np.sin(angle), 0], [0, 3, 0, 0]])
    assert subspace_overlap(a, b) == pytest.approx((np.cos(angle) ** 2 + 1) / 2)
    assert subspace_overlap(a, a[:1]) == pytest.approx(0.5)  # of two directions one is there
    assert subspace_overlap(a, np.vstack([a, a])) == pytest.approx(1)
    assert subspace_overlap(np.zeros((2, 4)), a) == 0


def test_the_report_shows_stability_and_ties(tmp_path):
    record = factory.record(2, gallery=3, map_points=40)
    seen = Stability(jaccard=0.62, subspace=0.81, n_runs=2)
    ties = {
        "ties": {"target": 0.3123, "reference": 0.0456},
        "modality_ties": {"target": {"image": 0.5432, "text": 0.6543}, "reference": {"image": 0.2109, "text": 0.3219}},
    }
    changes = {
        "findings": [one.model_copy(update={"stability": seen, "confirmed": True}) for one in record.findings],
        "method": record.method.model_copy(update={"lost": record.method.lost.model_copy(update=ties)}),
    }
    shown = record.model_copy(update=changes)
    texts = [
        render(made, factory.thumbnails(made), tmp_path / name, pdf=False).html.read_text(encoding="utf-8")
        for name, made in (("with", shown), ("without", AuditRecord.from_json(of_version_1(record))))
    ]
    tied = ("typical tie τ, the unit of shares", "typical tie of each modality alone")
    figures = ("0.3123", "0.0456", "0.5432", "0.6543", "0.2109", "0.3219")
    for phrase in ("slice found again (mean Jaccard of 2\u00a0searches)", "62\u00a0%", *tied, *figures):
        assert phrase in texts[0]
    for phrase in ("slice found again", *tied):  # a record of version 1 has no ties
        assert phrase not in texts[1]
    words = "as alike as a sample and its nearest 1&nbsp;% are under that model", "These shares are raw"
    assert [[phrase in text for phrase in words] for text in texts] == [[True, False], [False, True]]
