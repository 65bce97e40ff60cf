"""Embeddings of one model over a set of samples, in memory and on disk, joined between models by key."""

from __future__ import annotations

from koda.embeddings.join import check_same_rows, join_tables
from koda.embeddings.rows import TableInMemory, TableLike
from koda.embeddings.tables import EmbeddingTable, ShardedTable

__all__ = ["EmbeddingTable", "ShardedTable", "TableInMemory", "TableLike", "check_same_rows", "join_tables"]
