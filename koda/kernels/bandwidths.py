"""Which kernels a search compares, with which bandwidths, and where they are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from koda.config import DiscrepancyConfig, modalities_of
from koda.devices import device_of
from koda.embeddings import TableInMemory, TableLike
from koda.embeddings.rows import drawn_keys
from koda.errors import DataError
from koda.kernels.kernel import Kernel, KernelKind, need, unit_embeddings, values_of
from koda.kernels.ties import (
    HIGH_TIE,
    LOW_TIE,
    TYPICAL_TIE,
    check_tie,
    multiplier_for,
    nearest_distances,
    tie_at,
    typical_tie,
)

MATCHED_MULTIPLIER = 0.4  # of the reference's median distance, where the leading eigenvalues are matched
AGREEMENT = 0.05  # relative difference at which two leading eigenvalues count as comparable
_UNIT_LENGTH = 0.01  # by which a normalised embedding may miss 1, in float16 or bfloat16
_VARYING_LENGTH = 0.02  # standard deviation of lengths over their mean, where they were not normalised
_APART = 10.0  # ties of the two models that differ more often than this are warned about
Distances = Mapping[str, torch.Tensor]  # modality -> d^2 / 2 median^2, (m, m)
_BLOCK_ROWS = {"cpu": 128}  # of squared distances that are made at a time, by device
_NOTHING_TIED = 1e15  # median distances over a bandwidth; at more of them nothing is tied either, but squares overflow
_DECOMPOSED_SIZE = 256  # samples up to which all eigenvalues are quicker than Lanczos steps


@dataclass(frozen=True)
class KernelPair:
    """The kernels of the two models of one question, and how they were chosen.

    Args:
        ties: role ("target", "reference") -> typical tie of its kernel, see :mod:`koda.kernels.ties`: what shares
            are in units of.
        median_distances: role -> modality -> median distance on the subsample; empty where the kernel has no
            bandwidth.
        leading_eigenvalues: role -> leading eigenvalue of K / n on the subsample.
        rule: how the bandwidths were set, in words.
        curve: (multiplier of the median distance, leading eigenvalue of the target's K / n) at every multiplier
            that the search of `sigma: matched` tried, by increasing multiplier; empty where there was no search.
        modality_ties: role -> modality -> typical tie of the kernel over this modality alone.
        warning: what a reader must know of the ties and of the lengths, in words; "" where there is nothing.
    """

    target: Kernel
    reference: Kernel
    ties: Mapping[str, float]
    median_distances: Mapping[str, Mapping[str, float]]
    leading_eigenvalues: Mapping[str, float]
    rule: str
    curve: tuple[tuple[float, float], ...] = ()
    modality_ties: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    warning: str = ""

    def __post_init__(self) -> None:
        points = sorted((float(multiplier), float(value)) for multiplier, value in self.curve)
        object.__setattr__(self, "curve", tuple(points))


@dataclass
class _Measured:
    """What the subsample tells of one model's kernel.

    Args:
        kernel: chosen.
        tie: typical, under it; ties: of each modality alone.
        leading: leading eigenvalue of K / m.
    """

    kernel: Kernel
    tie: float
    ties: dict[str, float]
    leading: float


def choose_kernels(
    target: TableLike,
    reference: TableLike,
    config: DiscrepancyConfig,
    *,
    tie: float = TYPICAL_TIE,
    max_samples: int = 4096,
) -> KernelPair:
    """Choose the bandwidths of both models on a seeded subsample, and measure their typical ties.

    With ``sigma: auto`` each model by itself: its bandwidths are the median distances of its modalities times one
    multiplier, such that its typical tie is 0.3 (:mod:`koda.kernels.ties`). The same model twice gets equal
    bandwidths.

    With ``sigma: matched`` the rule of paper 2606.04180, section 6: the reference's bandwidth of each modality is 0.4
    of its median distance, and the target's are its own median distances times one multiplier, found by bracketing so
    that the leading eigenvalues of the two K / n agree within 5 %. A number in ``config.sigma`` is the bandwidth of
    both models and of both modalities. The cosine and the polynomial kernel have no bandwidth: nothing is searched
    for them.

    Args:
        target, reference: tables over the samples that may be looked at.
        config: of the search.
        tie: the typical tie of ``sigma: auto``.
        max_samples: in the subsample.

    Raises:
        ConfigError: a modality that a table lacks.
        DataError: keys that differ, a modality whose embeddings are (mostly) all equal, or that the kernel
            cannot use; a kernel that ties nothing, or everything, together.
    """
    names = modalities_of(config)
    for table in (target, reference):
        for name in names:
            need(table, name)
    device = device_of(config.device)
    keys = drawn_keys(reference.keys, max_samples, config.seed)
    roles = {  # in memory, whatever the tables are
        role: table.select(keys).take(np.arange(len(keys)))
        for role, table in (("target", target), ("reference", reference))
    }
    medians: dict[str, dict[str, float]] = {}
    curve: dict[float, float] = {}
    if config.kernel == "gaussian":
        distances = {}
        for role, table in roles.items():
            medians[role], distances[role] = _median_scaled(table, names, role, device)
        sigmas, rule, curve = _bandwidths(config.sigma, medians, distances, tie)
        measured = {role: _gaussian(parts, medians[role], sigmas[role]) for role, parts in distances.items()}
    else:
        rule = f"none: the {config.kernel} kernel has no bandwidth"
        measured = {role: _without_bandwidth(t, config.kernel, names, role, device) for role, t in roles.items()}
    rule = f"{rule} ({len(keys)} samples)"
    for role, one in measured.items():
        check_tie(one.tie, role, rule)
    ties = {role: one.tie for role, one in measured.items()}
    return KernelPair(
        target=measured["target"].kernel,
        reference=measured["reference"].kernel,
        ties=ties,
        median_distances=medians,
        leading_eigenvalues={role: one.leading for role, one in measured.items()},
        rule=rule,
        curve=tuple(curve.items()),
        modality_ties={role: one.ties for role, one in measured.items()},
        warning="; ".join(_warnings(ties, roles, names, config.kernel)),
    )


def _warnings(
    ties: Mapping[str, float], tables: Mapping[str, TableInMemory], names: tuple[str, ...], kind: KernelKind
) -> Iterator[str]:
    yield from _far_apart(ties)
    yield from _extreme(ties)
    if kind == "gaussian":  # which alone sees lengths
        yield from _lengths_apart(tables, names)


def _far_apart(ties: Mapping[str, float]) -> Iterator[str]:
    """Say where one model's kernel ties its samples far less than the other's."""
    low, high = sorted(ties.values())
    if high <= _APART * low:
        return
    yield (
        f"the kernels of the two models tie far from alike: their typical ties are {ties['target']:.2g} (target) and "
        f"{ties['reference']:.2g} (reference), so what one holds together the other may not see at all; use sigma: auto"
    )


def _extreme(ties: Mapping[str, float]) -> Iterator[str]:
    """Say where a kernel ties so little, or so much, together that groups can hardly be found."""
    for role, tie in ties.items():
        if not LOW_TIE <= tie <= HIGH_TIE:
            what = "hardly anything" if tie < LOW_TIE else "nearly everything"
            yield (
                f"the kernel of the {role} ties {what} together: its typical tie is {tie:.2g}, where sigma: auto of "
                f"the gaussian kernel has {TYPICAL_TIE:g}, so that groups can hardly be found"
            )


def _lengths_apart(tables: Mapping[str, TableInMemory], names: tuple[str, ...]) -> Iterator[str]:
    """Say where one model's embeddings are of length 1 and the other's of many lengths."""
    for name in names:
        lengths = {
            role: np.linalg.norm(values_of(table, name).astype(np.float64), axis=1) for role, table in tables.items()
        }
        unit = [role for role, of in lengths.items() if np.abs(of - 1).max() < _UNIT_LENGTH]
        other = [role for role, of in lengths.items() if of.std() > _VARYING_LENGTH * of.mean()]
        if unit and other:
            of = lengths[other[0]]
            yield (
                f"the {name} embeddings of the {unit[0]} have length 1, those of the {other[0]} lengths from "
                f"{of.min():.3g} to {of.max():.3g}: one side was normalised and the other not, and what is found may "
                "be of that; normalise both"
            )


def _without_bandwidth(
    table: TableInMemory, kind: KernelKind, names: tuple[str, ...], role: str, device: torch.device
) -> _Measured:
    _refuse_one_direction(table, names, role)
    kernel = Kernel(dict.fromkeys(names), kind=kind)
    matrix = kernel.matrix(table, device=device, dtype=torch.float32)
    tie = typical_tie(matrix)
    ties = dict.fromkeys(names, tie)
    if len(names) > 1:
        alone = {name: Kernel({name: None}, kind=kind) for name in names}
        ties = {name: typical_tie(one.matrix(table, device=device, dtype=torch.float32)) for name, one in alone.items()}
    return _Measured(kernel, tie, ties, _leading_eigenvalue(matrix))


def _bandwidths(
    sigma: float | str, medians: Mapping[str, Mapping[str, float]], distances: Mapping[str, Distances], tie: float
) -> tuple[dict[str, dict[str, float]], str, dict[float, float]]:
    """Return role -> modality -> bandwidth, the rule in words, and what a search for them tried."""
    if not isinstance(sigma, str):
        rule = f"sigma = {sigma:g} for both models, as configured"
        return {role: dict.fromkeys(names, float(sigma)) for role, names in medians.items()}, rule, {}
    curve: dict[float, float] = {}
    if sigma == "matched":
        multipliers, curve, agreed = _matched(distances)
        rule = f"reference {MATCHED_MULTIPLIER:g} x its median distance, target {multipliers['target']:.4g} x its own"
        rule += ", leading eigenvalues within 5 %" if agreed else "; the leading eigenvalues could not be made to agree"
    else:
        multipliers = {role: multiplier_for(nearest_distances(_total(parts)), tie) for role, parts in distances.items()}
        rule = ", ".join(f"{role} {times:.4g} x its median distance" for role, times in multipliers.items())
        rule += f": a typical tie of {tie:g}"
    sigmas = {role: {name: multipliers[role] * each for name, each in of.items()} for role, of in medians.items()}
    return sigmas, rule, curve


def _gaussian(distances: Distances, medians: Mapping[str, float], sigmas: Mapping[str, float]) -> _Measured:
    """Return the Gaussian kernel of one model with these bandwidths."""
    parts = {
        name: squared * min(medians[name] / sigmas[name], _NOTHING_TIED) ** 2 for name, squared in distances.items()
    }
    total = _total(parts)
    return _Measured(
        Kernel(sigmas),
        tie_at(nearest_distances(total), 1.0),
        {name: tie_at(nearest_distances(part), 1.0) for name, part in parts.items()},
        _leading_eigenvalue(total.neg_().exp_()),
    )


def _matched(distances: Mapping[str, Distances]) -> tuple[dict[str, float], dict[float, float], bool]:
    """Return the multipliers of both roles that match the leading eigenvalues, what was tried, and if they agree."""
    scaled = {role: _total(parts) for role, parts in distances.items()}

    def leading_at(role: str, times: float) -> float:
        return _leading_eigenvalue(torch.exp(scaled[role] / -(times**2)))

    goal = leading_at("reference", MATCHED_MULTIPLIER)
    curve: dict[float, float] = {}

    def target_at(times: float) -> float:
        curve[times] = leading_at("target", times)
        return curve[times]

    matched, reached = _match(target_at, goal, MATCHED_MULTIPLIER)
    multipliers = {"target": matched, "reference": MATCHED_MULTIPLIER}
    return multipliers, curve, abs(reached / goal - 1) <= AGREEMENT


def _total(parts: Distances) -> torch.Tensor:
    """Return the sum over the modalities, a tensor of its own."""
    first, *rest = parts.values()
    total = first.clone()
    for part in rest:
        total += part
    return total


def _refuse_one_direction(table: TableInMemory, names: tuple[str, ...], role: str) -> None:
    """Refuse embeddings that all point the same way: kernels of their directions cannot tell them apart."""
    for name in names:
        u = unit_embeddings(table, name, "cpu", torch.float64)  # (m, d)
        if table.n > 1 and float((u - u[0]).abs().max()) <= 1e-12:
            raise DataError(
                f"The {name} embeddings of the {role} model are constant: {table.n} samples have one direction.",
                f"Check how they were made, or leave the {name}s out with discrepancy.modality.",
            )


def _median_scaled(
    table: TableInMemory, names: tuple[str, ...], role: str, device: torch.device
) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    """Return modality -> median distance, and -> squared distances over twice its square, (m, m) float32."""
    m = table.n
    medians: dict[str, float] = {}
    scaled: dict[str, torch.Tensor] = {}
    for name in names:
        values = torch.as_tensor(values_of(table, name)).to(device=device, dtype=torch.float64)  # (m, d)
        values = values - values.mean(0)
        low, high = values.aminmax()
        unit = _power_of_two(max(float(high), -float(low)))  # in which the squared distances are numbers of float32
        values /= unit
        norms = values.square().sum(1)  # (m,)
        squared, pairs = _squared_distances(values, norms)
        median = float(pairs.median()) ** 0.5 if pairs.numel() else 0.0
        largest = float(norms.max()) ** 0.5
        if not median > 1e-12 * largest or not math.isfinite(median):
            raise DataError(
                f"The {name} embeddings of the {role} model are constant: their median distance is 0 over {m} samples.",
                f"Check how they were made, or leave the {name}s out with discrepancy.modality.",
            )
        medians[name] = median * unit
        scaled[name] = squared.div_(2 * median**2)
    return medians, scaled


def _power_of_two(value: float) -> float:
    """Return the largest power of two up to a positive number: to divide by it rounds nothing."""
    return math.ldexp(1.0, math.frexp(value)[1] - 1)


def _squared_distances(values: torch.Tensor, norms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the squared distances of rows (m, d): all, (m, m) float32, and those over the diagonal, float64.

    Each is computed once, in float64, by so few rows at a time that they stay in the processor's cache.

    Args:
        norms: (m,) squared.
    """
    m = len(values)
    squared = values.new_empty(m, m, dtype=torch.float32)
    pairs = values.new_empty(m * (m - 1) // 2)
    rounding = float(norms.max()) * 1e-14  # what is left of equal rows after cancellation is rounding, not distance
    rows = _BLOCK_ROWS.get(values.device.type, 1024)
    start = 0
    for i in range(0, m, rows):
        j = min(i + rows, m)
        block = torch.addmm(norms[None, i:], values[i:j], values[i:].T, alpha=-2).add_(norms[i:j, None])
        block.masked_fill_(block <= rounding, 0)
        square, right = block[:, : j - i], block[:, j - i :]
        over = torch.triu_indices(j - i, j - i, 1, device=block.device)
        for part in (square[over[0], over[1]], right.reshape(-1)):
            pairs[start : start + part.numel()] = part
            start += part.numel()
        square = square.triu(1)
        squared[i:j, i:j] = square + square.T
        squared[i:j, j:] = right
        squared[j:, i:j] = squared[i:j, j:].T
    return squared, pairs


def _match(value_at: Callable[[float], float], goal: float, start: float) -> tuple[float, float]:
    """Find the multiplier at which an increasing function meets the goal within 5 %; return it and the value there.

    The start is kept where it will do, so that equal models get equal bandwidths.
    """
    at, value = start, value_at(start)
    low, high = (at, None) if value < goal else (None, at)
    for _ in range(40):
        if abs(value / goal - 1) <= AGREEMENT:
            break
        if high is None or low is None:
            at *= 1.5 if high is None else 1 / 1.5
            if not 1e-3 * start < at < 1e3 * start:
                break
        else:
            at = math.sqrt(low * high)
        value = value_at(at)
        low, high = (at, high) if value < goal else (low, at)
    return at, value


def _leading_eigenvalue(kernel: torch.Tensor, steps: int = 60, tolerance: float = 1e-3) -> float:
    """Return the leading eigenvalue of ``kernel / n``, a positive semidefinite matrix, by Lanczos steps.

    Small matrices are decomposed in full. Else the steps end when the residual of the Ritz vector is within
    the tolerance of the value; the error of the value is of second order in that.

    Where no entry is negative the leading eigenvector has one sign, and the constant vector is a good start.
    The cosine kernel has negative entries, and a constant vector may then be orthogonal to what is looked
    for: half of the start is a random vector of a fixed seed.
    """
    n = kernel.shape[0]
    if n <= _DECOMPOSED_SIZE:
        return float(torch.linalg.eigvalsh(kernel.double())[-1]) / n
    q = torch.full((n,), n**-0.5, device=kernel.device, dtype=kernel.dtype)  # (n,)
    if bool((kernel < 0).any()):
        draw = torch.from_numpy(np.random.default_rng(0).standard_normal(n)).to(q)
        q = q + draw / draw.norm()
        q /= q.norm()
    basis = torch.empty(0, n, device=kernel.device, dtype=kernel.dtype)  # (k, n)
    diagonal: list[float] = []
    off: list[float] = []
    value = 0.0
    for _ in range(steps):
        basis = torch.cat([basis, q[None]])
        y = kernel @ q
        diagonal.append(float(q @ y))
        for _ in range(2):
            y -= basis.T @ (basis @ y)
        norm = float(y.norm())
        small = np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1)  # (k, k)
        values, vectors = np.linalg.eigh(small)
        value = float(values[-1])
        if norm * abs(float(vectors[-1, -1])) <= tolerance * value:
            break
        off.append(norm)
        q = y / norm
    return value / n


def kernels_to_note(pair: KernelPair) -> dict[str, Any]:
    """Return the kernels as JSON values."""
    return {
        "target": vars(pair.target) | {"sigmas": dict(pair.target.sigmas)},
        "reference": vars(pair.reference) | {"sigmas": dict(pair.reference.sigmas)},
        "ties": dict(pair.ties),
        "median_distances": {role: dict(medians) for role, medians in pair.median_distances.items()},
        "leading_eigenvalues": dict(pair.leading_eigenvalues),
        "rule": pair.rule,
        "curve": pair.curve,
        "modality_ties": {role: dict(ties) for role, ties in pair.modality_ties.items()},
        "warning": pair.warning,
    }


def kernels_from_note(note: dict[str, Any]) -> KernelPair:
    """Return the kernels that :func:`kernels_to_note` noted."""
    curve = tuple((multiplier, value) for multiplier, value in note["curve"])
    kernels = {role: Kernel(**note[role]) for role in ("target", "reference")}
    return KernelPair(**{**note, **kernels, "curve": curve})
