"""The plan of a calibration: every ordered pair of the equals, on the whole data and on every subsample of it.

The whole is among them since some figures depend on the number of samples, and the policy is for audits of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

from koda.audit.plan import COVARIANCES, EVALUATIONS, SOLUTIONS, AuditPlan, prepare
from koda.config import AuditConfig, ModelSpec
from koda.datasets import PairDataset, subsample
from koda.discrepancy.significance import MIN_CONFIRMATION
from koda.embeddings.join import MIN_SAMPLES
from koda.errors import ConfigError, DataError
from koda.extraction import KIND as EMBEDDINGS
from koda.models import ResolvedModel
from koda.policy import check_policy
from koda.typing import ROLES, SIDES
from koda.wording import counted


@dataclass(frozen=True)
class EqualsPlan:
    """One audit of two equals.

    Attributes:
        baseline, candidate: places of the models among the equals.
        subsample: its number, from 1; 0 is the whole data set.
        whole: the audit of both as the command would run it, which makes their embeddings.
        audit: the audit on the subsample.
    """

    baseline: int
    candidate: int
    subsample: int
    whole: AuditPlan
    audit: AuditPlan


@dataclass(frozen=True)
class CalibrationPlan:
    """One calibration.

    Attributes:
        config: the configuration whose policy is calibrated.
        home: KODA_HOME.
        dataset: the whole of it.
        models: the equals.
        subsamples: how many.
        size: rows of each.
    """

    config: AuditConfig
    home: Path
    dataset: PairDataset
    models: tuple[ResolvedModel, ...]
    subsamples: int
    size: int

    @property
    def labels(self) -> list[str]:
        """Names of the equals; those of one name are told apart by their digests."""
        names = [model.label for model in self.models]
        return [
            name if names.count(name) == 1 else f"{name} ({model.fingerprint.digest[:8]})"
            for name, model in zip(names, self.models, strict=True)
        ]

    def whole(self, baseline: int, candidate: int) -> AuditPlan:
        """Return the plan of the audit of two equals on the whole data set."""
        models = self.models[baseline], self.models[candidate]
        specs = {"baseline": models[0].spec, "candidate": models[1].spec}
        config = _bare(self.config).model_copy(update=specs)
        return AuditPlan(config, self.home, self.dataset, {"baseline": models[0], "candidate": models[1]})

    def audits(self) -> list[EqualsPlan]:
        """Return the audits: on the whole data set, then subsample by subsample."""
        pairs = list(permutations(range(len(self.models)), 2))
        wholes = {pair: self.whole(*pair) for pair in pairs}
        return [
            EqualsPlan(*pair, number, wholes[pair], on_subsample(wholes[pair], self.size, number, part))
            for number in range(self.subsamples + 1)
            for part in [drawn(self.dataset, self.config, self.size, number)]
            for pair in pairs
        ]


def needs_of(audits: Sequence[EqualsPlan]) -> list[tuple[str, str]]:
    """Return kind and key of every artifact that the audits of a calibration read or make."""
    found: dict[tuple[str, str], None] = {}
    for audit in (equals.audit for equals in audits):
        found |= dict.fromkeys((EMBEDDINGS, audit.embedding_key(role)) for role in ROLES)
        found |= dict.fromkeys((COVARIANCES, audit.covariance_key(side)) for side in SIDES)
        found |= dict.fromkeys((SOLUTIONS, audit.solution_key(side)) for side in SIDES)
        found[EVALUATIONS, audit.evaluation_key] = None
    return list(found)


def drawn(dataset: PairDataset, config: AuditConfig, size: int, number: int) -> PairDataset:
    """Return a subsample of a data set by its number, from 1; 0 is the whole."""
    return dataset if number == 0 else subsample(dataset, size, (config.discrepancy.seed, number))


def on_subsample(whole: AuditPlan, size: int, number: int, part: PairDataset | None = None) -> AuditPlan:
    """Return the plan of an audit on one subsample of its data.

    Args:
        whole: on the whole data set.
        size: rows of the subsample.
        number: of the subsample, from 1; 0 is the whole.
        part: the subsample, where it has been drawn before.
    """
    plan = whole.of_part(part or drawn(whole.dataset, whole.config, size, number))
    # what may be left out is a limit on the whole data set, which is kept before
    data = plan.config.data.model_copy(update={"max_rejected": float(plan.dataset.n_source)})
    return replace(plan, config=plan.config.model_copy(update={"data": data}))


def _bare(config: AuditConfig) -> AuditConfig:
    """Leave out what no figure depends on: the policy is applied afterwards, and stability is none of its figures."""
    significance = config.significance.model_copy(update={"stability": 0})
    return config.model_copy(update={"policy": (), "waivers": (), "significance": significance})


def prepare_calibration(
    config: AuditConfig, equals: Sequence[ModelSpec], subsamples: int, size: int | None, home: Path
) -> CalibrationPlan:
    """Check everything that can be checked before work begins.

    Args:
        config: of an audit; its policy is calibrated.
        equals: two models or more.
        subsamples: how many, one at the least.
        size: rows of each; default: half of those that the data set has.
        home: KODA_HOME.

    Raises:
        ConfigError: a policy that cannot be, two names of the same weights, or subsamples of all the data.
        DataError: subsamples that are too small to be audited.
        KodaError: as :func:`koda.audit.plan.prepare`, for any of the models.
    """
    check_policy(config.policy, config.waivers, config.significance.stability)
    first, *others = equals
    bare = _bare(config)
    plans = [prepare(bare.model_copy(update={"baseline": first, "candidate": other}), home) for other in others]
    models = (plans[0].models["baseline"], *(plan.models["candidate"] for plan in plans))
    _check_different(models)
    dataset = plans[0].dataset
    rows = dataset.n_source // 2 if size is None else size
    _check_size(dataset, rows, config)
    return CalibrationPlan(config, home, dataset, models, subsamples, rows)


def _check_different(models: Sequence[ResolvedModel]) -> None:
    names: dict[str, str] = {}
    for model in models:
        name, digest = model.spec.name, model.fingerprint.digest
        if digest in names:
            raise ConfigError(
                f"--equals: {names[digest]} and {name} are one model: their weights and settings are the same.",
                "Equals are models of different trainings, such as of two seeds.",
            )
        names[digest] = name


def _check_size(dataset: PairDataset, size: int, config: AuditConfig) -> None:
    """Refuse subsamples that cannot differ from each other, and those whose held-out part could not test anything."""
    if size >= dataset.n_source:
        raise ConfigError(
            f"--size {size} is no subsample: the data set {dataset.name} has {counted(dataset.n_source, 'row')}.",
            f"Take fewer, such as --size {dataset.n_source // 2}.",
        )
    share = config.significance.confirmation_share
    if size < 2 * MIN_SAMPLES or round(share * size) < MIN_CONFIRMATION:
        least = max(2 * MIN_SAMPLES, math.ceil(MIN_CONFIRMATION / share))
        raise DataError(
            f"A subsample of {size} of the {dataset.n_source} rows of {dataset.name} is too small: with fewer than "
            f"{MIN_CONFIRMATION} held-out samples no finding can be tested.",
            f"Take at least --size {least}; some hundreds are needed for a finding to be confirmed."
            if least < dataset.n_source
            else "Add samples: some hundreds are needed for a finding to be confirmed.",
        )
