"""Two models side by side, without running them."""

from __future__ import annotations

from typing import Any

from koda.config import AuditConfig
from koda.models import resolve_model
from koda.typing import ROLES


def look_at_models(config: AuditConfig) -> dict[str, Any]:
    """Return what is known of both models before they are loaded, by role.

    Raises:
        ModelError: a model that cannot be found, or has no weights.
    """
    models: dict[str, Any] = {}
    for role in ROLES:
        spec = getattr(config, role)
        model = resolve_model(spec, config.discrepancy.device)
        fingerprint = model.fingerprint
        models[role] = {
            "label": model.label,
            "name": spec.name,
            "pretrained": spec.pretrained,
            "modalities": list(model.modalities),
            "files": str(model.checkpoint) if model.checkpoint else None,
            "weights_file": model.weights_file,
            "activation": fingerprint.activation,
            "preprocessing": fingerprint.preprocessing,
            "precision": fingerprint.precision,
            "other_files": {name: digest[:12] for name, digest in fingerprint.files.items()} or None,
            "libraries": fingerprint.libraries or None,
            "weights_digest": fingerprint.weights,
            "config_digest": fingerprint.config_digest,
            "fingerprint": fingerprint.digest,
        }
    models["same"] = models["baseline"]["fingerprint"] == models["candidate"]["fingerprint"]
    return models
