"""The place where parts are exchanged: files that a run and its workers both see.

What travels between processes are handles: an address and a digest, by which what is read is checked. What several
parts read is named by its digest and lies there once, until the run ends. All else has a name of its own, since the one
who takes it removes it: two parts may well have equal results.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koda.errors import MachineError, reason_of
from koda.secrets import redact

_SHARED = "shared-"


@dataclass(frozen=True)
class Handle:
    """What is found at an address of fsspec's, by its SHA-256 digest."""

    url: str
    digest: str


@dataclass(frozen=True)
class Exchange:
    """One run's own folder on storage that all its workers see.

    Args:
        url: of the folder: a path, or an address that fsspec knows.
    """

    url: str

    @classmethod
    def below(cls, storage: str) -> Exchange:
        """Return a new folder of a run below a place."""
        return cls(f"{storage.rstrip('/')}/run-{uuid.uuid4().hex[:16]}")

    def put(self, data: bytes) -> Handle:
        """Write bytes that one reader takes, or that are dropped.

        Raises:
            MachineError: nothing can be written there.
        """
        handle = Handle(f"{self.url}/{uuid.uuid4().hex}", hashlib.sha256(data).hexdigest())
        files, path = _opened(handle.url)
        try:
            files.makedirs(files._parent(path), exist_ok=True)
            files.pipe_file(path, data)
        except Exception as error:
            raise _unwritable(self.url, error) from error
        return handle

    def share(self, data: bytes) -> Handle:
        """Write bytes that several parts read, unless they are there; they stay until the run ends.

        Raises:
            MachineError: nothing can be written there.
        """
        digest = hashlib.sha256(data).hexdigest()
        handle = Handle(f"{self.url}/{_SHARED}{digest[:32]}", digest)
        files, path = _opened(handle.url)
        try:
            if files.exists(path) and files.size(path) == len(data):
                return handle
            files.makedirs(files._parent(path), exist_ok=True)
            unfinished = f"{path}.{uuid.uuid4().hex[:8]}"  # another process may write the same at the same time
            files.pipe_file(unfinished, data)
            files.mv(unfinished, path)
        except Exception as error:
            raise _unwritable(self.url, error) from error
        return handle

    def get(self, handle: Handle) -> bytes:
        """Read what a handle names.

        Raises:
            MachineError: it is not there, or is not what was written.
        """
        files, path = _opened(handle.url)
        try:
            data: bytes = files.cat_file(path)
        except Exception as error:
            raise MachineError(
                f"{_here()} does not see {redact(handle.url)}, where the run and its workers exchange their parts: "
                f"{reason_of(error)}.",
                "Set KODA_HOME to a folder on a file system that all machines of the cluster share under one path, or "
                "runner.storage to an address that all of them reach, such as s3://bucket/folder.",
            ) from error
        if hashlib.sha256(data).hexdigest() != handle.digest:
            raise MachineError(
                f"What lies at {redact(handle.url)} is not what was written there.",
                "Run the same command again; if it happens again, the storage is at fault.",
            )
        return data

    def take(self, handle: Handle) -> bytes:
        """Read what :meth:`put` wrote, and remove it."""
        data = self.get(handle)
        self.drop(handle)
        return data

    def drop(self, handle: Handle) -> None:
        """Remove what :meth:`put` wrote."""
        files, path = _opened(handle.url)
        with contextlib.suppress(Exception):  # what is left goes with the folder
            files.rm_file(path)

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Handle:
        """Write arrays; see :meth:`put`."""
        return self.put(_bytes(arrays))

    def share_arrays(self, arrays: Mapping[str, np.ndarray]) -> Handle:
        """Write arrays that several parts read; see :meth:`share`."""
        return self.share(_bytes(arrays))

    def get_arrays(self, handle: Handle) -> dict[str, np.ndarray]:
        """Read arrays; see :meth:`get`."""
        return _arrays(self.get(handle))

    def take_arrays(self, handle: Handle) -> dict[str, np.ndarray]:
        """Read arrays, and remove them; see :meth:`take`."""
        return _arrays(self.take(handle))

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        files, path = _opened(self.url)
        try:
            if files.exists(path):
                files.rm(path, recursive=True)
        except Exception:  # the run is over; koda prune removes what is left in KODA_HOME
            return


def _bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    from safetensors.numpy import save

    data: bytes = save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
    return data


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    from safetensors.numpy import load

    arrays: dict[str, np.ndarray] = load(data)
    return arrays


def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of an address, which keeps no list of what lies there, and the path in it."""
    import fsspec

    try:
        files, path = (
            fsspec.core.url_to_fs(url, use_listings_cache=False) if "://" in url else fsspec.core.url_to_fs(url)
        )
    except Exception as error:
        raise _unwritable(url, error) from error
    return files, path


def _unwritable(url: str, error: Exception) -> MachineError:
    return MachineError(
        f"{_here()} cannot write to {redact(url)}, where the run and its workers exchange their parts: "
        f"{reason_of(error)}.",
        "Free some space, or set runner.storage to a place that the run and all its workers can write to.",
    )


def _here() -> str:
    """Name this process, as a message begins."""
    import socket

    return f"The process {os.getpid()} on {socket.gethostname()}"
