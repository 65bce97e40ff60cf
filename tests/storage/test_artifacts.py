"""The artifact store: whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from koda.errors import StoreError
from koda.storage import ArtifactStore, write_atomically
from koda.storage.artifacts import MARK


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_an_artifact_is_there_only_when_it_is_complete(store: ArtifactStore) -> None:
    write_atomically(store.folder("k", "a") / "x.bin", b"123")
    assert not store.has("k", "a")
    digest = store.complete("k", "a", {"n": 3})
    assert store.has("k", "a")
    assert store.info("k", "a") == {"n": 3}
    assert store.digest("k", "a") == digest


@pytest.mark.parametrize("damage", ["lost", "cut", "no mark", "broken mark"])
def test_a_damaged_artifact_is_not_there(store: ArtifactStore, damage: str) -> None:
    file = store.folder("k", "a") / "x.bin"
    write_atomically(file, b"123")
    store.complete("k", "a")
    if damage == "lost":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(b"12")
    elif damage == "no mark":
        (store.folder("k", "a") / MARK).unlink()
    else:
        (store.folder("k", "a") / MARK).write_text("{", encoding="utf-8")
    assert not store.has("k", "a")


def test_the_digest_depends_on_content_alone(store: ArtifactStore) -> None:
    for key in ("a", "b"):
        write_atomically(store.folder("k", key) / "x.bin", b"123")
    assert store.complete("k", "a") == store.complete("k", "b")


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"(?s)disk is full.*KODA_HOME"):
        write_atomically(tmp_path / "f" / "x.bin", b"123")
    assert list((tmp_path / "f").iterdir()) == []


def test_a_folder_that_is_a_file_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(StoreError, match="cannot be written"):
        write_atomically(tmp_path / "f" / "x.bin", b"123")
