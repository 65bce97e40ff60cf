"""Which models are held for equal: from the names on the command line to specs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from koda.config import AuditConfig, ModelSpec
from koda.config.naming import OF_ONE_TRAINING, named_model
from koda.errors import ConfigError


def equal_models(names: Sequence[str], config: AuditConfig, folder: Path) -> tuple[ModelSpec, ...]:
    """Return the models that are held for equal.

    A name is one that a configuration may give, with ``@`` and the weights behind an open_clip name; or ``baseline`` or
    ``candidate``, the configuration's own. Equals are run alike, so what the configuration says of its baseline
    (precision, image size, preprocessing) holds for the models of its kind.

    Args:
        names: as on the command line.
        config: the configuration of an audit.
        folder: what relative paths are relative to, as in the configuration: the folder of its file.

    Raises:
        ConfigError: fewer than two names, or the same model twice.
    """
    if len(names) < 2:
        raise ConfigError(
            f"--equals names {len(names)} of the models that are held for equal; it takes two at the least.",
            "For example --equals local-dir:runs/seed0 local-dir:runs/seed1 local-dir:runs/seed2",
        )
    specs: dict[ModelSpec, str] = {}
    for name in names:
        spec = _spec(name, config, folder)
        if spec in specs:
            also = "" if specs[spec] == name else f", also as {specs[spec]}"
            raise ConfigError(f"--equals names {name} twice{also}.", "Name each model once.")
        specs[spec] = name
    return tuple(specs)


def _spec(name: str, config: AuditConfig, folder: Path) -> ModelSpec:
    own = {"baseline": config.baseline, "candidate": config.candidate}
    if name in own:
        return own[name]
    if not name.strip():
        raise ConfigError("--equals names a model by an empty text.", "Give the name of a model.")
    spec = named_model(name, folder)
    for known in own.values():
        if (known.name, known.pretrained) == (spec.name, spec.pretrained):
            return known
    if spec.kind != config.baseline.kind:
        return spec
    return spec.model_copy(update={field: getattr(config.baseline, field) for field in OF_ONE_TRAINING})
