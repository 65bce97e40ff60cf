"""From two embedding tables to a solution: join, kernels, limit, solver, and the final checks."""

from __future__ import annotations

from koda.config import DiscrepancyConfig
from koda.discrepancy.problem import Problem
from koda.discrepancy.solution import Solution
from koda.embeddings import TableLike
from koda.kernels import KernelPair
from koda.kernels.covariance import CovarianceBlocks


def find_discrepancies(
    target: TableLike,
    reference: TableLike,
    config: DiscrepancyConfig | None = None,
    *,
    kernels: KernelPair | None = None,
    covariance: CovarianceBlocks | None = None,
) -> Solution:
    """Find sample groups that the target model ties together and the reference model does not.

    Solves ``max x'K_A x`` subject to ``x'K_B x <= eps``, ``||x|| = 1``, x orthogonal to the directions before, with K
    divided by n (paper 2606.04180, section 4): the same as :func:`koda.discrepancy.solver.dense.solve_dense` on the two
    kernel matrices, within the proved gap of each direction. Samples are joined by key and keep
    the order of the target's rows: ``solution.keys`` are the target's keys without those that cannot be compared, and
    entry i of a direction's ``x`` belongs to ``solution.keys[i]``. Another order of rows gives the same values at the
    same keys within the proved gap, but for what is random by row: the quantile of more than 3072 reference eigenvalues
    (``eps_quantile``) moves within its accuracy. With ``config.method = "spec"`` it is the leading eigenvectors of
    ``K_A - eta K_B`` instead, for comparison.

    Args:
        target: embeddings of the model whose structure is looked for; in memory or a folder opened with
            :meth:`~koda.embeddings.EmbeddingTable.open`.
        reference: embeddings of the model that should lack it.
        config: how to look; default :class:`~koda.config.DiscrepancyConfig`.
        kernels: kernels already chosen; default :func:`koda.kernels.choose_kernels`.
        covariance: G of the features, where it was made before from these tables; not used with exact kernels.

    Raises:
        ConfigError: a modality that a table lacks, a device that is not there, a limit of 0.
        DataError: keys that do not meet, too few usable samples, constant embeddings, a covariance of other
            samples.
        SolverError: a solution that fails its final checks.

    >>> import numpy as np
    >>> from koda import EmbeddingTable
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(60, 4)); keys = [f"{i:02}" for i in range(60)]
    >>> table = EmbeddingTable(keys, image=x)
    >>> find_discrepancies(table, table, DiscrepancyConfig(modality="image")).directions
    ()
    """
    config = config or DiscrepancyConfig()
    return Problem.of(target, reference, config, kernels=kernels, covariance=covariance).solve(config)
