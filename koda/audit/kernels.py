"""The kernels of an audit's evaluation: each model's matrix is made once, for the figures of both questions."""

from __future__ import annotations

from collections.abc import Mapping

from koda.audit.samples import Samples
from koda.discrepancy import Solution
from koda.discrepancy.blocks import Kernels, SampledKernel
from koda.typing import Role, Side, roles_of


def kernels_by_side(samples: Samples, solutions: Mapping[Side, Solution]) -> dict[Side, Kernels]:
    """Return the kernels of the target and of the reference of each question, over all samples.

    With ``sigma: auto`` both questions see a model through the same kernel: then it is one object, and its matrix is
    kept once.
    """
    made: list[tuple[Role, SampledKernel]] = []

    def kernel_of(role: Role, solution: Solution, name: str) -> SampledKernel:
        kernel = getattr(solution.kernels, name)
        tie = solution.kernels.ties[name]
        for known, one in made:
            if (known, one.kernel, one.tie) == (role, kernel, tie):
                return one
        one = SampledKernel.kept(getattr(samples, role), kernel, tie, solution.config.device)
        made.append((role, one))
        return one

    by_side: dict[Side, Kernels] = {}
    for side, solution in solutions.items():
        target, reference = roles_of(side)
        by_side[side] = (kernel_of(target, solution, "target"), kernel_of(reference, solution, "reference"))
    return by_side
