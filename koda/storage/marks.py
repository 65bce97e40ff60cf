"""The sidecar of an artifact: its commit mark, which lists the files and seals itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from koda.storage.digests import digest_file, digest_json, digest_once

MARK = "complete.json"
#: a file of this name says how long something took, which is no part of what was made
TIMINGS = "timings.json"


@dataclass(frozen=True)
class FileEntry:
    """A file as it was when the artifact was completed."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Mark:
    """What the sidecar says.

    Args:
        digest: of the content of all files.
        files: path in the folder -> the file.
        info: what was noted of the artifact.
    """

    digest: str
    files: Mapping[str, FileEntry]
    info: dict[str, Any]

    @classmethod
    def of(cls, folder: Path, info: dict[str, Any]) -> Mark:
        """Look at the files of a folder as they are."""
        files = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.name != MARK and not path.name.startswith("."):
                files[path.relative_to(folder).as_posix()] = FileEntry(path.stat().st_size, digest_file(path))
        content = {name: entry.sha256 for name, entry in files.items() if Path(name).name != TIMINGS}
        return cls(digest_json(content), files, info)

    @classmethod
    def read(cls, folder: Path) -> Mark:
        """Read the sidecar of a folder.

        Raises:
            OSError: there is none, or it cannot be read.
            ValueError: it is not what koda wrote.
        """
        raw = json.loads((folder / MARK).read_bytes())
        try:
            content = {name: raw[name] for name in ("digest", "files", "info")}
            files = {str(name): FileEntry(int(e["size"]), str(e["sha256"])) for name, e in raw["files"].items()}
            info, seal = dict(raw["info"]), raw.get("seal")  # artifacts of an older koda have no seal
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks what every one has ({error})") from error
        if seal is not None and seal != digest_json(content):
            raise ValueError("its seal is of other content")
        return cls(str(raw["digest"]), files, info)

    def to_json(self) -> bytes:
        """Return the sidecar's bytes."""
        files = {name: vars(entry) for name, entry in self.files.items()}
        content = {"digest": self.digest, "files": files, "info": json.loads(json.dumps(self.info))}
        return json.dumps({**content, "seal": digest_json(content)}, indent=1, sort_keys=True).encode()

    def fault(self, folder: Path) -> str | None:
        """Return what is wrong with the files of a folder, in words that begin with a file's name; None if nothing."""
        for name, entry in self.files.items():
            path = folder / name
            try:
                if path.stat().st_size != entry.size:
                    return f"{path} has another size than when it was written"
                if digest_once(path) != entry.sha256:
                    return f"{path} holds other bytes than when it was written"
            except OSError as error:
                return f"{path} cannot be read: {error.strerror}"
        return None
