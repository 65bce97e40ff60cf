"""Which image-caption pairs: where they lie, in which form, and which of them are taken."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from koda.config.strict import Strict


class DataConfig(Strict):
    """The image-caption pairs, where and how they lie."""

    path: str = Field(min_length=1, description="a table, a COCO JSON file, tar shards, a folder; or their URL")
    images: str | None = Field(default=None, description="folder of the images; default: beside the table")
    format: Literal["csv", "coco", "webdataset", "folder", "huggingface", "embeddings"] | None = Field(
        default=None, description="default: from the path; csv is any table"
    )
    roots: tuple[str, ...] = Field(
        default=(), description="folders and beginnings of URLs, beside `images`, that the rows of a table may name"
    )
    urls: Literal["deny", "allow"] = Field(
        default="deny", description="allow: the rows of a table may name images by the URL of any store or host"
    )
    delimiter: str | None = Field(
        default=None, description="one character, or tab: of a table in text; default: found by its header"
    )
    image_column: str = "filepath"
    caption_column: str = "title"
    key_column: str | None = Field(default=None, description="default: `key` if there is one, else the image path")
    captions: Literal["first", "all", "random"] = Field(
        default="first",
        description="of an image with several, in a list or in rows of its own: which; random is drawn with `seed`",
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

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value in {"tab", "\\t"} else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("it is one character that stands between fields, or the word tab")
        return value
