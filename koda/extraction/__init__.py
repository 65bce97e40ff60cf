"""Extraction: a data set through a model into a sharded embedding artifact, resumable by shard."""

from __future__ import annotations

from koda.extraction.artifact import KIND, embedding_key, extract, load_embeddings

__all__ = ["KIND", "embedding_key", "extract", "load_embeddings"]
