"""The place where parts are exchanged: files that a run and its workers both see, named by what they hold.

What travels between processes are handles: an address and a digest. What they name is read once, checked, and is
removed when it was used, or at the latest with the run.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from koda.errors import MachineError, reason_of
from koda.secrets import redact


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
        """Write bytes, unless they are there.

        Raises:
            MachineError: nothing can be written there.
        """
        digest = hashlib.sha256(data).hexdigest()
        handle = Handle(f"{self.url}/{digest[:32]}", digest)
        files, path = _opened(handle.url)
        try:
            if files.exists(path) and files.size(path) == len(data):
                return handle
            files.makedirs(files._parent(path), exist_ok=True)
            unfinished = f"{path}.{uuid.uuid4().hex[:8]}"  # another worker may write the same at the same time
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
        """Read what a handle names, and remove it."""
        data = self.get(handle)
        files, path = _opened(handle.url)
        try:
            files.rm_file(path)
        except Exception:  # what is left goes with the folder
            return data
        return data

    def put_arrays(self, arrays: Mapping[str, np.ndarray]) -> Handle:
        """Write arrays; see :meth:`put`."""
        from safetensors.numpy import save

        return self.put(save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))

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
        except Exception:  # the run is over; koda prune finds what is left below KODA_HOME
            return


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
