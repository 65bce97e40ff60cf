"""Which image-caption pairs: where they lie, in which form, and which of them are taken."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from koda.config.strict import Strict


class DataConfig(Strict):
    """The image-caption pairs, where and how they lie."""

    path: str = Field(min_length=1, description="a table, a COCO JSON file, tar shards, a folder; or their URL")
    images: str | None = Field(default=None, description="folder of the images; default: beside the table")
    format: Literal["csv", "coco", "webdataset", "folder", "huggingface", "embeddings"] | None = Field(
        default=None, description="default: from the path; csv is any table"
    )
    image_column: str = "filepath"
    caption_column: str = "title"
    key_column: str | None = Field(default=None, description="default: `key` if there is one, else the image path")
    captions: Literal["first", "all", "random"] = Field(
        default="first", description="which caption of an image that has several; random is drawn with `seed`"
    )
    where: str | None = Field(
        default=None, min_length=1, description="SQL condition on key, caption and the metadata columns"
    )
    key_ends: Literal["auto", "first_dot", "last_dot"] = Field(
        default="auto",
        description="where the name of a sample of shards ends: at the first dot, as in WebDataset; auto: at the last "
        "one where samples would become one otherwise",
    )
    shard_in_key: Literal["auto", "always", "never"] = Field(
        default="auto", description="the name of the shard as part of the key; auto: where each numbers anew"
    )
    exif: Literal["apply", "ignore"] = Field(
        default="ignore", description="turn pictures as their EXIF orientation says; open_clip's training does not"
    )
    background: str = Field(
        default="white",
        pattern="^(white|black|none|#[0-9a-fA-F]{6})$",
        description="colour behind transparent pictures; none drops the alpha channel, as open_clip's training does",
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many pairs, chosen as `pick` says")
    pick: Literal["random", "first"] = Field(default="random", description="random is drawn with `seed`")
    seed: int = Field(default=0, ge=0)
    max_rejected: float = Field(default=0.25, ge=0, description="below 1 a share of the pairs, from 1 on a count")
    name: str | None = None
    licence: str | None = None
    source: str | None = None
    datasheet: str | None = None
