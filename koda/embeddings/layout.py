"""How embedding folders are laid out: koda's shards, and clip-retrieval's parts."""

from __future__ import annotations

from typing import Literal

Layout = Literal["koda", "clip-retrieval"]
Join = Literal["keys", "rows"]  # what says which sample a row is of: its key, or its number where that is asked for
SHARD_SIZE = 1024  # rows of a shard that koda writes
CLIP_PART_ROWS = 1_000_000  # rows of a part in clip-retrieval's layout
CLIP_FOLDERS = {"image": "img_emb", "text": "text_emb"}


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05d}.safetensors"
