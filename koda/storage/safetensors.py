"""The header of a safetensors file: which tensors it holds, and where each one lies."""

from __future__ import annotations

import json
import struct
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")  # the first bytes of the file: how long the header is


def read_header(file: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """Read a header from the start of a file.

    Args:
        file: opened, at its start.
        size: its bytes.

    Returns:
        Tensor name -> `dtype`, `shape`, `data_offsets` (the file's own notes are under ``__metadata__``), and where
        the tensors begin: the offsets count from there.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has no such header.

    Source: the format as safetensors' documentation states it.
    """
    start = file.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        raise ValueError(f"unpack requires a buffer of {_LENGTH.size} bytes")
    (length,) = _LENGTH.unpack(start)
    if length > size - _LENGTH.size:
        raise ValueError("the header is longer than the file")
    try:
        header = json.loads(file.read(length))
    except RecursionError as error:  # brackets thousands deep
        raise ValueError("the header is no JSON that can be read") from error
    if not isinstance(header, dict):
        raise ValueError("the header is no JSON object")
    return header, _LENGTH.size + length
