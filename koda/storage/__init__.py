"""All that writes files: artifacts, digests, Parquet, and the database."""

from __future__ import annotations

from koda.storage.artifacts import ArtifactStore
from koda.storage.digests import digest_file, digest_json, digest_once
from koda.storage.writing import write_atomically

__all__ = ["ArtifactStore", "digest_file", "digest_json", "digest_once", "write_atomically"]
