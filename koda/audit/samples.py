"""The samples of an audit: those that both models embedded, split into discovery and confirmation."""

from __future__ import annotations

from dataclasses import dataclass

from koda.audit.plan import AuditPlan
from koda.audit.split import confirmation_keys, copies_of
from koda.datasets import Rejection, check_rejections
from koda.embeddings import EmbeddingTable
from koda.embeddings.join import MIN_SAMPLES
from koda.errors import DataError
from koda.extraction import KIND as EMBEDDINGS
from koda.extraction import load_embeddings
from koda.typing import ROLES, Side, roles_of


@dataclass(frozen=True)
class Samples:
    """The samples that both models embedded, and which of them the search may see.

    Args:
        baseline, candidate: over the same keys in the same order.
        discovery, confirmation: keys, sorted.
        is_aligned: whether one of the models was aligned, so that it may have seen those of the discovery.
    """

    baseline: EmbeddingTable
    candidate: EmbeddingTable
    discovery: tuple[str, ...]
    confirmation: tuple[str, ...]
    is_aligned: bool = False

    def of(self, side: Side) -> tuple[EmbeddingTable, EmbeddingTable]:
        """Return the embeddings of the target and of the reference of a question."""
        target, reference = roles_of(side)
        return getattr(self, target), getattr(self, reference)

    @property
    def queries(self) -> tuple[str, ...]:
        """The samples that are asked in retrieval and zero-shot: of an aligned model none that it has seen."""
        return self.confirmation if self.is_aligned else tuple(self.baseline.keys)


def load_samples(plan: AuditPlan) -> Samples:
    """Join the embeddings of both models by key and split them, seeded, into discovery and confirmation.

    Copies of one image, and its captions, are in one part; see :mod:`koda.audit.split`. What a model was aligned on is
    discovered in and never confirmed with, whatever else the split depends on.

    Raises:
        DataError: too few samples that both models embedded, or too many that were left out.
    """
    all_rejections(plan)
    tables = {role: load_embeddings(plan.artifacts, plan.embedding_key(role), plan.dataset) for role in plan.models}
    common = sorted(set(tables["baseline"].keys) & set(tables["candidate"].keys))
    share = plan.config.significance.confirmation_share
    if len(common) < 2 * MIN_SAMPLES:
        raise DataError(
            f"Only {len(common)} of the samples were embedded by both models; an audit needs {2 * MIN_SAMPLES} at the "
            "least.",
            "Add samples: some hundreds are needed for a finding to be confirmed.",
        )
    n_confirmation = min(round(share * len(common)), len(common) - MIN_SAMPLES)
    tables = {role: table.select(common) for role, table in tables.items()}
    copies = copies_of(plan, tables, common)
    confirmation = confirmation_keys(copies, plan.seen, n_confirmation, plan.config.discrepancy.seed)
    discovery = sorted(set(common) - set(confirmation))
    baseline, candidate = (tables[role] for role in ROLES)
    return Samples(baseline, candidate, tuple(discovery), tuple(confirmation), bool(plan.aligned))


def all_rejections(plan: AuditPlan) -> list[Rejection]:
    """Return what the reader and the two models left out, one reason a sample.

    Raises:
        DataError: more than `data.max_rejected` allows.
    """
    data = plan.dataset
    reasons: dict[str, str] = {}
    for role in plan.models:
        info = plan.artifacts.info(EMBEDDINGS, plan.embedding_key(role)) or {}
        for key, reason in info.get("rejected", {}).items():
            if key in data.by_key:
                reasons.setdefault(key, reason)
    rejections = [*data.rejections, *(Rejection.from_reason(key, reason) for key, reason in sorted(reasons.items()))]
    check_rejections(data.name, data.n_source, rejections, plan.config.data.max_rejected)
    return rejections
