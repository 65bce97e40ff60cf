"""What `koda verify` says of a clean audit, and that a change of one byte fails and names the file."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pikepdf
import pytest
from pypdf import PdfReader, PdfWriter
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.annotations import Statement
from koda.audit.redrawing import annotate
from koda.evidence.chained import StoredChain, check_audits
from koda.evidence.listed import check_listed
from koda.evidence.printed import check_reports
from koda.evidence.redrawn import DRAWN
from koda.evidence.verify import verify
from koda.records import AuditRecord
from koda.report import render
from koda.slicing.export import slices_csv
from koda.storage import ArtifactStore, digest_once
from koda.storage.database import AuditStore
from tests.audit.published import put, small_record
from tests.evidence.conftest import AUDIT, chain, change, flip, list_again, rows_of
from tests.holder import hold
from tests.report import factory
from tests.report.page import needs_pango

pytestmark = needs_pango


def told(*arguments: str | Path, home: Path | None = None) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(
        app,
        ["verify", "--json", *map(str, arguments)],
        env={"KODA_HOME": str(home or Path("/nonexistent-home"))},
    )
    return result.exit_code, json.loads(result.stdout)


def states(answer: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(check["name"], check["what"]): check["state"] for check in answer["checks"]}


def test_a_clean_audit_verifies_in_its_home(home: Path, folder: Path) -> None:
    code, answer = told(folder)
    assert code == 0 and answer["verified"] and answer["failed"] == []
    not_verified = {key for key, state in states(answer).items() if state == "not verified"}
    assert {name for name, _ in not_verified} == {"chain", "report.pdf", "signed/statement.dsse.json"}
    assert states(answer)["report.html", DRAWN] == "verified" and "a signature alone speaks for them" in str(answer)
    assert any("against its own author" in remark for remark in answer["cannot_know"])


def test_a_folder_alone_verifies_but_for_the_chain(folder: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copytree(folder, tmp_path / "alone"))
    code, answer = told(alone)
    assert code == 0
    assert [(check["name"], check["what"]) for check in answer["checks"] if check["state"] != "verified"] == [
        ("report.html", "its pictures"),
        ("report.pdf", "what its pages say"),
        ("signed/statement.dsse.json", "its signature, and the files that it names"),
        ("chain", "its rows"),
    ]
    assert states(answer)["report.html", DRAWN] == "verified"
    (alone / "report.pdf").unlink()
    list_again(alone)
    code, answer = told(alone)
    assert code == 0
    assert {check["name"] for check in answer["checks"] if check["state"] != "verified"} == {
        "chain",
        "report.html",
        "report.pdf",
        "signed/statement.dsse.json",
    }


def attach_another(folder: Path) -> None:
    """Write the PDF again, with another record attached, and list it."""
    writer = PdfWriter()
    for page in PdfReader(io.BytesIO((folder / "report.pdf").read_bytes())).pages:
        writer.add_page(page)
    data = bytearray((folder / "audit.json").read_bytes())
    data[-3] ^= 1
    writer.add_attachment("audit.json", bytes(data))
    out = io.BytesIO()
    writer.write(out)
    (folder / "report.pdf").write_bytes(out.getvalue())
    list_again(folder)


def attach_for_other_readers(folder: Path, key: str) -> None:
    """Leave the attached record as it is, and put another beside it for readers that look there, and list it."""
    with pikepdf.open(folder / "report.pdf", allow_overwriting_input=True) as pdf:
        forged = pdf.make_stream((folder / "audit.json").read_bytes().replace(b"{", b"{ ", 1))
        if key == "/FS":  # at a page
            names = {"/Type": pikepdf.Name.Filespec, "/F": "audit.json", "/EF": pikepdf.Dictionary({"/F": forged})}
            mark = {"/Type": pikepdf.Name.Annot, "/Subtype": pikepdf.Name.FileAttachment, "/Rect": [0, 0, 9, 9]}
            file = pdf.make_indirect(pikepdf.Dictionary(names))
            pdf.pages[0].Annots = pikepdf.Array([pikepdf.Dictionary({**mark, "/FS": file})])
        else:
            pdf.attachments["audit.json"].obj.EF[key] = forged
        pdf.save()
    list_again(folder)


def add_an_unlisted_page(folder: Path) -> None:
    """Lay a page of pictures in the folder that prints the digest of the record, and that nobody lists."""
    digest = digest_once(folder / "audit.json")
    (folder / "gallery-evil.html").write_text(f"<main>Other pictures. {digest}</main>", encoding="utf-8")


def other_verdict(folder: Path) -> None:
    """Let the record say another verdict, in all files that a program reads."""
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    status = "pass" if record.verdict.status != "pass" else "fail"
    verdict = record.verdict.model_copy(update={"status": status})
    (folder / "audit.json").write_bytes(record.model_copy(update={"verdict": verdict}).to_json().encode())
    raw = json.loads((folder / "verdict.json").read_bytes())
    (folder / "verdict.json").write_text(json.dumps({**raw, "verdict": status}), encoding="utf-8")
    list_again(folder)


def without_a_slice(folder: Path) -> None:
    lines = (folder / "slices.csv").read_bytes().splitlines(keepends=True)
    (folder / "slices.csv").write_bytes(b"".join([lines[0], *lines[2:]]))
    list_again(folder)


def of_another_digest(folder: Path) -> None:
    """Let the page print another digest of the record, and list it."""
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    other = record.model_copy(update={"title": "another"})
    render(other, factory.thumbnails(record), folder, pdf=False)
    list_again(folder)


def without_a_page_of_pictures(folder: Path) -> None:
    """Let the report lead to a page of pictures that neither the folder nor the manifest has."""
    page = (folder / "report.html").read_bytes()
    link = b'<a href="gallery-lost-1.html#positive">All pictures</a></main>'
    assert page.count(b"</main>") == 1
    (folder / "report.html").write_bytes(page.replace(b"</main>", link))
    list_again(folder)


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "record": (lambda folder: flip(folder / "audit.json"), {"audit.json"}),
    "report.html": (lambda folder: flip(folder / "report.html"), {"report.html"}),
    "report.pdf": (lambda folder: flip(folder / "report.pdf"), {"report.pdf"}),
    "slices": (lambda folder: flip(folder / "slices.csv"), {"slices.csv"}),
    "verdict": (lambda folder: flip(folder / "verdict.json"), {"verdict.json"}),
    "a space in the manifest": (lambda folder: change(folder / "manifest.json", b'": ', b'" :'), {"manifest.json"}),
    "a size in the manifest": (
        lambda folder: change(folder / "manifest.json", b'"size": ', b'"size":9'),
        {"manifest.json"},
    ),
    "attachment, listed": (attach_another, {"report.pdf"}),
    "attachment under its other name": (lambda folder: attach_for_other_readers(folder, "/UF"), {"report.pdf"}),
    "attachment under an old name": (lambda folder: attach_for_other_readers(folder, "/Mac"), {"report.pdf"}),
    "attachment at a page": (lambda folder: attach_for_other_readers(folder, "/FS"), {"report.pdf"}),
    "a page that nobody lists": (add_an_unlisted_page, {"gallery-evil.html"}),
    "a folder with the name of a page": (lambda folder: (folder / "gallery-x.html").mkdir(), {"gallery-x.html"}),
    "record and manifest": (other_verdict, {"report.html", "report.pdf", "chain"}),
    "slices and manifest": (without_a_slice, {"slices.csv"}),
    "a page of pictures and its line": (without_a_page_of_pictures, {"gallery-lost-1.html"}),
    "page and manifest": (of_another_digest, {"report.html"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_what_was_changed_fails_and_is_named(folder: Path, name: str) -> None:
    damage, files = DAMAGE[name]
    damage(folder)
    code, answer = told(folder)
    assert code == 1 and not answer["verified"]
    assert files <= set(answer["failed"]), answer["failed"]
    shown = CliRunner().invoke(app, ["verify", str(folder)]).stdout
    assert all(f"{file}: " in shown for file in files) and "FAILED" in shown


def add_to_pdf(folder: Path, what: str) -> None:
    """Add to the PDF what koda never puts there, written in one go, and list it."""
    with pikepdf.open(folder / "report.pdf", allow_overwriting_input=True) as pdf:
        script = pikepdf.Dictionary({"/S": pikepdf.Name.JavaScript, "/JS": "app.alert(1)"})
        if what == "attachment":
            pdf.attachments["other.json"] = b"{}"
        elif what == "note":
            note = {"/Type": pikepdf.Name.Annot, "/Subtype": pikepdf.Name.FreeText, "/Rect": [0, 0, 9, 9]}
            pdf.pages[1].Annots = pikepdf.Array([pikepdf.Dictionary(note)])
        elif what == "script of a page":
            pdf.pages[0].AA = pikepdf.Dictionary({"/O": script})
        elif what == "script after a link":
            place = pikepdf.Dictionary({"/S": pikepdf.Name.URI, "/URI": "https://example.org", "/Next": script})
            link = {"/Type": pikepdf.Name.Annot, "/Subtype": pikepdf.Name.Link, "/Rect": [0, 0, 9, 9], "/A": place}
            pdf.pages[1].Annots = pikepdf.Array([pikepdf.Dictionary(link)])
        elif what == "script of a bookmark":
            with pdf.open_outline() as outline:
                outline.root[0].children.append(pikepdf.OutlineItem("Title", action=script))
        elif what == "form":
            pdf.Root.AcroForm = pikepdf.Dictionary({"/Fields": pikepdf.Array([])})
        else:
            pdf.Root.OpenAction = script
        pdf.save()
    list_again(folder)


@pytest.mark.parametrize(
    "what", ["attachment", "note", "script of a page", "script after a link", "script of a bookmark", "form", "script"]
)
def test_what_was_added_to_the_pdf_fails(folder: Path, what: str) -> None:
    add_to_pdf(folder, what)
    checks = list(check_reports(folder, *whole(folder)))
    assert [check.name for check in checks if check.state == "FAILED"] == ["report.pdf"]
    assert "which koda puts in no report.pdf" in str(checks)


_HEAD = b"side,direction,lobe,rank,key,score,caption\r\n"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file is at hand that not even root can read")
@pytest.mark.parametrize("name", ["report.html", "report.pdf"])
def test_a_report_that_cannot_be_read_fails_and_the_rest_is_checked(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to("/proc/self/mem")
    code, answer = told(folder)
    assert code == 1 and answer["failed"] == ["manifest.json", name]
    assert states(answer)["slices.csv", "samples of the slices against the record"] == "verified"


def test_what_lies_after_the_end_of_the_pdf_fails(folder: Path) -> None:
    with (folder / "report.pdf").open("ab") as file:
        file.write(b"\n% a word more\n")
    list_again(folder)
    (check,) = [check for check in check_reports(folder, *whole(folder)) if check.state == "FAILED"]
    assert check.name == "report.pdf" and "something after its end" in check.why


def whole(folder: Path) -> tuple[bytes, AuditRecord]:
    data = (folder / "audit.json").read_bytes()
    return data, AuditRecord.from_json(data)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("slices.csv", b"a,b\r\n1,2\r\n", "it has no column side, direction, lobe, rank, key, score, caption"),
        ("slices.csv", _HEAD + b"lost,1\r\n", "line 2 has fewer cells than the first"),
        ("slices.csv", _HEAD + b"lost,x,positive,1,k,0.5,\r\n", "direction in line 2 is no number"),
        ("slices.csv", b"\xff\xfe\x00", "it is no text in UTF-8"),
        ("slices.csv", _HEAD + b'lost,"1', "it is no CSV"),
        ("slices.csv", b"", "it has no column"),
        ("verdict.json", b"x", "it holds no JSON"),
        ("verdict.json", b'{"verdict": "pass", "verdict": "fail"}', "a name stands twice in it"),
        ("verdict.json", b"[]", "it holds no object"),
        ("verdict.json", b"{}", "it has no version"),
    ],
)
def test_a_table_or_verdict_of_another_form_is_told_without_a_word_of_pythons(
    folder: Path, name: str, content: bytes, words: str
) -> None:
    (folder / name).write_bytes(content)
    (check,) = [each for each in check_listed(folder, whole(folder)[1]) if each.name == name]
    assert check.state == "FAILED" and words in check.why and "Error" not in check.why


def test_score_and_caption_of_a_shown_sample_are_those_of_the_record(folder: Path) -> None:
    record = whole(folder)[1]
    sample = record.findings[0].positive.samples[0]
    data = (folder / "slices.csv").read_bytes()
    for old, new, name in ((str(sample.score), "0.5", "score"), (str(sample.caption), "another", "caption")):
        assert old.encode() in data
        (folder / "slices.csv").write_bytes(data.replace(old.encode(), new.encode()))
        check = list(check_listed(folder, record))[1]
        assert check.state == "FAILED" and f"the {name} of the sample" in check.why


def test_a_caption_as_long_as_a_document_is_no_other_table(folder: Path) -> None:
    data, caption = (folder / "audit.json").read_text(encoding="utf-8"), "a document " * 15_000
    record = AuditRecord.from_json(re.sub(r'"caption": ?"[^"]*"', f'"caption": "{caption}"', data, count=1))
    assert caption in record.to_json()
    (folder / "slices.csv").write_bytes(slices_csv(rows_of(record), []))
    csv.field_size_limit(131_072)  # as a process has it that read no data set
    assert [check.state for check in check_listed(folder, record)][1] == "verified"


@pytest.mark.parametrize("change", ["twice", "moved", "turned round"])
def test_rows_of_the_slices_stand_once_and_in_their_order(folder: Path, change: str) -> None:
    head, *rows = (folder / "slices.csv").read_bytes().splitlines(keepends=True)
    changed = {"twice": [rows[0], *rows], "moved": [rows[1], rows[0], *rows[2:]], "turned round": rows[::-1]}
    (folder / "slices.csv").write_bytes(b"".join([head, *changed[change]]))
    check = list(check_listed(folder, whole(folder)[1]))[1]
    assert check.state == "FAILED" and "a row was taken out, put in or moved" in check.why


@pytest.mark.parametrize("key", ["title", "data", "rules", "ended", "policy_digest"])
def test_no_line_of_the_verdict_can_say_something_else_than_the_record(folder: Path, key: str) -> None:
    raw = json.loads((folder / "verdict.json").read_bytes())
    for changed in ({**raw, key: "other"}, {**raw, "more": 1}, {name: raw[name] for name in raw if name != key}):
        (folder / "verdict.json").write_text(json.dumps(changed), encoding="utf-8")
        first = next(iter(check_listed(folder, whole(folder)[1])))
        assert first.state == "FAILED" and (key in first.why or "more" in first.why)


DAMAGED_MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "former entries that are a text": lambda raw: raw.update(as_audited="x"),
    "former entries that are null": lambda raw: raw.update(as_audited=None),
    "a name that is too long": lambda raw: raw["files"].update({"a" * 5000: {"size": 1, "sha256": "0"}}),
    "a name with a NUL": lambda raw: raw["files"].update({"a\0b": {"size": 1, "sha256": "0"}}),
    "a name of half a character": lambda raw: raw["files"].update({"\ud800": {"size": 1, "sha256": "0"}}),
    "a digest that is none": lambda raw: raw["files"]["audit.json"].update(sha256=None),
    "files that are a list": lambda raw: raw.update(files=[]),
    "an id that is a number": lambda raw: raw.update(audit=3),
}


@pytest.mark.parametrize("name", DAMAGED_MANIFESTS)
def test_a_manifest_of_another_form_fails_in_words(tmp_path: Path, name: str) -> None:
    folder = put(tmp_path / "home", small_record())
    raw = json.loads((folder / "manifest.json").read_bytes())
    DAMAGED_MANIFESTS[name](raw)
    (folder / "manifest.json").write_text(json.dumps(raw, indent=2, sort_keys=True), encoding="utf-8")
    checks = verify(folder).checks
    assert any(check.state == "FAILED" for check in checks) and "Error" not in str(checks)


@pytest.mark.parametrize("name", ["report.html", "report.pdf", "signed/report.pdf"])
def test_a_file_that_may_not_be_read_fails_by_its_name(tmp_path: Path, name: str) -> None:
    folder = put(tmp_path / "home", small_record())
    (folder / "signed").mkdir()
    for each in ("report.pdf", "signed/report.pdf"):
        (folder / each).write_bytes(b"%PDF")
    opened = Path.open

    def as_one_who_may_not(path: Path, *arguments: Any, **more: Any) -> Any:
        if path in (folder / name, folder.resolve() / name):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **more)

    with pytest.MonkeyPatch.context() as patch:  # root may read all
        patch.setattr(Path, "open", as_one_who_may_not)
        checks = verify(folder).checks
    why = {check.why for check in checks if check.state == "FAILED" and check.name == name}
    assert any("cannot be read: you may not read it; change its permissions, or its owner" in each for each in why)


def sql(home: Path, text: str) -> None:
    with duckdb.connect(str(home / "koda.duckdb")) as connection:
        connection.execute(text)


@pytest.mark.parametrize(
    "text",
    [
        "UPDATE chain SET record_digest = replace(record_digest, '0', '1') WHERE seq = 2",
        "UPDATE chain SET ended = 'x' WHERE seq = 1",
        "UPDATE chain SET digest = replace(digest, '0', '1') WHERE seq = 3",
        "DELETE FROM chain WHERE seq = 1",
    ],
)
def test_a_changed_row_of_the_chain_fails(home: Path, folder: Path, text: str) -> None:
    sql(home, text)
    for answer in (told(folder), told("--chain", home=home)):
        assert answer[0] == 1 and "chain" in answer[1]["failed"]


@pytest.mark.parametrize("damage", ["no table", "no database", "another file"])
def test_a_chain_that_is_gone_while_its_head_is_there_fails(home: Path, folder: Path, damage: str) -> None:
    if damage == "no table":
        sql(home, "DROP TABLE chain")
    elif damage == "no database":
        (home / "koda.duckdb").unlink()
    else:
        (home / "koda.duckdb").write_bytes(b"no database" * 1000)
    for answer in (told(folder), told("--chain", home=home)):
        assert answer[0] == 1 and set(answer[1]["failed"]) <= {"chain", "chain-head.json"}


def test_a_chain_that_cannot_be_read_is_no_chain_that_was_checked(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koda.storage.connection.PATIENCE_SECONDS", 0.2)
    holder = hold(home / "koda.duckdb")
    try:
        code, answer = told("--chain", home=home)
        assert code == 3 and "The chain cannot be checked" in answer["error"] and "is open in" in answer["error"]
        code, answer = told(folder)  # of which all else can be
        assert code == 0 and states(answer)["chain", "audit.json against its row"] == "not verified"
    finally:
        holder.kill()
        holder.wait()


def test_a_manifest_leads_back_to_the_one_that_the_chain_has(home: Path, folder: Path) -> None:
    against = ("chain", "audit.json against its row")
    annotate(home, str(folder), Statement("reviewed", "A Reviewer"))
    assert states(told(folder)[1])[against] == "verified"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    assert manifest["as_audited"]["report.html"]["sha256"] != manifest["files"]["report.html"]["sha256"]
    manifest["as_audited"]["report.html"]["sha256"] = "0" * 64  # as if the audit had written another report
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, sort_keys=True), encoding="utf-8")
    code, answer = told(folder)
    assert code == 0 and states(answer)[against] == "not verified"


def test_an_audit_in_the_folder_of_another_fails(home: Path, folder: Path) -> None:
    shutil.rmtree(home / "audits" / "audit-1")
    folder.rename(home / "audits" / "audit-1")
    code, answer = told("audit-1", home=home)
    assert code == 1 and answer["failed"] == ["chain"]
    assert f"the folder is that of audit-1, and the record in it that of {AUDIT}" in str(answer["checks"])
    shutil.copytree(home / "audits" / "audit-1", home / "audits" / "a copy")  # which stands for no other audit
    assert told(home / "audits" / "a copy")[0] == 0


def test_a_cut_tail_fails_against_the_exported_head(home: Path, folder: Path, tmp_path: Path) -> None:
    code, answer = told("--chain", home=home)
    assert code == 0 and answer["head"]["seq"] == 3
    kept = tmp_path / "kept.json"
    for form in (answer["head"], answer):  # the answer holds it
        kept.write_text(json.dumps(form), encoding="utf-8")
        assert told("--chain", "--head", kept, home=home)[0] == 0
    sql(home, "DELETE FROM chain WHERE seq = 3")
    (home / "chain-head.json").unlink()
    code, answer = told("--chain", home=home)
    assert code == 1 and "the database holds audit-3, of which the chain has no row" in str(answer["checks"])
    sql(home, "DELETE FROM audits WHERE id = 'audit-3'")
    code, answer = told("--chain", home=home)  # what is left of it is its folder
    assert code == 0 and "has audit-3, of which it has no row" in str(answer["checks"])
    assert states(answer)["chain-head.json", "the chain's head in the home"] == "not verified"
    shutil.rmtree(home / "audits" / "audit-3")
    assert told("--chain", home=home)[0] == 0  # what is taken out everywhere leaves no trace but in a head
    code, answer = told("--chain", "--head", kept, home=home)
    assert code == 1 and "its tail is cut" in str(answer["checks"])
    assert told(folder, "--head", kept)[0] == 1


def test_an_audit_that_is_being_stored_is_no_failure_of_the_chain_and_one_that_was_just_stored_neither(
    home: Path, folder: Path
) -> None:
    record = factory.record(1, map_points=0, id="audit-3")
    newer, place = record.model_copy(update={"title": "another"}), home / "audits" / "audit-3" / "audit.json"
    before = StoredChain.read(home)
    place.write_bytes(newer.to_json().encode())
    with ArtifactStore(home / "artifacts").lock("audits", "audit-3"):
        (check,) = check_audits(before)
        assert check.state == "not verified" and "audit-3 is being stored or drawn again now" in check.why
        shutil.rmtree(home / "audits" / "audit-1")
        first, second = check_audits(before)
        assert first.state == "FAILED" and "audit-1" in first.why and "audit-3" not in first.why
        assert second.state == "not verified"
    shutil.rmtree(home / "artifacts" / "locks")
    chain(home, factory.record(1, map_points=0, id="audit-1"))
    (check,) = check_audits(before)
    assert check.state == "FAILED" and "of audit-3 it names another record" in check.why
    chain(home, newer)
    assert [check.state for check in check_audits(before)] == ["verified"]  # though it was read before that


def test_the_chain_grows_with_each_new_record_and_no_other(home: Path) -> None:
    def rows() -> list[dict[str, Any]]:
        return AuditStore(home).query("SELECT seq, kind, audit_id, previous FROM chain ORDER BY seq")

    store = AuditStore(home)
    same = factory.record(1, map_points=0, id="audit-3")
    for record in (same, same.model_copy(update={"title": "another"})):
        chain(home, record)
    assert [row["audit_id"] for row in rows()] == ["audit-1", AUDIT, "audit-3", "audit-3"]
    before = json.loads((home / "chain-head.json").read_bytes())
    store.set_aside()
    chain(home, same)
    assert [row["kind"] for row in rows()] == ["rebuilt", "audit"]
    assert rows()[0]["previous"] == before["digest"]
    assert told("--chain", home=home)[0] == 0


def test_a_head_of_before_a_rebuild_is_known_again(home: Path, tmp_path: Path) -> None:
    kept, older = tmp_path / "kept.json", tmp_path / "older.json"
    kept.write_text(json.dumps(told("--chain", home=home)[1]["head"]), encoding="utf-8")
    first = AuditStore(home).query("SELECT seq, digest, audit_id FROM chain WHERE seq = 1")[0]
    older.write_text(json.dumps(first), encoding="utf-8")
    AuditStore(home).set_aside()
    chain(home, factory.record(1, map_points=0, id="audit-1"))
    code, answer = told("--chain", "--head", kept, home=home)  # its own audit, audit-3, is gone
    assert code == 1 and "lacks the head's own audit, audit-3" in str(answer["checks"])
    chain(home, factory.record(1, map_points=0, id="audit-3"))
    code, answer = told("--chain", "--head", kept, home=home)
    assert code == 0 and states(answer)["chain", "its head, as kept elsewhere"] == "not verified"
    assert "begun anew after this head" in str(answer["checks"])
    code, answer = told("--chain", "--head", older, home=home)
    assert code == 1 and "older than that" in str(answer["checks"])


def test_an_older_home_begins_its_chain_with_the_audits_that_are_there(home: Path) -> None:
    sql(home, "DELETE FROM chain")
    (home / "chain-head.json").unlink()
    chain(home, factory.record(1, map_points=0, id="audit-4"))
    rows = AuditStore(home).query("SELECT audit_id FROM chain ORDER BY seq")
    assert sorted(row["audit_id"] for row in rows[:3]) == ["audit-1", "audit-3", AUDIT]
    assert rows[3]["audit_id"] == "audit-4"


def test_what_is_no_head_or_no_question_is_said_in_words(home: Path, tmp_path: Path) -> None:
    (tmp_path / "head.json").write_text("[]", encoding="utf-8")
    code, answer = told("--chain", "--head", tmp_path / "head.json", home=home)
    assert code == 2 and "not the head of a chain" in answer["error"]
    assert told(home=home)[0] == 2 and told("--chain", AUDIT, home=home)[0] == 2
    assert told("--chain", home=tmp_path / "empty")[0] == 0


def test_what_people_said_is_checked_by_its_own_chain(home: Path, folder: Path) -> None:
    annotate(home, str(folder), Statement("reviewed", "A Reviewer"))
    code, answer = told(folder)
    assert answer["failed"] == []
    assert states(answer)["annotations.json", "its chain, and that it is about this record"] == "verified"
    written = (folder / "annotations.json").read_bytes()
    for old, new in ((b"A Reviewer", b"B Reviewer"), (b'": ', b'" :')):
        (folder / "annotations.json").write_bytes(written)
        change(folder / "annotations.json", old, new)
        list_again(folder)
        code, answer = told(folder)
        assert code == 1 and answer["failed"] == ["annotations.json"]


def test_what_hangs_on_a_damaged_record_is_named_and_not_passed_over(folder: Path) -> None:
    (folder / "audit.json").write_bytes(b"{")
    code, answer = told(folder)
    unsure = {check["name"] for check in answer["checks"] if check["state"] == "not verified"}
    assert code == 1 and unsure == {
        *("verdict.json", "slices.csv", "report.html", "report.pdf", "chain", "signed/statement.dsse.json")
    }


@pytest.mark.parametrize("damage", ["folder", "record", "all of it"])
def test_an_audit_that_was_taken_away_is_missed_by_the_chain(home: Path, damage: str) -> None:
    folder = home / "audits" / "audit-1"
    if damage == "record":
        folder.joinpath("audit.json").write_bytes(
            factory.record(1, map_points=0, id="audit-1", title="x").to_json().encode()
        )
    else:
        shutil.rmtree(folder)
    if damage == "all of it":
        sql(home, "DELETE FROM audits WHERE id = 'audit-1'")
    code, answer = told("--chain", home=home)
    words = "of audit-1 it names another record" if damage == "record" else "it names audit-1, of which"
    assert code == 1 and answer["failed"] == ["chain"] and words in str(answer["checks"])


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"{")])
def test_a_manifest_that_is_gone_or_damaged_fails(folder: Path, damage: Callable[[Path], object]) -> None:
    damage(folder / "manifest.json")
    code, answer = told(folder)
    assert code == 1 and answer["failed"] == ["manifest.json"]


def test_files_that_nothing_lists_are_named(folder: Path) -> None:
    (folder / "extra.txt").write_text("x")
    (folder / ".hidden").write_text("x")
    for place in ("runs/1", "runs/2", "final"):  # of which the second is a former run
        (folder / place).mkdir(parents=True)
        (folder / place / "report.html").write_text("x")
    (folder / "runs/2/manifest.json").write_text("{}")
    code, answer = told(folder)
    (check,) = [check for check in answer["checks"] if check["name"] == "other files"]
    assert code == 0 and check["state"] == "not verified" and ".hidden, extra.txt, final, runs/1:" in check["why"]


def test_weights_are_looked_at_with_a_key_only(folder: Path) -> None:
    code, answer = told(folder, "--weights", "candidate=somewhere.pt")
    assert code == 2 and "Give --key" in answer["error"]
