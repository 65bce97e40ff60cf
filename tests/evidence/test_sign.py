"""Signed statements: they verify with the signer's key, and fail with another, or once a byte of them is changed."""

from __future__ import annotations

import json
import os
import shutil
import string
import unittest.mock
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from koda.audit.folders import ARTIFACTS, AUDITS, assemble
from koda.audit.redrawing import held
from koda.evidence.sign import Signing, sign
from koda.records import AuditRecord
from koda.storage import ArtifactStore, digest_once
from koda.typing import Role
from tests.evidence.conftest import AUDIT, change, flip, key_pair, list_again, run
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        ("folder", "it is a folder"),
        (b"", "it is empty"),
        (bytes(range(256)), "it holds nothing in PEM"),
        (b"x" * 2_000_000, "it is larger than a mebibyte"),
        (b"-----BEGIN CERTIFICATE-----\nabcd\n-----END CERTIFICATE-----\n", "it holds 'certificate', not a"),
    ],
)
def test_what_is_no_key_certificate_or_head_is_said_without_a_word_of_pythons(
    folder: Path, tmp_path: Path, content: bytes | str | None, words: str
) -> None:
    private, _ = key_pair(tmp_path, "own")
    path = tmp_path / "given"
    if content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    of_keys = [["sign", folder, "--key", path], ["verify", folder, "--key", path]]
    others = [["sign", folder, "--key", private, "--certificate", path], ["verify", "--chain", "--head", path]]
    for arguments in (*of_keys, *others):
        code, answer = run(*arguments)
        error = str(answer["error"])
        assert code == 2 and str(path) in error and "Errno" not in error and "Error:" not in error
        if arguments in of_keys or ("PEM" not in words and "certificate" not in words):
            assert words in error


@pytest.mark.parametrize("step", ["before", "between", "after", "done"])
def test_signatures_of_before_survive_a_kill_at_each_step_of_their_replacement(
    home: Path, folder: Path, tmp_path: Path, step: str
) -> None:
    private, public = key_pair(tmp_path, "own")
    (folder / "report.pdf").unlink()  # which takes the longest to check
    list_again(folder)
    assert run("sign", folder, "--key", private)[0] == 0
    before = (folder / STATEMENT).read_bytes()
    if (child := os.fork()) == 0:
        _die(step, lambda: sign(folder, Signing(private)))
    assert os.waitpid(child, 0)[1] == 9 << 8
    names = {path.name for path in folder.iterdir()}
    assert (".signed.old" in names, "signed" in names) == (step in ("between", "after"), step != "between")
    if step == "between":
        code, answer = run("verify", folder, "--key", public)
        assert code == 1 and answer["failed"] == [STATEMENT] and "lies in .signed.old" in str(answer["checks"])
        with held(folder):  # as whoever changes the audit next
            assert (folder / STATEMENT).read_bytes() == before
    code, answer = run("verify", folder, "--key", public)
    assert code == 0 and answer["failed"] == []
    assert ((folder / STATEMENT).read_bytes() == before) == (step in ("before", "between"))
    assert run("sign", folder, "--key", private)[0] == 0 and not (folder / ".signed.old").exists()
    assert list(folder.parent.glob(".*")) == []


def _die(step: str, work: Callable[[], object]) -> NoReturn:
    """Do a work, and die at a step of the replacement of what was signed, as a process does that is killed."""
    rename = Path.rename

    def renamed(path: Path, target: Path) -> Path:
        last = target.name == "signed"
        if (step, last) in {("before", False), ("between", True)}:
            os._exit(9)
        made = rename(path, target)
        if (step, last) == ("after", True):
            os._exit(9)
        return made

    try:
        with unittest.mock.patch.object(Path, "rename", renamed):
            work()
    finally:
        os._exit(9 if step == "done" else 1)


def test_who_annotates_what_is_signed_is_told_to_sign_again_and_so_is_who_verifies_it(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, "own")
    (folder / "report.pdf").unlink()
    list_again(folder)
    assert run("sign", folder, "--key", private)[0] == 0
    code, answer = run("annotate", folder, "--approved", "Ada", KODA_HOME=str(home))
    assert code == 0 and f"sign again with koda sign {folder} --key" in str(answer["notes"])
    code, answer = run("verify", folder, "--key", public)
    assert code == 1 and answer["failed"] == [STATEMENT]
    assert "the audit was annotated after it was signed" in str(answer["checks"])
    assert "sign it again with koda sign" in str(answer["checks"])
    assert run("sign", folder, "--key", private)[0] == 0 and run("verify", folder, "--key", public)[0] == 0
    assert run("annotate", folder, "--reviewed", "Bob", KODA_HOME=str(home))[0] == 0
    assert "annotated once more after it was signed" in str(run("verify", folder, "--key", public)[1]["checks"])
    flip(folder / "slices.csv")
    list_again(folder)  # the record is as it was, and another file is not
    assert run("verify", folder, "--key", public)[0] == 1


