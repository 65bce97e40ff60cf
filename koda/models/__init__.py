"""Models that give embeddings: found, fingerprinted, loaded, and never with random weights."""

from __future__ import annotations

from koda.models.encoder import Encoder
from koda.models.fingerprint import ResolvedModel
from koda.models.resolving import load_encoder, resolve_model

__all__ = ["Encoder", "ResolvedModel", "load_encoder", "resolve_model"]
