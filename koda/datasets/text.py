"""Bytes to text and to JSON, with errors that say where."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from koda.errors import DataError, reason_of

_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# what programs write for a value that is missing, where it comes to stand in a text
_MISSING = frozenset({"nan", "NaN", "None", "null", "NULL", "<NA>", "NaT"})


def decode_text(data: bytes, where: str) -> str:
    """Decode UTF-8, or what the byte-order mark of a spreadsheet's export says.

    Raises:
        DataError: other bytes, with the line they stand in.
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0\0" in (data[0:4:2], data[1:4:2]):
        raise DataError(f"{where}: it looks like UTF-16, without the mark that says so.", "Save the file as UTF-8.")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        name = encoding.removesuffix("-sig").upper()
        raise DataError(f"{where}, line {line}: not {name}.", "Save the file as UTF-8.") from error


def stands_for_nothing(text: str) -> bool:
    """Tell whether a text is what a program writes for a missing value, such as `nan`."""
    return text.strip() in _MISSING


def parse_json(data: bytes, where: str) -> Any:
    """Parse JSON in UTF-8.

    Raises:
        DataError: it is not JSON, with the line.
    """
    text = decode_text(data, where)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise DataError(
            f"{where} is not JSON: {reason_of(error)}.", "Save it as JSON, or give another file."
        ) from error


def scalars(entry: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
    """Return the entries of a JSON object that are text, numbers, booleans or null, but for those named."""
    return {
        as_utf8(name): as_utf8(value) if isinstance(value, str) else value
        for name, value in entry.items()
        if name not in without and (value is None or isinstance(value, str | int | float))
    }


def is_text(text: str) -> bool:
    r"""Tell whether a string can be written as UTF-8; half a character, such as JSON's ``"\ud83d"``, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_utf8(text: str) -> str:
    """Return a text with what cannot be written as UTF-8 spelled out."""
    return text if is_text(text) else text.encode("utf-8", "backslashreplace").decode()


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names for a message; of many the first, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def category_of(value: Any) -> str | None:
    """Return a metadata value as text, or None where it is absent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value).strip() or None
