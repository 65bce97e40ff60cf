"""The plan of an audit: what will be compared, and the key of every step, known before any of them runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda._version import __version__
from koda.audit.aligned import AlignedModel, aligned_models
from koda.audit.identity import without_places
from koda.config import AuditConfig, modalities_of
from koda.datasets import ImageDigests, PairDataset, read_dataset
from koda.devices import exact_samples, kind_of, n_features_of
from koda.embeddings.layout import SHARD_SIZE
from koda.errors import DataError, ModelError, StoreError
from koda.extraction import KIND as EMBEDDINGS
from koda.extraction import embedding_key
from koda.extraction.embedding_folder import stored_of
from koda.metrics.zero_shot import classes_of
from koda.models import ResolvedModel, resolve_model
from koda.policy import check_policy, waivers_in_force
from koda.storage import ArtifactStore, digest_file, digest_json, write_atomically
from koda.storage.places import check_place
from koda.storage.writing import nearest_existing
from koda.typing import ROLES, SIDES, Role, Side, other_role, roles_of

if TYPE_CHECKING:
    from koda.records import Crosswalk

COVARIANCES = "covariances"
SOLUTIONS, CONTROLS, EVALUATIONS, RECORDS, REPORTS = "solutions", "controls", "evaluations", "records", "reports"
_STEP_VERSIONS = {COVARIANCES: 3, SOLUTIONS: 7, CONTROLS: 5, EVALUATIONS: 14, RECORDS: 12, REPORTS: 6}
_FEATURE_SETTINGS = {"modality", "kernel", "sigma", "features", "n_features", "seed"}
_USUAL_WIDTH = 1024  # of an embedding, where it is not known before the model is loaded
_SPARE_BYTES = 48 * 2**20  # database, report and thumbnails of an audit, generously


@dataclass(frozen=True)
class Step:
    """One step of an audit: its name, the kind and key of the artifact that it makes, and what its task is told."""

    name: str
    kind: str
    key: str
    arguments: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AuditPlan:
    """One audit: its inputs by digest, and from them the keys of its steps and its id.

    ``whole`` is the data set that the models embed, where the audit takes only a part of it.
    """

    config: AuditConfig
    home: Path
    dataset: PairDataset
    models: dict[Role, ResolvedModel]
    today: date = field(default_factory=lambda: datetime.now(UTC).date())  # on which waivers are in force or not
    whole: PairDataset | None = None

    @property
    def artifacts(self) -> ArtifactStore:
        """Where the steps leave what they make."""
        return ArtifactStore(self.home / "artifacts")

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration as JSON, the form in which tasks are given it."""
        return self.config.settings()

    def steps(self) -> tuple[Step, ...]:
        """Return the steps in order; a model that is audited against itself is embedded once."""
        embed = {step.key: step for step in map(self.embed_step, reversed(ROLES))}
        return (
            *reversed(embed.values()),
            *(Step(f"discover {side}", SOLUTIONS, self.solution_key(side), {"side": side}) for side in SIDES),
            Step("control", CONTROLS, self.control_key),
            Step("evaluate", EVALUATIONS, self.evaluation_key),
            Step("record", RECORDS, self.record_key),
            Step("render", REPORTS, self.report_key),
        )

    def needs(self) -> list[tuple[str, str]]:
        """Return kind and key of every artifact that a run reads or makes."""
        covariances = [(COVARIANCES, self.covariance_key(side)) for side in SIDES]
        named = self.artifacts.named_in(self.settings)  # a model that lies in the store
        return list(dict.fromkeys([*((step.kind, step.key) for step in self.steps()), *covariances, *named]))

    def embed_step(self, role: Role) -> Step:
        """Return the step that embeds the data set with one of the models."""
        return Step(f"embed {role}", EMBEDDINGS, self.embedding_key(role), {"role": role})

    @property
    def embedded(self) -> PairDataset:
        """The data set that the models embed; the audit's own, or the one that it is a part of."""
        return self.dataset if self.whole is None else self.whole

    @property
    def is_brief(self) -> bool:
        """Whether only the figures that a rule may limit are measured: of a part there is no report to show others."""
        return self.whole is not None

    def of_part(self, part: PairDataset) -> AuditPlan:
        """Return the plan of the same audit on a part of the data set, with the embeddings of the whole."""
        return replace(self, dataset=part, whole=self.embedded)

    def embedding_key(self, role: Role) -> str:
        """Key of a model's embeddings."""
        return embedding_key(self.embedded, self.models[role])

    def covariance_key(self, side: Side) -> str:
        """Key of the features' covariance for one question: limits and counts are no part of it."""
        search = {name: value for name, value in self._search.items() if name in _FEATURE_SETTINGS}
        return self._search_key(COVARIANCES, side, search)

    def solution_key(self, side: Side) -> str:
        """Key of one question's directions: both embeddings, the split, and how the search is done and ended."""
        search = self._search
        if self.config.discrepancy.max_directions > self.config.discrepancy.n_directions:
            # then the held-out test says whether the search goes on
            search |= self.config.significance.model_dump(include={"materiality", "alpha", "max_samples"})
        return self._search_key(SOLUTIONS, side, search)

    @property
    def _search(self) -> dict[str, Any]:
        """What decides a search: not the device, unless the number of features depends on it."""
        config = self.config.discrepancy
        search = config.model_dump(exclude={"device"})
        device = kind_of(config.device)
        if config.features not in ("exact", "auto") or (
            config.features == "auto" and len(self.dataset.pairs) > exact_samples(device)
        ):
            search["n_features"] = n_features_of(config.n_features, device)
        return search

    def _search_key(self, kind: str, side: Side, search: dict[str, Any]) -> str:
        target, reference = roles_of(side)
        split = self.config.significance.model_dump(include={"confirmation_share"})
        parts: list[Any] = [self.embedding_key(target), self.embedding_key(reference), split, search]
        parts += [[item.role, item.record.split.seen_digest, item.seen is None] for item in self.aligned]
        if self.whole is not None:
            parts.append(self.dataset.digest)
        return digest_json([_STEP_VERSIONS[kind], __version__, *parts])

    @property
    def control_key(self) -> str:
        """Key of the controls: the searches that they are the controls of, and how a finding is tested."""
        significance = self.config.significance.model_dump(exclude={"stability"})
        labels = [self.label(role) for role in ROLES]
        solutions = [self.solution_key(side) for side in SIDES]
        return digest_json([_STEP_VERSIONS[CONTROLS], __version__, *solutions, significance, labels])

    @property
    def evaluation_key(self) -> str:
        """Key of what is measured on the directions of both questions."""
        labels = [self.label(role) for role in ROLES]
        zero_shot = self.config.zero_shot and self.config.zero_shot.model_dump()
        significance = self.config.significance.model_dump(exclude={"spike_ins"})
        settings = [significance, self.config.report.gallery, labels, zero_shot]
        solutions = [self.solution_key(side) for side in SIDES]
        return digest_json([_STEP_VERSIONS[EVALUATIONS], __version__, *solutions, *settings])

    @property
    def record_key(self) -> str:
        """Key of the record: what was measured, everything else that the configuration says, and valid waivers.

        The verdict of the same configuration is another one when a waiver has expired.
        """
        settings = self.config.settings(alignment=False)
        return digest_json([self._identity, self.dataset.path, settings])

    @property
    def _identity(self) -> str:
        """Digest of what makes an audit the same one, wherever its models and data lie: all but where they do."""
        settings = self.config.settings(alignment=False)
        waivers = waivers_in_force(self.config.waivers, self.today)
        in_force = [waiver.model_dump(mode="json") for waiver in waivers]
        aligned = [digest_file(item.path) for item in self.aligned] or None
        rejected = [[item.key, item.kind] for item in self.dataset.rejections]
        parts = [without_places(settings), self.dataset.n_source, rejected, in_force, aligned, self.crosswalk.digest]
        return digest_json([_STEP_VERSIONS[RECORDS], __version__, self.evaluation_key, self.control_key, *parts])

    @cached_property
    def crosswalk(self) -> Crosswalk:
        """The references of frameworks that the report is to hold, as they are when they are first asked for."""
        from koda.audit.crosswalk import read_crosswalk

        return read_crosswalk(self.config.report.crosswalk)

    @cached_property
    def report_key(self) -> str:
        """Key of the report: the record and what it is drawn with, as that is when it is first asked for.

        That is the templates, and the fonts of this machine for what koda's own lack of the data set's characters.
        """
        from koda.report.environment import template_folder
        from koda.report.fonts import coverage, lacking
        from koda.report.system_fonts import font_files, fonts_for

        folder = template_folder()
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        drawn_with = {path.relative_to(folder).as_posix(): digest_file(path) for path in files}
        if self.config.report.pdf and (beyond := lacking(self._characters, coverage(folder / "fonts"))):
            drawn_with |= {
                str(path): digest_file(path) for path in fonts_for(beyond, font_files(self.config.report.fonts))
            }
        return digest_json([_STEP_VERSIONS[REPORTS], __version__, self.record_key, drawn_with])

    @property
    def _characters(self) -> str:
        """Every character beyond ASCII that the report may show of the data set."""
        shown: set[str] = set()
        for pair in self.dataset.pairs:
            for text in (pair.key, pair.caption, *pair.metadata.values()):
                if isinstance(text, str) and not text.isascii():
                    shown.update(text)
        return "".join(shown)

    @property
    def audit_id(self) -> str:
        """The audit's id; the same inputs and settings have the same one, wherever they lie."""
        return "audit-" + self._identity[:12]

    @cached_property
    def aligned(self) -> tuple[AlignedModel, ...]:
        """The models that koda fine-tuned after an audit, the candidate first."""
        return aligned_models(self.models)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Keys of the samples that an aligned model is known to have seen; nothing is tested on them."""
        return frozenset().union(*(item.seen or () for item in self.aligned))

    def label(self, role: Role) -> str:
        """The name of a model in the report; two models of one name are told apart by their weights."""
        own = self.models[role].label
        other = self.models[other_role(role)]
        if own != other.label or self.models[role].fingerprint.digest == other.fingerprint.digest:
            return own
        return f"{own} ({self.models[role].fingerprint.digest[:8]})"


def prepare(config: AuditConfig, home: Path, *, reads_only: bool = False) -> AuditPlan:
    """Check everything that can be checked before work begins: policy, models, data, disk.

    Args:
        config: of the audit.
        home: KODA_HOME.
        reads_only: nothing is to be written there; what audits left is only read.

    Raises:
        ConfigError: a rule on an unknown figure, a waiver of none, a crosswalk that cannot be read, or a zero-shot
            column that the data set lacks.
        ModelError: a model that cannot be found or has no weights, or lacks the modality that is compared.
        DataError: no data set, no usable pair, too many rejections.
        StoreError: nothing can be written there, or no room for what the audit will write.
    """
    from koda.audit.crosswalk import read_crosswalk

    config = config.audited()
    check_policy(config.policy, config.waivers, config.significance.stability)
    if not reads_only:
        read_crosswalk(config.report.crosswalk)
    device = config.discrepancy.device
    models: dict[Role, ResolvedModel] = {
        "baseline": resolve_model(config.baseline, device),
        "candidate": resolve_model(config.candidate, device),
    }
    _check_modalities(config, models)
    _check_fonts(config)
    index = home / "index" / f"{digest_json([config.data.path, config.data.images])[:32]}.json"
    digests = _load_index(index)
    dataset = read_dataset(config.data, digests)
    _check_images(dataset, models)
    for model in models.values():
        if model.stored:
            stored_of(dataset, model)  # of what cannot be joined the user hears now
    if config.zero_shot is not None:
        classes_of(config.zero_shot, dataset)
    plan = AuditPlan(config, home, dataset, models)
    if reads_only:
        return plan
    _check_room(plan)
    if digests.changed:
        write_atomically(index, digests.to_json())
    return plan


def _check_fonts(config: AuditConfig) -> None:
    """Refuse fonts that the report could not be drawn with, before anything runs."""
    if config.report.fonts:
        from koda.report.system_fonts import font_files  # with fontTools

        font_files(config.report.fonts)


def _check_modalities(config: AuditConfig, models: dict[Role, ResolvedModel]) -> None:
    """Refuse to compare what a model has not got."""
    for role, model in models.items():
        missing = [name for name in modalities_of(config.discrepancy) if name not in model.modalities]
        if not missing:
            continue
        common = [name for name in model.modalities if all(name in other.modalities for other in models.values())]
        raise ModelError(
            f"The {role} {model.label} has no {missing[0]} embeddings, which discrepancy.modality: "
            f"{config.discrepancy.modality} compares.",
            f"Set discrepancy.modality: {common[0]}." if common else "Compare it with a model that has the same.",
        )


def _check_images(dataset: PairDataset, models: dict[Role, ResolvedModel]) -> None:
    """Refuse to run a model over samples of which there are no images."""
    for role, model in models.items():
        if "image" in model.modalities and not model.stored and all(pair.image is None for pair in dataset.pairs):
            raise DataError(
                f"The data set {dataset.name} has no images, which the {role} {model.label} is to embed.",
                "Set data.images to the folder of the pictures, or compare two embeddings: folders.",
            )


def _load_index(path: Path) -> ImageDigests:
    try:
        return ImageDigests.from_json(path.read_bytes())
    except OSError:
        return ImageDigests()  # it only saves time: a lost one is made again


def _check_room(plan: AuditPlan) -> None:
    """Refuse to begin on a disk that cannot hold the result."""
    check_place(plan.home)
    place = nearest_existing(plan.home)
    needed = _SPARE_BYTES
    for key in {plan.embedding_key(role): role for role in plan.models}:
        if not plan.artifacts.has(EMBEDDINGS, key):
            widths = [2 * int(m.fingerprint.config.get("embed_dim", _USUAL_WIDTH)) for m in plan.models.values()]
            needed += max(len(plan.dataset.pairs), SHARD_SIZE) * max(widths) * 4
    free = shutil.disk_usage(place).free
    if free < needed and not plan.artifacts.has(REPORTS, plan.report_key):
        raise StoreError(
            f"The disk is full: the audit needs about {needed / 2**20:.0f} MiB below {plan.home}, and "
            f"{free / 2**20:.0f} MiB are free.",
            "Free some space or set KODA_HOME to a larger disk.",
        )
