"""What every record is made of, and how a stored one is read again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from koda.errors import DataError, reason_of


class Part(BaseModel):
    """What every part of a record is: closed, frozen, and without numbers that JSON lacks."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


class NamedByText:
    """A value that records hold as such and write as text: its ``str``, which ``parse`` reads.

    Nothing but ``parse`` reads the text; everything else compares values and looks at their fields.
    """

    what: ClassVar[str]  # is named, for messages
    pattern: ClassVar[re.Pattern[str]]  # of every text that names one
    examples: ClassVar[str]  # of such texts, for messages

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what ``str`` writes.

        Raises:
            ValueError: another text.
        """
        raise NotImplementedError

    @classmethod
    def _parts(cls, text: str) -> re.Match[str]:
        """Take a text apart by the pattern, or refuse it in words."""
        parts = cls.pattern.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} names no {cls.what}: {cls.examples}")
        return parts

    @classmethod
    def _validate(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        raise ValueError(f"a {cls.what} is named by a text, not by {type(value).__name__}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Let records hold the value, and write it as text in JSON and in plain data alike."""
        return core_schema.no_info_plain_validator_function(
            cls._validate, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def titled(name: str, words: Sequence[str], count: int = 4) -> str:
    """Return the name of a finding; where the record is older than names are, its first words."""
    return name or ", ".join(words[:count])


class Record(Part):
    """A part that is a file of its own."""

    def to_json(self) -> str:
        """Return the record as indented JSON, the same text for the same record."""
        return self.model_dump_json(indent=2) + "\n"


_DAMAGED = "It is damaged, or another file; what wrote it can write it again."

AnyRecord = TypeVar("AnyRecord", bound=Record)


def parse_record(
    model: type[AnyRecord],
    text: str | bytes,
    where: str,
    what: str,
    valid: str,
    newest: int,
    upgrade: Callable[[dict[str, Any]], None] = lambda raw: None,
) -> AnyRecord:
    """Read a versioned record.

    Args:
        model: whose record it is; it has a field ``version``.
        text: JSON.
        where: the file, for messages.
        what, valid: the kind of record, and a sound one of it, with their articles, for messages.
        newest: the version that this koda writes; it reads all up to this one.
        upgrade: turns the fields of an older version into those of the newest, in place.

    Raises:
        DataError: not JSON, not such a record, or one written by a newer koda than this.
    """
    try:
        raw: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {reason_of(error)}.", _DAMAGED) from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{where} is not {what}: it has no version.", _DAMAGED)
    if version > newest:
        raise DataError(
            f"{where} has record version {version}; this koda reads versions up to {newest}.",
            "Use the koda that wrote it, or a newer one.",
        )
    try:
        upgrade(raw)
        return model.model_validate(raw)
    except (KeyError, TypeError, AttributeError) as error:  # of an upgrade
        raise DataError(
            f"{where} is not {valid}: it lacks what every one of its version has ({reason_of(error)})."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where} is not {valid}: {place}: {first['msg']}.") from error
