"""Signed statements: they verify with the signer's key, and fail with another, or once a byte of them is changed."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from koda.audit.folders import assemble
from koda.storage import digest_once
from tests.evidence.conftest import AUDIT, change, flip, key_pair, run
from tests.report.page import needs_pango

pytestmark = needs_pango
STATEMENT = "signed/statement.dsse.json"
PASSWORD = "a password"


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_a_signed_audit_verifies_with_its_key_alone(folder: Path, tmp_path: Path, kind: str) -> None:
    private, public = key_pair(tmp_path, "own", kind, PASSWORD)
    _, other = key_pair(tmp_path, "other", kind)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run("sign", folder, "--key", private)[0] == 2  # it has a password
    assert run("sign", folder, "--key", private, "--password-env", "KEY_PASSWORD", KEY_PASSWORD=PASSWORD)[0] == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert run("verify", folder, "--key", public)[0] == 0
    assert "no key was given" in str(run("verify", folder)[1])
    code, answer = run("verify", folder, "--key", other)
    assert code == 1 and answer["failed"] == [STATEMENT]
    (folder / STATEMENT).unlink()  # whoever gives a key asks for a signature
    assert run("verify", folder)[0] == 0
    code, answer = run("verify", folder, "--key", public)
    assert code == 1 and answer["failed"] == [STATEMENT]


def test_idle_bits_of_an_envelope_are_no_place_to_write_in(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own", "ed25519")  # 64 bytes: two digits of padding, four bits before them
    digits = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    assert run("sign", folder, "--key", private)[0] == 0
    whole = (folder / STATEMENT).read_text(encoding="utf-8")
    at = whole.index("==") - 1
    other = digits[digits.index(whole[at]) ^ 1]
    (folder / STATEMENT).write_text(whole[:at] + other + whole[at + 1 :], encoding="utf-8")
    assert run("verify", folder, "--key", public)[1]["failed"] == [STATEMENT]


def test_what_was_changed_after_signing_fails(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own")
    assert run("sign", folder, "--key", private)[0] == 0
    whole = (folder / STATEMENT).read_bytes()
    envelope = json.loads(whole)
    at = envelope["signatures"][0]["sig"][20:24].encode()
    flip(folder / STATEMENT)  # in the payload
    assert run("verify", folder, "--key", public)[1]["failed"] == [STATEMENT]
    (folder / STATEMENT).write_bytes(whole)
    change(folder / STATEMENT, at, at[::-1] if at != at[::-1] else b"AAAB")
    assert run("verify", folder, "--key", public)[1]["failed"] == [STATEMENT]
    (folder / STATEMENT).write_bytes(whole.replace(b"  ", b" \t", 1))
    assert run("verify", folder, "--key", public)[1]["failed"] == [STATEMENT]
    (folder / STATEMENT).write_bytes(whole)
    flip(folder / "slices.csv")
    code, answer = run("verify", folder, "--key", public)
    assert code == 1 and {"slices.csv", STATEMENT} <= set(answer["failed"])  # type: ignore[call-overload]
    code, answer = run("sign", folder, "--key", private)
    assert code == 2 and "slices.csv" in str(answer["error"])


def test_keys_that_cannot_be_used_are_said_in_words(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "long", "p384")
    assert "of another kind" in str(run("sign", folder, "--key", private)[1]["error"])
    assert "of another kind" in str(run("verify", folder, "--key", public)[1]["error"])
    for wrong in (public, tmp_path / "none.pem"):
        assert "not a private key" in str(run("sign", folder, "--key", wrong)[1]["error"])
    assert "not set" in str(run("sign", folder, "--key", private, "--password-env", "NOT_SET_1")[1]["error"])
    assert not (folder / "signed").exists()


def test_signatures_go_with_the_run_that_they_are_over(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own")
    assert run("sign", folder, "--key", private)[0] == 0
    sources = {path.name: path for path in folder.iterdir() if path.is_file() and path.name != "manifest.json"}
    kept = tmp_path / "kept"
    kept.mkdir()
    for name, path in sources.items():
        (kept / name).write_bytes(path.read_bytes())
    again = {name: kept / name for name in sources}
    wanted = {name: digest_once(path) for name, path in again.items()}
    flip(folder / "report.html")
    assemble(AUDIT, again, wanted, folder)  # put back: the same files, the same signature
    assert run("verify", folder, "--key", public)[0] == 0 and (folder / STATEMENT).is_file()
    (kept / "report.html").write_bytes(b"drawn again")
    assemble(AUDIT, again, {**wanted, "report.html": digest_once(kept / "report.html")}, folder)
    assert not (folder / "signed").exists()
    assert (folder / "runs" / "1" / STATEMENT).is_file()
    assert run("verify", folder / "runs" / "1", "--key", public)[0] == 0
