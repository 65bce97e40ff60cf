"""The kernels of an audit's evaluation: each model's matrix is made once, for the figures of both questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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


def kept_on(kernels: Mapping[Side, Kernels], keys: Mapping[Side, Sequence[str]]) -> dict[Side, Kernels]:
    """Return the kernels on the samples that are tested, whose matrices are kept where those of all are too large.

    Args:
        kernels: of each question, as :func:`kernels_by_side` returns them.
        keys: that are tested for each question; where they are the same for both, so are the matrices.
    """
    made: dict[tuple[int, tuple[str, ...]], SampledKernel] = {}

    def on(kernel: SampledKernel, tested: tuple[str, ...]) -> SampledKernel:
        if (id(kernel), tested) not in made:
            made[id(kernel), tested] = kernel.kept_on(tested)
        return made[id(kernel), tested]

    return {side: (on(a, tuple(keys[side])), on(b, tuple(keys[side]))) for side, (a, b) in kernels.items()}
