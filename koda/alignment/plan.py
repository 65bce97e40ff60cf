"""The plan of an alignment: what an audit found, who learns it from whom, and the key of the result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from koda._version import __version__
from koda.alignment.groups import Group, Split, groups_of, split_samples
from koda.alignment.student import check_student
from koda.alignment.targets import AlignmentTask
from koda.audit.evaluation import load_evaluation
from koda.audit.plan import EVALUATIONS, SOLUTIONS, AuditPlan
from koda.audit.samples import Samples, load_samples
from koda.config import AlignmentConfig, AuditConfig, ModelSpec, modalities_of, model_name
from koda.discrepancy import Solution
from koda.discrepancy.saving import load_solution
from koda.errors import DataError
from koda.storage import digest_json
from koda.typing import ROLES, SIDES, Role, Side, other_role, roles_of

KIND = "alignments"
MODEL = "model"  # the folder of the aligned model within the artifact
_ALIGNMENT_VERSION = 2


@dataclass(frozen=True)
class AlignmentPlan:
    """One alignment: an audit whose steps are done, the findings to learn from, and the split of the samples."""

    audit: AuditPlan
    config: AlignmentConfig
    side: Side
    student: Role
    teacher: Role
    samples: Samples
    solution: Solution
    groups: tuple[Group, ...]
    split: Split

    @property
    def towers(self) -> tuple[str, ...]:
        """The towers that are trained."""
        if self.config.towers is None:
            return modalities_of(self.audit.config.discrepancy)
        return ("image", "text") if self.config.towers == "both" else (self.config.towers,)

    @cached_property
    def key(self) -> str:
        """Digest of everything that decides the result: both models on the data, the slices, the settings."""
        audit = self.audit
        groups = [[str(group.subset), group.ranking, sorted(group.members)] for group in self.groups]
        parts = [
            audit.embedding_key(self.student),
            audit.embedding_key(self.teacher),
            audit.solution_key(self.side),
            self.config.model_dump(),
            groups,
            [self.split.train, self.split.validation, self.split.held_out],
            audit.config.significance.model_dump(),
            None if audit.config.zero_shot is None else audit.config.zero_shot.model_dump(),
            [audit.label(role) for role in ROLES],
        ]
        return digest_json([_ALIGNMENT_VERSION, __version__, *parts])

    @property
    def id(self) -> str:
        """The alignment's id; the same inputs and settings have the same one."""
        return "alignment-" + self.key[:12]

    @property
    def folder(self) -> Path:
        """Where the aligned model lies, or is to lie."""
        return self.audit.artifacts.folder(KIND, self.key) / MODEL

    @property
    def seen(self) -> tuple[str, ...]:
        """Keys, sorted, of what search, training and early stopping see, and of what its models had seen."""
        return tuple(sorted({*self.samples.discovery, *self.audit.seen}))

    @cached_property
    def task(self) -> AlignmentTask:
        """What there is to learn."""
        pairs = self.audit.dataset.by_key
        former, teacher = (getattr(self.samples, role) for role in (self.student, self.teacher))
        return AlignmentTask(self.config, self.groups, self.split, pairs, former, teacher, self.solution)

    @property
    def model(self) -> ModelSpec:
        """The aligned model, as a configuration names it."""
        spec = self.audit.models[self.student].spec
        return ModelSpec(
            name=model_name("local-dir", str(self.folder)),
            label=f"{self.audit.label(self.student)} aligned",
            precision=spec.precision,
            licence=spec.licence,
            source=f"koda, {self.id}",
        )

    @property
    def follow_up(self) -> AuditConfig:
        """The configuration of the audit that follows: the same, with the aligned model in the student's place."""
        config = self.audit.config
        title = f"{config.report.title}, after alignment" if config.report.title else None
        report = config.report.model_copy(update={"title": title})
        return config.model_copy(update={self.student: self.model, "report": report})


def plan_alignment(audit: AuditPlan, config: AlignmentConfig | None = None) -> AlignmentPlan:
    """Plan an alignment from an audit whose steps are done.

    Args:
        audit: of the two models.
        config: how; default the audit's own settings.

    Raises:
        ModelError: a student that is not an open_clip model.
        DataError: no slice to learn from, one too small to be split, or data without images.
        ConfigError: a direction that the audit did not find.
    """
    config = config or audit.config.alignment
    student: Role = config.student
    teacher = other_role(student)
    check_student(audit.models[student])
    side = next(
        side for side in SIDES if roles_of(side) == (teacher, student)
    )  # what the teacher has and the student lacks
    evaluation = audit.artifacts.read(EVALUATIONS, audit.evaluation_key, load_evaluation)
    groups = groups_of(evaluation, side, config)
    samples = load_samples(audit)
    split = split_samples(samples, groups, config)
    if any(pair.image is None for pair in audit.dataset.pairs):
        raise DataError(
            f"The data set {audit.dataset.name} holds embeddings and no images, so nothing can be trained on it.",
            "Point data.path at the images and captions.",
        )
    solution = audit.artifacts.read(SOLUTIONS, audit.solution_key(side), load_solution)
    return AlignmentPlan(audit, config, side, student, teacher, samples, solution, groups, split)
