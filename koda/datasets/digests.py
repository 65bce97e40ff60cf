"""The digests of images, remembered so that an unchanged data set is not read again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from koda.datasets.blobs import READS_AT_ONCE, Blob


@dataclass
class ImageDigests:
    """The sha256 of images, remembered by location and by the stamp of the file.

    ``known`` may be loaded from and saved to disk, so that a second audit of an unchanged data set does not read
    every image again.
    """

    known: dict[str, tuple[str, str]] = field(default_factory=dict)
    changed: bool = False

    @classmethod
    def from_json(cls, data: bytes) -> ImageDigests:
        """Read what `to_json` wrote; of a file that is damaged, or another, nothing.

        It only saves time, but one wrong digest in it would have its image rejected in every run.
        """
        try:
            raw = json.loads(data)
            known = {name: (str(stamp), str(digest)) for name, (stamp, digest) in raw["images"].items()}
            return cls(known if raw["digest"] == _digest(known) else {})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return cls()

    def to_json(self) -> bytes:
        """Return what is known as JSON, with a digest of itself."""
        return json.dumps({"digest": _digest(self.known), "images": self.known}).encode()

    def of(self, blobs: Sequence[Blob]) -> Iterator[str | Exception]:
        """Yield the digest of each image, or the error that reading it gave; one that stands twice is read once."""
        stamps = _Stamps()
        distinct = {blob.name: blob for blob in blobs}
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            digests = dict(
                zip(distinct, pool.map(lambda blob: self._digest_of(blob, stamps), distinct.values()), strict=True)
            )
        yield from (digests[blob.name] for blob in blobs)

    def _digest_of(self, blob: Blob, stamps: _Stamps) -> str | Exception:
        try:
            stamp = stamps.of(blob)
            remembered = self.known.get(blob.name)
            if stamp is not None and remembered is not None and remembered[0] == stamp:
                return remembered[1]
            data = blob.read()
            if not data:
                return OSError("the file is empty")
            digest = hashlib.sha256(data).hexdigest()
        except Exception as error:  # a store behind a URL has errors of its own; each is a rejection
            return error
        # what was replaced while it was read is not remembered: the stamp would be of other bytes
        if stamp is not None and stamps.again(blob) == stamp:
            self.known[blob.name] = (stamp, digest)
            self.changed = True
        return digest


def _digest(known: dict[str, tuple[str, str]]) -> str:
    """Return the digest of what is known; file names that are not UTF-8 are escaped in JSON."""
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


class _Stamps:
    """Stamps of files, asked for once: a file may hold many images."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def of(self, blob: Blob) -> str | None:
        if blob.location not in self._known:
            self._known[blob.location] = blob.stamp()
        return self._known[blob.location]

    def again(self, blob: Blob) -> str | None:
        """Return the stamp of a file as it is now; of one of which only a part was read, as it was."""
        return self.of(blob) if blob.length is not None else blob.stamp()
