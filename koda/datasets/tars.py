"""The members of a tar file, found by their headers: nothing is unpacked, and damage is told."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from koda.datasets.blobs import reason_of
from koda.errors import DataError

COMPRESSED_SUFFIXES = (".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
_BLOCK_BYTES = 512
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Damage(Exception):
    """A tar file does not go on as it should."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a tar file.

    Args:
        name: without a leading "./".
        offset, size: where its bytes lie in the file.
        fault: why its bytes are not to be used, or None.
    """

    name: str
    offset: int
    size: int
    fault: str | None = None


def check_uncompressed(file: BinaryIO, location: str) -> None:
    """Refuse a compressed file, from which nothing can be read but by reading all before it.

    Raises:
        DataError: it is one.
    """
    start = file.read(6)
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            raise DataError(
                f"The shard {location} is compressed with {name}: single images cannot be read from it.",
                "Decompress it; the images in it are compressed already.",
            )


def read_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of a tar file that are no folders, and whose bytes are all there.

    Raises:
        Damage: where it does not go on. tarfile takes a damaged header for the end of the file.
    """
    size = file.seek(0, 2)
    file.seek(0)
    last = -1
    try:
        archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115 (the file is the caller's)
    except Exception as error:  # tarfile raises whatever it stumbles over
        raise Damage("it is empty" if not size else reason_of(error)) from error
    while True:
        try:
            member = archive.next()
        except Exception as error:
            raise Damage(reason_of(error)) from error
        if member is None:
            break
        if member.offset_data <= last or member.size < 0:  # a damaged header that leads backwards, for ever
            raise Damage(f"the header at byte {member.offset} is not one")
        last = member.offset_data
        if member.isreg() and member.offset_data + member.size > size:
            raise Damage(f"it ends early, in {member.name!r}")
        if not member.isdir():
            yield Member(member.name.removeprefix("./"), member.offset_data, member.size, _fault(member))
    file.seek(archive.offset)
    block = file.read(_BLOCK_BYTES)
    if len(block) < _BLOCK_BYTES:
        raise Damage("it ends early, without its end mark")
    if block != bytes(_BLOCK_BYTES):
        raise Damage(f"the header at byte {archive.offset} is not one")


def _fault(member: tarfile.TarInfo) -> str | None:
    """Return why the bytes of a member are not to be used: it has none of its own, or a name that leads elsewhere."""
    if member.issym() or member.islnk():
        return f"{member.name!r} is a link to {member.linkname!r}"
    if member.issparse():
        return f"{member.name!r} is a sparse file"
    if not member.isreg():
        return f"{member.name!r} is a pipe or a device"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        return f"{member.name!r} leads out of the shard"
    return None
