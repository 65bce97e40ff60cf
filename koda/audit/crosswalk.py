"""The crosswalk of a report: a YAML file that a team keeps, read with care."""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import lru_cache
from pathlib import Path

from pydantic import field_validator, model_validator

from koda.config.strict import Strict, check_settings
from koda.config.yaml_files import read_mapping
from koda.errors import did_you_mean, nearest
from koda.records import Crosswalk, CrosswalkRow
from koda.records.compliance import CrosswalkStatus
from koda.report.environment import template_folder
from koda.storage import digest_file

#: ids of the sections and annexes that a report may have, which a row may name
SECTIONS = (
    *("changes", "policy", "scope", "models", "data", "method", "controls", "findings", "maps", "retrieval", "trend"),
    *("alignment", "provenance", "crosswalk", "people", "samples", "rejections", "configuration", "glossary"),
)


class _Row(Strict):
    """One row of the file; the fields of :class:`koda.records.CrosswalkRow`."""

    framework: str
    reference: str
    asks_for: str
    status: CrosswalkStatus
    supplies: str = ""
    owner: str = ""
    section: str | None = None
    applies_from: date | None = None

    @field_validator("framework", "reference", "asks_for")
    @classmethod
    def _is_said(cls, value: str) -> str:
        return _said(value)

    @field_validator("section")
    @classmethod
    def _is_a_section(cls, value: str | None) -> str | None:
        if value is not None and value not in SECTIONS:
            like = nearest(value[:100], SECTIONS)
            hint = did_you_mean(like, "did") if like else f"the sections are {', '.join(SECTIONS)}"
            raise ValueError(f"no report has a section {value[:100]!r}; {hint}")
        return value


class _File(Strict):
    """The file; the fields of :class:`koda.records.Crosswalk` but for the digest."""

    title: str
    as_of: date
    kept_by: str = ""
    rows: tuple[_Row, ...]

    @field_validator("title")
    @classmethod
    def _is_said(cls, value: str) -> str:
        return _said(value)

    @model_validator(mode="after")
    def _each_once(self) -> _File:
        if not self.rows:
            raise ValueError("rows is empty: a crosswalk has at least one row")
        named = Counter(f"{row.framework}: {row.reference}" for row in self.rows)
        if twice := [name for name, count in named.items() if count > 1]:
            raise ValueError(f"two rows are of {twice[0]!r}; put what both say into one")
        return self


def shipped_crosswalk() -> Path:
    """Return the file that stands where a team has none of its own.

    Raises:
        PrerequisiteError: the templates are not installed.
    """
    return template_folder() / "crosswalk.yaml"


def read_crosswalk(path: str | Path | None = None) -> Crosswalk:
    """Read a crosswalk; rows of one framework come to stand together, in the order of the first of each.

    Args:
        path: of the YAML file; None for the one that comes with koda.

    Raises:
        ConfigError: no such file, not YAML, an unknown key (the nearest right one is named), a value that is none, or
            a reference that stands twice; the message names file, line, row and key.
    """
    path = shipped_crosswalk() if path is None else Path(path)
    try:
        digest = digest_file(path)
    except OSError:
        digest = ""  # what is wrong with it is said below
    return _read(path, digest)


@lru_cache(maxsize=4)  # an audit asks for it again and again, and its YAML takes longest of all to read
def _read(path: Path, digest: str) -> Crosswalk:
    file = check_settings(_File, read_mapping(path), str(path), path)
    frameworks = list(dict.fromkeys(row.framework for row in file.rows))
    return Crosswalk(
        title=file.title,
        as_of=file.as_of,
        kept_by=file.kept_by,
        rows=[CrosswalkRow(**row.model_dump()) for name in frameworks for row in file.rows if row.framework == name],
        digest=digest,
    )


def _said(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty")
    return value
