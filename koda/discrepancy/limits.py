"""What holds the reference back: a limit on its energy, set in one of three ways, or a fixed weight."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import assert_never

from koda.config import DiscrepancyConfig
from koda.errors import ConfigError

_COMPARED = 1e-3  # the gap of a search that is only compared: far under what other samples change


@dataclass(frozen=True)
class ShareLimit:
    """The reference energy is at most that of a group of a share of the samples, as alike as is typical."""

    share: float

    def energy(self, n: int, tie: float) -> EnergyLimit:
        """Return the limit ``eps = (1 + s tau (n - 1)) / n`` for n samples.

        Args:
            n: samples.
            tie: tau, the typical tie of the reference's kernel (:mod:`koda.kernels.ties`).
        """
        return EnergyLimit((1 + self.share * tie * (n - 1)) / n)


@dataclass(frozen=True)
class QuantileLimit:
    """The reference energy is at most a quantile of the non-zero eigenvalues of the reference form."""

    quantile: float


@dataclass(frozen=True)
class EnergyLimit:
    """The reference energy x'Bx is at most eps.

    Raises:
        ConfigError: eps that is 0, negative or not finite (a limit of 0 is met only on the null space of B, which
            rounding blurs).
    """

    eps: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise ConfigError(
                f"eps is {self.eps}: only directions that the reference does not see at all could meet a limit of 0, "
                "and rounding decides which those are.",
                "Use a positive eps, max_reference_share, or eps_quantile (which counts the non-zero eigenvalues "
                "only).",
            )

    @property
    def weight(self) -> float:
        """How often the target's energy must exceed the reference's for a direction to be a discrepancy."""
        return 1.0


@dataclass(frozen=True)
class FixedWeight:
    """No limit, but SPEC's fixed multiplier: the leading eigenvectors of A - eta B."""

    eta: float

    @property
    def weight(self) -> float:
        """How often the target's energy must exceed the reference's for a direction to be a discrepancy."""
        return self.eta


Limit = ShareLimit | QuantileLimit | EnergyLimit | FixedWeight
SolverLimit = EnergyLimit | FixedWeight  # what is left of a limit once the forms are known


def limit_from(config: DiscrepancyConfig) -> Limit:
    """Return what the configuration asks for."""
    if config.method == "spec":
        return FixedWeight(config.eta)
    if config.max_reference_share is not None:
        return ShareLimit(config.max_reference_share)
    if config.eps_quantile is not None:
        return QuantileLimit(config.eps_quantile)
    assert config.eps is not None  # the configuration sets one of the three
    return EnergyLimit(config.eps)


def with_limit(config: DiscrepancyConfig, limit: ShareLimit | QuantileLimit | EnergyLimit) -> DiscrepancyConfig:
    """Return the configuration with that limit instead of its own."""
    fields: dict[str, float | None] = {"max_reference_share": None, "eps_quantile": None, "eps": None}
    match limit:
        case ShareLimit(share):
            fields["max_reference_share"] = share
        case QuantileLimit(quantile):
            fields["eps_quantile"] = quantile
        case EnergyLimit(eps):
            fields["eps"] = eps
        case _:
            assert_never(limit)
    return config.model_copy(update=fields)


def again_on(
    config: DiscrepancyConfig, eps: float, n: int, m: int, n_directions: int | None = None
) -> DiscrepancyConfig:
    """Return how a question that was searched on n samples is searched on m others, where results are only compared.

    With exact kernels, a gap of 1e-3, and a limit that means for m samples what it meant for n. Shares and weights do
    so by themselves. An absolute eps, and what a quantile of the n samples' spectrum was, keep their coherent share,
    ``(n eps - 1) / (n - 1) = (m eps' - 1) / (m - 1)``: the same quantile of fewer eigenvalues is another limit.

    Args:
        config: of the search that was made.
        eps: its limit, as it was solved with.
        n, m: samples.
        n_directions: wanted; default as many as before.
    """
    if isinstance(limit_from(config), EnergyLimit | QuantileLimit):
        kept = eps if m == n else (1 + (n * eps - 1) / (n - 1) * (m - 1)) / m
        config = with_limit(config, EnergyLimit(kept))
    return config.model_copy(
        update={
            "features": "exact",
            "n_features": None,
            "n_directions": n_directions or config.n_directions,
            "tolerance": max(config.tolerance, _COMPARED),
        }
    )
