"""Two joined tables with their kernels and quadratic forms: what several searches over the same samples share."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from koda.config import DiscrepancyConfig, modalities_of
from koda.devices import device_of
from koda.discrepancy.checks import checked_directions
from koda.discrepancy.forms import FeatureForms, QuadraticForms, exact_forms, feature_forms, use_exact
from koda.discrepancy.limits import EnergyLimit, FixedWeight, SolverLimit, limit_from
from koda.discrepancy.solution import Direction, Solution, raw_share
from koda.discrepancy.solver.dense import solve_dense
from koda.discrepancy.solver.outcome import DirectionState, Ending, RawSolution
from koda.discrepancy.solver.space import Block, Space
from koda.discrepancy.solver.state import SolverRequest
from koda.discrepancy.solver.subspace import solve_subspace
from koda.discrepancy.spectrum import Spectrum, limit_of
from koda.embeddings import TableLike, join_tables
from koda.embeddings.rows import check_table
from koda.errors import ConfigError
from koda.kernels import KernelPair, choose_kernels
from koda.kernels.covariance import CovarianceBlocks
from koda.wording import counted

DENSE_SIZE = 200  # coordinates up to which full eigendecompositions are quicker


@dataclass
class Problem:
    """Two joined tables with their kernels and forms: what several searches over the same samples share.

    Args:
        keys: the samples, in the order of the target table.
        kernels: the two kernels.
        forms: A and B.
        rejected: key -> reason for the samples that were left out.
        seconds: that preparing took.
    """

    keys: tuple[str, ...]
    kernels: KernelPair
    forms: QuadraticForms
    rejected: dict[str, str]
    device: torch.device
    seconds: float
    _spaces: dict[int, Space] = field(default_factory=dict)
    _spectra: dict[int, Spectrum] = field(default_factory=dict)
    _basis: Block | None = None

    @classmethod
    def of(
        cls,
        target: TableLike,
        reference: TableLike,
        config: DiscrepancyConfig,
        *,
        kernels: KernelPair | None = None,
        covariance: CovarianceBlocks | None = None,
    ) -> Problem:
        """Join the tables, choose the kernels and make the forms.

        See :func:`koda.discrepancy.search.find_discrepancies`.
        """
        began = time.perf_counter()
        target, reference, rejected = cls.joined(target, reference, config)
        device = device_of(config.device)
        kernels = kernels or choose_kernels(target, reference, config)
        forms: QuadraticForms
        exact, reason = use_exact(config.features, target.n, device)
        if exact:
            rows = np.arange(target.n)
            forms = exact_forms(target.take(rows), reference.take(rows), kernels, device)
        else:
            forms = feature_forms(target, reference, kernels, config, device, covariance=covariance)
        forms.stats["features_chosen"] = reason
        return cls(tuple(target.keys), kernels, forms, rejected, device, time.perf_counter() - began)

    @staticmethod
    def joined(
        target: TableLike, reference: TableLike, config: DiscrepancyConfig
    ) -> tuple[TableLike, TableLike, dict[str, str]]:
        """Return both tables over the samples that can be compared, and key -> reason for the rest.

        Raises:
            ConfigError: a modality that a table lacks, or a configuration that is none.
            DataError: what is no table, no common keys, or too few usable samples.
        """
        if not isinstance(config, DiscrepancyConfig):
            raise ConfigError(
                f"The configuration is {type(config).__name__}.", "Pass a DiscrepancyConfig(n_directions=5, ...)."
            )
        names = modalities_of(config)
        for role, table in (("target", target), ("reference", reference)):
            check_table(table, role)
            for name in names:
                if name not in table.modalities:
                    raise ConfigError(
                        f"modality: {config.modality} needs {name} embeddings, which the {role} table lacks.",
                        f"Set discrepancy.modality to {' or '.join(table.modalities)}, or embed the {name}s too.",
                    )
        return join_tables(target, reference, names)

    @property
    def covariance(self) -> CovarianceBlocks | None:
        """G, where the forms are those of features over their coordinates."""
        return self.forms.blocks if isinstance(self.forms, FeatureForms) else None

    def solve(self, config: DiscrepancyConfig, *, warm: bool = False, prove: bool = True) -> Solution:
        """Search with other limits or counts, on the same samples and kernels.

        Args:
            config: its kernel, features, seed and modality must be those that the problem was made with.
            warm: start from the subspace of the last search.
            prove: whether the gap of each direction is proved. Without, the search ends where the residuals are
                those of the tolerance and its gaps are infinite: for what is only compared or looked at.
        """
        began = time.perf_counter()
        n = self.forms.n
        tie = self.kernels.ties["reference"]
        limit, rule = limit_of(limit_from(config), self.forms.reference, n, tie, lambda: self._spectrum_of(config.seed))
        raw = self._solved(config, limit, warm=warm, prove=prove)
        eps = limit.eps if isinstance(limit, EnergyLimit) else float("inf")
        directions = checked_directions(self.forms, self.keys, raw.directions, eps, config.tolerance, self.kernels.ties)
        if isinstance(limit, FixedWeight):  # SPEC has no limit; the largest reference energy found is reported as eps
            eps = max((d.reference_energy for d in directions), default=0.0)
        status = _status(raw, directions, n, eps, config)
        stats = self._stats(raw, rule, self.seconds + time.perf_counter() - began)
        if warnings := [*filter(None, [self.kernels.warning, _feature_warning(directions, self.forms.stats)])]:
            stats["warnings"] = warnings
            status = "; ".join([status, *warnings])
        return Solution(
            directions=directions,
            keys=self.keys,
            eps=eps,
            kernels=self.kernels,
            status=status,
            stats=stats,
            rejected=self.rejected,
            config=config,
        )

    @property
    def _matrices(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """A and B, where they are so small that they are solved densely."""
        return self.forms.matrices() if self.forms.dimension <= DENSE_SIZE else None

    def _solved(self, config: DiscrepancyConfig, limit: SolverLimit, *, warm: bool, prove: bool) -> RawSolution:
        """Find the directions in the coordinates of the forms; the subspace is kept for a warm start."""
        wanted = min(config.n_directions, self.forms.n)
        if self.forms.same:
            return RawSolution((), Ending.SAME)
        request = SolverRequest(limit, wanted, config.tolerance, stop_without_gain=True, prove=prove)
        if (matrices := self._matrices) is not None:
            return solve_dense(*matrices, request)
        raw = solve_subspace(self._space(wanted), request, seed=config.seed, warm=self._basis if warm else None)
        self._basis = raw.basis
        return raw

    def _stats(self, raw: RawSolution, rule: str, seconds: float) -> dict[str, Any]:
        """Return the figures of a solve."""
        stats: dict[str, Any] = {
            "n": self.forms.n,
            "device": str(self.device),
            "dimension": self.forms.dimension,
            "eps_rule": rule,
            "iterations": raw.iterations,
            "solver": "dense" if self._matrices is not None else "subspace",
            "seconds_kernels": self.seconds,
            "seconds": seconds,
            **self.forms.stats,
            **raw.details,
        }
        if raw.lambda_min is not None:
            stats["lambda_min"] = raw.lambda_min
        return stats

    def _spectrum_of(self, seed: int) -> Spectrum:
        if seed not in self._spectra:
            self._spectra = {seed: Spectrum.of(self.forms.reference, seed)}
        return self._spectra[seed]

    def _space(self, wanted: int) -> Space:
        if wanted not in self._spaces:
            self._spaces = {wanted: self.forms.space(wanted)}
        return self._spaces[wanted]


def _feature_warning(directions: tuple[Direction, ...], stats: dict[str, Any]) -> str:
    """Say for how many directions the error of the features could be all there is to their coherence."""
    error = stats.get("feature_error", 0.0)
    weak = sum(raw_share(d.target_energy, len(d.x)) < error for d in directions)
    if not weak:
        return ""
    return (
        f"the measured error of the features, {error:.2g}, exceeds the target share of {weak} of {len(directions)} "
        "directions: only a held-out test with exact kernels, such as an audit makes, says whether these are real; a "
        "larger n_features lowers the error"
    )


def _status(raw: RawSolution, directions: tuple[Direction, ...], n: int, eps: float, config: DiscrepancyConfig) -> str:
    """Say what happened: how many directions, why no more, and what to do."""
    wanted, count = config.n_directions, len(directions)
    many = f"{count} of {wanted} directions" if count < wanted else f"{count} direction{'s' if count > 1 else ''}"
    if raw.ending is Ending.SAME:
        return "no discrepancy: the two kernels are equal up to rounding, so there is nothing to find"
    if raw.ending is Ending.NO_DISCREPANCY and not count:
        return "no discrepancy: the target ties nothing together more than the reference does, within the limit"
    if raw.ending is Ending.NO_DISCREPANCY:
        return f"{many}; no further discrepancy: what is left the target ties together no more than the reference does"
    if raw.ending is Ending.INFEASIBLE:
        least = raw.lambda_min if raw.lambda_min is not None else float("nan")
        return (
            f"{many}; infeasible beyond: the smallest reference energy left, lambda_min = {least:.6g}, exceeds "
            f"eps = {eps:.6g}; raise the limit"
        )
    if raw.ending is Ending.EXHAUSTED or count < wanted:
        return f"{many}; there are no more independent directions in {counted(n, 'sample')}; add samples"
    inexact = sum(not d.state.exact for d in raw.directions)
    if inexact:
        return f"{many}, {inexact} of them not within the tolerance {config.tolerance:g}; see their status"
    inactive = sum(d.state is DirectionState.INACTIVE for d in raw.directions)
    worst = max(d.gap for d in directions)
    words = f"{many}, each proved to be within {worst:.1e} of its optimum"
    return words + (f"; the limit does not bind for {inactive} of them (see their status)" if inactive else "")