class Watched(dict[Role, Path]):
    """Where weights lie; being asked, in the midst of signing, it looks at the home and is interrupted."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        self.home = home
        self.held = False
        self.names: set[str] = set()

    def get(self, *_: object) -> NoReturn:  # type: ignore[override]
        self.held = ArtifactStore(self.home / ARTIFACTS).is_held(AUDITS, AUDIT)
        self.names = {path.name for path in (self.home / AUDITS / AUDIT).iterdir()}
        shutil.copytree(self.home, self.home.with_name("killed"))
        raise KeyboardInterrupt


def test_an_audit_is_its_signers_alone_and_one_that_is_stopped_leaves_it_as_it_was(
    home: Path, folder: Path, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, "own")
    assert run("sign", folder, "--key", private)[0] == 0
    before = {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    watched = Watched(home)
    with pytest.raises(KeyboardInterrupt):
        sign(folder, Signing(private, weights=watched))
    assert watched.held and watched.names == {path.name for path in folder.iterdir()}
    assert {path.relative_to(home): path.read_bytes() for path in home.rglob("*") if path.is_file()} == before
    killed = home.with_name("killed") / AUDITS  # as it was in the midst
    assert len(list(killed.glob(".*"))) == 1 and run("verify", killed / AUDIT, "--key", public)[0] == 0
    assert run("sign", killed / AUDIT, "--key", private)[0] == 0
    assert list(killed.glob(".*")) == []


def test_what_koda_did_not_write_beside_signatures_is_told_and_kept(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own")
    (folder / "report.pdf").unlink()  # which takes the longest to check
    list_again(folder)
    assert run("sign", folder, "--key", private)[0] == 0
    (folder / "signed" / "second.sig").write_bytes(b"of a second signer")
    (folder / "signed" / "more").mkdir()
    code, answer = run("sign", folder, "--key", private)
    assert code == 0 and "more, second.sig. It is kept" in str(answer["notes"])
    assert len(answer["signed"]) == 2  # type: ignore[arg-type]
    code, answer = run("verify", folder, "--key", public)
    told = {check["name"]: check for check in answer["checks"]}  # type: ignore[attr-defined]
    assert code == 0 and told[STATEMENT]["state"] == "verified"
    for name in ("signed/second.sig", "signed/more"):
        assert (told[name]["state"], told[name]["why"]) == ("not verified", "the statement does not name it")
    assert (folder / "signed" / "second.sig").read_bytes() == b"of a second signer"
    (folder / STATEMENT).unlink()
    assert "there is no statement that names it" in str(run("verify", folder)[1])
    (folder / "signed").rename(tmp_path / "elsewhere")
    (folder / "signed").symlink_to(tmp_path / "elsewhere")
    code, answer = run("sign", folder, "--key", private)
    assert code == 2 and "is a link or a file" in str(answer["error"]) and (tmp_path / "elsewhere/second.sig").is_file()


def test_a_listed_file_whose_name_begins_as_that_of_the_signatures_has_to_verify(folder: Path, tmp_path: Path) -> None:
    private, _ = key_pair(tmp_path, "own")
    (folder / "report.pdf").unlink()
    (folder / "signed-notes.csv").write_text("a,b", encoding="utf-8")
    list_again(folder)
    flip(folder / "signed-notes.csv")
    code, answer = run("sign", folder, "--key", private)
    assert code == 2 and "does not verify: signed-notes.csv" in str(answer["error"])


def test_a_record_that_gives_no_bill_of_materials_is_signed_and_checked_without(folder: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own")
    assert run("sign", folder, "--key", private)[0] == 0
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    odd = {
        "provenance": record.provenance.model_copy(update={"packages": {"": "1.0"}}),
        "candidate": record.candidate.model_copy(update={"name": ""}),
    }
    (folder / "audit.json").write_bytes(record.model_copy(update=odd).to_json().encode())
    for name in ("report.html", "report.pdf"):
        (folder / name).unlink()
    list_again(folder)
    code, answer = run("verify", folder.rename(tmp_path / "odd"), "--key", public)
    assert code == 1 and answer["failed"] == [STATEMENT, "signed/bom.cdx.json"]
    assert "gives no bill of materials: ValueError" in str(answer["checks"])
    code, answer = run("sign", tmp_path / "odd", "--key", private)
    assert code == 0 and "gives no bill of materials" in str(answer["not_made"])
    assert "calls the model ''" in str(answer["not_made"])
    assert run("verify", tmp_path / "odd", "--key", public)[0] == 0


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
    assert run("sign", folder / "runs" / "1", "--key", private)[0] == 0
    assert [path.name for path in (folder / "runs").iterdir()] == ["1"]
