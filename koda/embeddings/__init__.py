"""Embeddings of one model over a set of samples, in memory and on disk, joined between models by key."""

from __future__ import annotations

from koda.embeddings.join import join_tables
from koda.embeddings.rows import TableInMemory, TableLike
from koda.embeddings.tables import EmbeddingTable, ShardedTable

__all__ = ["EmbeddingTable", "ShardedTable", "TableInMemory", "TableLike", "join_tables"]
