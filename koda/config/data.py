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
    image_column: str = Field(default="filepath", description="column of the image paths or URLs")
    caption_column: str = Field(default="title", description="column of the captions")
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
    seed: int = Field(default=0, ge=0, description="of what is drawn at random, captions and pairs")
    max_rejected: float = Field(default=0.25, ge=0, description="below 1 a share of the pairs, from 1 on a count")
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
    join: Literal["keys", "rows"] = Field(
        default="keys",
        description="how samples of embedding folders, of the data and of both models, are matched; rows: by number",
    )
    name: str | None = Field(default=None, description="what the report calls the data; default: from the path")
    licence: str | None = Field(default=None, description="of the data, for the report")
    source: str | None = Field(default=None, description="where the data come from, for the report")
    datasheet: str | None = Field(default=None, description="where the data are described, for the report")

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value in {"tab", "\\t"} else value
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("it is one character that stands between fields, or the word tab")
        return value
