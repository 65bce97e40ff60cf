"""The preconditioner of a large form: from its leading eigenvalues where they are enough, else from a factor."""

from __future__ import annotations

import pytest
import torch

from koda.discrepancy.solver.low_rank import ShiftedInverse

ROWS = 2600


@pytest.fixture(scope="module")
def form() -> torch.Tensor:
    """A positive semidefinite matrix whose eigenvalues fall as those of a kernel do."""
    generator = torch.Generator().manual_seed(3)
    half = torch.randn(ROWS, 300, generator=generator, dtype=torch.float64) / ROWS**0.5
    half *= 1 / (1 + torch.arange(300, dtype=torch.float64))
    return half @ half.T


def test_with_a_shift_over_the_eigenvalues_left_out_it_is_near_the_inverse(form):
    """Preconditioned energies lie within 0.75 and 1.5, for smooth vectors and for rough ones."""
    solve = ShiftedInverse(form).at(1e-3)
    assert solve is not None
    rough = torch.randn(ROWS, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    for x in (rough, form @ rough, form @ (form @ rough)):
        shifted = form @ x + 1e-3 * x
        energies = (shifted * solve(shifted)).sum(0) / (x * shifted).sum(0)
        assert bool(((energies > 0.75) & (energies < 1.5)).all())


def test_with_a_shift_under_them_it_is_the_inverse(form):
    solve = ShiftedInverse(form).at(1e-8)
    assert solve is not None
    x = torch.ones(ROWS, 1, dtype=torch.float64)
    assert torch.allclose(solve(form @ x + 1e-8 * x), x, atol=1e-6)
