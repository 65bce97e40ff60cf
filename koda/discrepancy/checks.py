"""The last step of a search: directions read out as sample vectors, and checked against the kernels in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from koda.discrepancy.forms import QuadraticForms
from koda.discrepancy.solution import Direction
from koda.discrepancy.solver.outcome import RawDirection, relative_gap
from koda.errors import SolverError


def checked_directions(
    forms: QuadraticForms,
    keys: Sequence[str],
    solved: tuple[RawDirection, ...],
    eps: float,
    tolerance: float,
    ties: Mapping[str, float],
) -> tuple[Direction, ...]:
    """Read the directions out as sample vectors, and check them against the kernels in float64.

    Args:
        forms: A and B.
        keys: the samples, in the order of the vectors.
        solved: what the solver found, in the coordinates of the forms.
        eps: limit on the reference energy; infinite where there is none.
        tolerance: relative gap that was asked for, which the status of a direction names.
        ties: role -> typical tie of its kernel.

    Raises:
        SolverError: a norm, an inner product or a reference energy that is not what it must be.
    """
    if not solved:
        return ()
    read = forms.read(torch.from_numpy(np.stack([d.x for d in solved], axis=1)))
    excess = float((read.reference - eps).max())
    claimed = torch.tensor([d.target_energy for d in solved], dtype=torch.float64)
    moved = float(((read.target - claimed).abs() / claimed.clamp_min(1e-300)).max())
    allowed = forms.tolerance * max(min(eps, 1.0), 1e-3)
    if read.off > 1e-9 or excess > allowed or moved > max(forms.tolerance, 1e-8) or not np.isfinite(read.x).all():
        raise SolverError(
            f"The solution fails its checks: norms and inner products are off by {read.off:.1e}, "
            f"the reference energy exceeds eps by {excess:.1e}, the target energies moved by {moved:.1e}.",
            "Please report this with the two embedding tables; a larger eps or exact features may avoid it.",
        )
    directions = []
    for column, d, a, b in zip(read.x.T, solved, read.target.tolist(), read.reference.tolist(), strict=True):
        quotient = a / b if b > 0 else float("inf")
        gap = relative_gap(a, d.upper)
        signed, status = _signed(column, keys), d.status(tolerance)
        direction = Direction(signed, a, b, quotient, d.multiplier, gap, status, ties["target"], ties["reference"])
        directions.append(direction)
    return tuple(directions)


def _signed(x: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """Return x or -x, with the heavier lobe positive; where they weigh the same, the largest entry is.

    Of several that are the largest it is that of the first key, so that the sign does not depend on the order of rows.
    """
    total = float(x.sum())
    if abs(total) <= 1e-10 * float(np.abs(x).sum()):
        largest = np.flatnonzero(np.abs(x) > (1 - 1e-9) * np.abs(x).max())
        total = float(x[min(largest.tolist(), key=keys.__getitem__)])
    return np.ascontiguousarray(-x if total < 0 else x)
