"""The same search on a CUDA device and on the CPU; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from koda import DiscrepancyConfig, find_discrepancies
from koda.kernels import choose_kernels
from koda.kernels.covariance import StackedFeatures, accumulate
from koda.kernels.features import draw_pair
from tests.discrepancy.problems import tables

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def config(device: str, **changes) -> DiscrepancyConfig:
    return DiscrepancyConfig(**{"n_directions": 4, "max_reference_share": 0.01, "device": device, **changes})


@pytest.mark.parametrize(
    ("features", "n"),
    [("exact", 150), ("exact", 600), ("orf", 1500)],  # dense, subspace over samples, subspace over coordinates
)
def test_both_devices_find_the_same_directions(features, n):
    target, reference = tables(n)
    options = {"features": features, "n_features": 100} if features == "orf" else {"features": features}
    kernels = choose_kernels(target, reference, config("cpu", **options))
    cpu, cuda = (
        find_discrepancies(target, reference, config(device, **options), kernels=kernels) for device in ("cpu", "cuda")
    )
    assert cuda.stats["device"].startswith("cuda")
    assert cuda.stats["solver"] == cpu.stats["solver"]
    assert cuda.eps == cpu.eps
    assert len(cuda.directions) == len(cpu.directions) == 4
    x = np.stack([d.x for d in cuda.directions], axis=1)  # (n, 4)
    assert np.abs(x.T @ x - np.eye(4)).max() < 1e-9
    for d, e in zip(cuda.directions, cpu.directions, strict=True):
        assert d.gap <= 1e-6
        assert d.reference_energy <= cuda.eps * (1 + 1e-8)
        assert d.target_energy == pytest.approx(e.target_energy, rel=1e-5)
    # later directions are those of the problem that the ones before leave, so only the first is compared entry by entry
    assert abs(cuda.directions[0].x @ cpu.directions[0].x) == pytest.approx(1, abs=1e-3)


def test_the_bandwidths_hardly_depend_on_the_device():
    target, reference = tables(400)
    cpu, cuda = (choose_kernels(target, reference, config(device)) for device in ("cpu", "cuda"))
    for name, sigma in cpu.reference.sigmas.items():
        assert cuda.reference.sigmas[name] == pytest.approx(sigma, rel=1e-6)


@pytest.mark.parametrize("rows", [97, 1000])
def test_features_and_covariance_are_the_same_bits(rows):
    target, reference = tables(1000)
    kernels = choose_kernels(target, reference, config("cpu"))
    maps = draw_pair(kernels, target, reference, 64, kind="orf", seed=0)
    for m, table in zip(maps, (target, reference), strict=True):
        assert torch.equal(m.integers(table, device="cuda").cpu(), m.integers(table, device="cpu"))
    cpu = accumulate(StackedFeatures(target, reference, maps, torch.device("cpu")))
    cuda = accumulate(StackedFeatures(target, reference, maps, torch.device("cuda"), rows))
    assert cuda.exact
    assert cuda.digest() == cpu.digest()


def test_the_same_model_twice_has_no_discrepancy_there():
    _, reference = tables(300)
    for features in ("exact", "orf"):
        solution = find_discrepancies(reference, reference, config("cuda", features=features, n_features=40))
        assert solution.directions == ()
        assert solution.status.startswith("no discrepancy")
