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
    join: Literal["keys", "rows"] = Field(
        default="keys",
        description="how samples of embedding folders, of the data and of both models, are matched; rows: by number",
    )
    where: str | None = Field(
        default=None, min_length=1, description="SQL condition on key, caption and the metadata columns"
    )
    limit: int | None = Field(default=None, ge=1, description="at most this many pairs, chosen as `pick` says")
    pick: Literal["random", "first"] = Field(default="random", description="random is drawn with `seed`")
    seed: int = Field(default=0, ge=0)
    max_rejected: float = Field(default=0.25, ge=0, description="below 1 a share of the pairs, from 1 on a count")
    name: str | None = None
    licence: str | None = None
    source: str | None = None
    datasheet: str | None = None
