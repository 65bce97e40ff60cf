"""Models that give embeddings: found, fingerprinted, loaded, and never with random weights."""

from __future__ import annotations

from koda.models.encoder import Encoder
from koda.models.fingerprint import ResolvedModel
from koda.models.resolving import FOLDER_CONFIGS, is_model_folder, load_encoder, resolve_model

__all__ = ["FOLDER_CONFIGS", "Encoder", "ResolvedModel", "is_model_folder", "load_encoder", "resolve_model"]
