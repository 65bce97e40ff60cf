"""A checkpoint as the candidate of an audit: opened as the audit would, and named by what it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from koda.checkpoints.places import Found
from koda.config import AuditConfig, ModelSpec, WatchConfig, model_name
from koda.errors import ConfigError, ModelError
from koda.models import is_model_folder, resolve_model
from koda.storage import digest_file, digest_json

_EXAMPLE = '  watch: {path: "runs/*/checkpoints/epoch_*.pt", as: {name: ViT-B-32}}'
_TAKES_A_CHECKPOINT = ("open_clip", "local-dir", "hf-hub", "timm")


@dataclass(frozen=True)
class Opened:
    """What a checkpoint is.

    Args:
        digest: of weights, architecture and preprocessing: the same wherever it lies, and saved in whichever form; of
            its bytes, where it cannot be loaded.
        weights: digest of its weights.
        reason: why it cannot be loaded.
    """

    digest: str
    weights: str | None = None
    reason: str | None = None


def watched(config: AuditConfig) -> WatchConfig:
    """Return what is to be watched.

    Raises:
        ConfigError: the configuration does not say.
    """
    if config.watch is None:
        raise ConfigError(
            "The configuration does not say which checkpoints to watch: the section `watch` is missing.",
            f"For example:\n{_EXAMPLE}",
        )
    return config.watch


def line_of(config: AuditConfig) -> str:
    """Return the digest of what checkpoints are compared with, and on which data."""
    settings = config.settings()
    return digest_json([settings["baseline"], settings["data"]])


def settings_of(config: AuditConfig) -> str:
    """Return the digest of all that decides whether the audit of a checkpoint succeeds."""
    kind = watched(config).as_
    return digest_json([config.settings(), None if kind is None else kind.model_dump(mode="json")])


def spec_of(config: AuditConfig, found: Found, place: Path) -> ModelSpec:
    """Return the candidate that a checkpoint is.

    Args:
        config: whose `watch.as`, else whose candidate, says what a file of weights is of.
        found: the checkpoint.
        place: where it lies on this machine.

    Raises:
        ModelError: a file of weights, and nothing says of which model.
    """
    stated = watched(config).as_
    base = stated or config.candidate
    if (
        base == config.baseline
    ):  # which stands there for want of a candidate: what is told of its weights is not of these
        base = base.model_copy(update={"licence": None, "source": None})
    label = " ".join(part for part in (base.label if stated else None, found.label) if part)
    changes = {"label": label, "pretrained": str(place)}
    if found.is_remote and base.source is None:
        changes["source"] = found.location
    if found.is_folder and is_model_folder(place):
        name = model_name("local-dir", str(place))
        return _without_own(base, stated is None).model_copy(update={**changes, "name": name, "pretrained": None})
    if base.name == "local-dir:" or base.kind not in _TAKES_A_CHECKPOINT:
        what = "holds no open_clip_config.json and no config.json" if found.is_folder else "is a file of weights"
        raise ModelError(
            f"{place} {what}, and watch.as does not say of which model.", f"State its architecture:\n{_EXAMPLE}"
        )
    return base.model_copy(update=changes)


def _without_own(base: ModelSpec, is_another: bool) -> ModelSpec:
    """Return what is stated of all checkpoints; what the candidate's section says of another model does not hold."""
    if not is_another:
        return base.model_copy(update={"config": None})
    return ModelSpec(name=base.name, precision=base.precision, licence=base.licence, source=base.source)


def open_checkpoint(config: AuditConfig, found: Found, place: Path) -> Opened:
    """Read a checkpoint as an audit would, without running code, and say what it is.

    Raises:
        KodaError: what is no fault of the checkpoint.
        OSError: it cannot be read now.
    """
    try:
        fingerprint = resolve_model(spec_of(config, found, place), config.discrepancy.device).fingerprint
    except ModelError as error:
        if _is_of_the_network(error) or not place.exists():
            raise
        return Opened(digest_json(["bytes", _digest_of_bytes(place)]), reason=str(error))
    return Opened(digest_json([fingerprint.weights, fingerprint.config_digest]), fingerprint.weights)


def _is_of_the_network(error: ModelError) -> bool:
    """Tell whether what fits the checkpoint could not be fetched: the configuration or the tokenizer of its model."""
    return "cannot be fetched" in error.message


def _digest_of_bytes(place: Path) -> str:
    """Digest a file, or a folder; one that is no model may hold anything, and is known by names and sizes."""
    if not place.is_dir():
        return digest_file(place)
    files = sorted(path for path in place.rglob("*") if path.is_file())
    whole = is_model_folder(place)
    return digest_json(
        [[str(path.relative_to(place)), digest_file(path) if whole else path.stat().st_size] for path in files]
    )
