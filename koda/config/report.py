"""What the report of an audit shows, and what a team states in it."""

from __future__ import annotations

from pydantic import Field

from koda.config.strict import Strict


class ReportConfig(Strict):
    """What the report looks like."""

    title: str | None = Field(default=None, description="default: the names of the models")
    thumbnails: int = Field(default=160, ge=16, le=1024, description="pixels of the longer side")
    gallery: int = Field(default=12, ge=1, le=200, description="samples shown of each lobe")
    pdf: bool = Field(default=True, description="whether report.pdf is made too")
    fonts: tuple[str, ...] = Field(
        default=(), description="font files, or folders of them, that the PDF may use for what koda's own lack"
    )
    crosswalk: str | None = Field(
        default=None, description="YAML of references to frameworks, in place of koda's; koda init writes one"
    )


class IntendedUseConfig(Strict):
    """What the candidate is for; the report says "not stated" of what is left out."""

    purpose: str | None = Field(default=None, description="what it is to be used for")
    out_of_scope: str | None = Field(default=None, description="what it is not to be used for")
    owner: str | None = Field(default=None, description="who answers for it")
    contact: str | None = Field(default=None, description="how to reach them")
