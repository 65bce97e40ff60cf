"""The artifact store: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from koda.embeddings import EmbeddingTable
from koda.errors import DataError, StoreError
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


def flip(path: Path, at: int = -2) -> None:
    """Change one bit of a file, and neither its size nor its time."""
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def made(store: ArtifactStore, content: bytes = b"123") -> Path:
    file = store.folder("k", "a") / "part" / "x.bin"
    write_atomically(file, content)
    store.complete("k", "a", {"n": 3})
    return file


def content(folder: Path) -> bytes:
    return (folder / "part" / "x.bin").read_bytes()


def test_changed_bytes_of_the_same_size_and_time_are_noticed_also_after_a_first_look(store: ArtifactStore) -> None:
    file = made(store)
    assert store.has("k", "a")
    time.sleep(0.05)  # until then every look reads the file
    assert store.read("k", "a", content) == b"123"
    flip(file)
    assert not store.has("k", "a")
    assert str(file) in str(store.damage("k", "a"))
    with pytest.raises(StoreError, match=r"(?s)x\.bin holds other bytes.*Run the same command again"):
        store.read("k", "a", content)


def test_a_file_that_stood_still_is_read_once_in_a_process(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(store)
    time.sleep(0.05)
    assert store.has("k", "a")
    monkeypatch.setattr("koda.storage.digests.digest_file", None)  # reading it again would fail
    assert store.has("k", "a")


@pytest.mark.parametrize(
    "sidecar",
    [
        b"{}", b"[]", b"null", b'{"files": {}}', b'{"digest": "0", "files": {"x": 3}, "info": {}}', b'{"info": ',
        b"\xff\xfe",
    ],
)  # fmt: skip
def test_a_damaged_sidecar_is_no_mark_and_is_said_so(store: ArtifactStore, sidecar: bytes) -> None:
    file = made(store)
    mark = store.folder("k", "a") / MARK
    mark.write_bytes(sidecar)
    assert not store.has("k", "a")
    assert store.info("k", "a") is None
    assert str(mark) in str(store.damage("k", "a"))
    store.discard_damaged("k", "a")
    assert not file.exists()  # nothing says any more what it was


def test_every_bit_of_what_a_sidecar_notes_is_sealed(store: ArtifactStore) -> None:
    made(store)
    mark = store.folder("k", "a") / MARK
    mark.write_bytes(mark.read_bytes().replace(b'"n": 3', b'"n": 2'))
    assert not store.has("k", "a")
    raw = json.loads(mark.read_bytes())
    raw["info"]["n"] = 3
    del raw["seal"]  # as an older koda wrote it
    mark.write_text(json.dumps(raw), encoding="utf-8")
    assert store.info("k", "a") == {"n": 3}


def test_only_damaged_files_are_given_up(store: ArtifactStore) -> None:
    folder = store.folder("k", "a")
    for name in ("good", "bad"):
        write_atomically(folder / name, name.encode())
    store.complete("k", "a")
    flip(folder / "bad")
    store.discard_damaged("k", "a")
    assert [path.name for path in folder.iterdir()] == ["good"]


def test_one_that_is_made_anew_is_read_until_the_new_one_is_complete(store: ArtifactStore) -> None:
    file = made(store, b"old")
    store.retire("k", "a")
    assert not store.has("k", "a")
    assert (store.info("k", "a"), store.read("k", "a", content)) == ({"n": 3}, b"old")
    write_atomically(file, b"new")
    assert store.read("k", "a", content) == b"old"
    store.complete("k", "a")
    assert store.read("k", "a", content) == b"new"
    assert not list((store.root / "replaced").iterdir())


def test_what_is_replaced_while_it_is_read_is_read_again(store: ArtifactStore) -> None:
    file = made(store, b"old")
    looks = []

    def slow(folder: Path) -> bytes:
        found = content(folder)
        if not looks:
            store.retire("k", "a")
            write_atomically(file, b"new")
            store.complete("k", "a")
            looks.append(found)
        return content(folder)

    assert store.read("k", "a", slow) == b"new"
    assert looks == [b"old"]


def test_how_long_it_took_is_no_part_of_the_digest(store: ArtifactStore) -> None:
    digests = set()
    for seconds in (b"1", b"2"):
        write_atomically(store.folder("k", "a") / "timings.json", seconds)
        write_atomically(store.folder("k", "a") / "x.bin", b"123")
        digests.add(store.complete("k", "a"))
    assert len(digests) == 1


def test_leftovers_of_a_killed_writer_are_removed_when_the_artifact_is_complete(store: ArtifactStore) -> None:
    file = made(store)
    leftover = file.with_name(".0123456789abcdef.tmp")
    leftover.write_bytes(b"half")
    store.complete("k", "a")
    assert not leftover.exists()
    assert store.has("k", "a")


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_the_umask_holds_for_files_and_folders(tmp_path: Path, umask: int, mode: int) -> None:
    """In a process of its own: the umask is that of all threads."""
    program = textwrap.dedent(
        f"""
        import os, pathlib
        os.umask({umask})
        from koda.storage import ArtifactStore, write_atomically
        from koda.storage.writing import new_folder
        place = pathlib.Path({str(tmp_path)!r})
        write_atomically(place / "f" / "x.bin", b"123")
        new_folder(place, "new-")
        with ArtifactStore(place / "artifacts").lock("k", "a"):
            pass
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    modes = {path: path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")}
    assert {modes[path] for path in modes if path.is_file()} == {mode}
    assert {modes[path] for path in modes if path.is_dir()} == {0o777 & ~umask}


def test_a_reader_always_finds_a_whole_one_while_it_is_made_anew_over_and_over(store: ArtifactStore) -> None:
    made(store, b"0" * 4096)
    seen, stop = set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.add(store.read("k", "a", content))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        for number in range(1, 9):
            with store.lock("k", "a"):
                store.retire("k", "a")
                write_atomically(store.folder("k", "a") / "part" / "x.bin", str(number).encode() * 4096)
                store.complete("k", "a")
        stop.set()
        for reader in readers:
            reader.result()
    assert all(len(set(each)) == 1 and len(each) == 4096 for each in seen)


def test_an_artifact_of_embeddings_is_checked_wherever_it_is_opened(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    folder = store.folder("embeddings", "a" * 64)
    values = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    EmbeddingTable([str(i) for i in range(8)], image=values).save(folder)
    store.complete("embeddings", "a" * 64)
    assert EmbeddingTable.load(folder).n == 8
    shard = folder / "shard-00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(bytes(data))
    for read in (EmbeddingTable.load, EmbeddingTable.open):
        with pytest.raises(DataError, match="holds other bytes than when it was written"):
            read(folder)
