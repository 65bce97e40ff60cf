"""One whole audit in a home, drawn once; each test damages a copy of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from safetensors.numpy import save_file
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.folders import AUDITS, assemble
from koda.audit.plan import RECORDS
from koda.models.weights import look_at_weights
from koda.policy.export import verdict_json
from koda.records import AuditRecord
from koda.report import render
from koda.slicing.export import slices_csv
from koda.storage import ArtifactStore, digest_once
from koda.storage.database import AuditStore
from koda.storage.parquet import write_parquet
from tests.report import factory
from tests.report.page import small

AUDIT = "audit-77b0aa"


def rows_of(record: AuditRecord) -> list[dict[str, object]]:
    """Return as many listed samples as the record counts, the shown ones among them."""
    rows: list[dict[str, object]] = []
    for finding in record.findings:
        for lobe in (finding.positive, finding.negative):
            shown = {sample.key: sample for sample in lobe.samples}
            keys = list(shown)
            keys += [f"more-{number}" for number in range(max(0, lobe.size - len(keys)))]
            rows += [
                {
                    "side": finding.side, "direction": finding.direction, "lobe": lobe.sign, "rank": rank, "key": key,
                    "score": shown[key].score if key in shown else 1 / rank, "metadata": "{}",
                    "caption": shown[key].caption if key in shown else "a caption", "in_slice": rank <= lobe.size,
                    "split": "discovery",
                }
                for rank, key in enumerate(keys, 1)
            ]  # fmt: skip
    return rows


def with_weights(record: AuditRecord, path: Path) -> AuditRecord:
    """Write weights, and say in a record that its candidate had them."""
    path.parent.mkdir()
    save_file({"visual.proj": np.arange(64, dtype=np.float32), "logit_scale": np.ones(1, np.float32)}, path)
    digest = look_at_weights(path).digest
    return record.model_copy(update={"candidate": record.candidate.model_copy(update={"weights_digest": digest})})


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evidence") / "home"
    source = home.parent / "source"
    record = with_weights(small(id=AUDIT), home.parent / "weights" / "model.safetensors")
    render(record, factory.thumbnails(record), source)
    (source / "audit.json").write_bytes(record.to_json().encode())
    (source / "verdict.json").write_bytes(verdict_json(record))
    (source / "slices.csv").write_bytes(slices_csv(rows_of(record), []))
    sources = {path.name: path for path in sorted(source.iterdir())}
    assemble(AUDIT, sources, {name: digest_once(path) for name, path in sources.items()}, home / AUDITS / AUDIT)
    leave_thumbnails(home, record)
    for made in (factory.record(1, map_points=0, id="audit-1"), record, factory.record(1, map_points=0, id="audit-3")):
        chain(home, made)
    return home


def chain(home: Path, record: AuditRecord) -> None:
    """Store a record in the database of a home, and leave it in its folder where none is."""
    place = home / AUDITS / record.id / "audit.json"
    place.parent.mkdir(exist_ok=True)
    if record.id != AUDIT:
        place.write_bytes(record.to_json().encode())
    store = AuditStore(home)
    store.stage_audit(record, [])
    assert store.merged() == []


def leave_thumbnails(home: Path, record: AuditRecord) -> None:
    """Leave the pictures of a record as the step that wrote it does."""
    artifacts, key, pictures = ArtifactStore(home / "artifacts"), "0" * 64, factory.thumbnails(record)
    place = artifacts.folder(RECORDS, key)
    place.mkdir(parents=True)
    (place / "audit.json").write_bytes(record.to_json().encode())
    write_parquet(place / "thumbnails.parquet", {"key": list(pictures), "jpeg": list(pictures.values())})
    artifacts.complete(RECORDS, key)


@pytest.fixture
def weights(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn.parent / "weights", tmp_path / "weights")) / "model.safetensors"


@pytest.fixture
def home(drawn: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "home", copy_function=_copy))


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)


@pytest.fixture
def folder(home: Path) -> Path:
    return home / AUDITS / AUDIT


def list_again(folder: Path) -> None:
    """Write the manifest anew for the files as they are, as someone would who changed them."""
    names = [path.name for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"]
    files = {
        name: {"size": (folder / name).stat().st_size, "sha256": digest_once(folder / name)} for name in sorted(names)
    }
    manifest = {"audit": AUDIT, "files": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True), encoding="utf-8")


def change(path: Path, old: bytes, new: bytes) -> None:
    """Put other bytes in a file, once."""
    data = path.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new, 1))


def flip(path: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path)


def key_pair(folder: Path, name: str, kind: str = "p256", password: str | None = None) -> tuple[Path, Path]:
    """Write a new key; return the paths of its private and its public half."""
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}
    key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(curves[kind])
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password.encode())
    pem = serialization.Encoding.PEM
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, hidden))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def run(*arguments: str | Path, **environment: str) -> tuple[int, dict[str, object]]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], env={"KODA_HOME": "/nonexistent", **environment})
    return result.exit_code, json.loads(result.stdout)
