"""What every record is made of, and how a stored one is read again."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from koda.errors import DataError


class Part(BaseModel):
    """What every part of a record is: closed, frozen, and without numbers that JSON lacks."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="null")


Record = TypeVar("Record", bound=Part)


def to_json(record: Part) -> str:
    """Return a record as indented JSON, the same text for the same record."""
    return record.model_dump_json(indent=2) + "\n"


def parse_record(model: type[Record], text: str | bytes, where: str, what: str, valid: str, newest: int) -> Record:
    """Read a versioned record.

    Args:
        model: whose record it is; it has a field ``version``.
        text: JSON.
        where: the file, for messages.
        what, valid: the kind of record, and a sound one of it, with their articles, for messages.
        newest: the version that this koda writes; it reads all up to this one.

    Raises:
        DataError: not JSON, not such a record, or one written by a newer koda than this.
    """
    try:
        raw: Any = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where} is not JSON: {error}.") from error
    version = raw.get("version") if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise DataError(f"{where} is not {what}: it has no version.")
    if version > newest:
        raise DataError(
            f"{where} has record version {version}; this koda reads versions up to {newest}.",
            "Use the koda that wrote it, or a newer one.",
        )
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{where} is not {valid}: {place}: {first['msg']}.") from error
