"""What lies in `signed/` beside the statement: the signed PDF, the manifests of weights, the bill of materials."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from model_signing import verifying
from model_signing._signing import sign_sigstore_pb
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigFieldSpec, append_signature_field
from safetensors.numpy import save_file
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.folders import AUDITS
from koda.evidence.bom import bom_of, check_bom
from koda.evidence.keys import private_key, public_key
from koda.evidence.signed_pdf import check_signed_pdf
from koda.evidence.statement import check_statement, signed_statement
from koda.evidence.weights import check_weights, how_to_say_where, sign_weights
from koda.records import AuditRecord
from koda.typing import Role
from tests.evidence.conftest import AUDIT, change, flip, key_pair, list_again, run
from tests.report.page import needs_pango

pytestmark = needs_pango
STATEMENT, BOM, PDF = "signed/statement.dsse.json", "signed/bom.cdx.json", "signed/report.pdf"
WEIGHTS, OTHER_WEIGHTS = "signed/weights-candidate.sig", "signed/weights-baseline.sig"


def certificate(private: Path, days: int = 36_500) -> Path:
    """Write a certificate that a key gives itself, from the year 2020 on."""
    key = private_key(private)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "A. Auditor")])
    start = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=days))
    kind = hashes.SHA256() if "own" in private.name else None  # an Ed25519 key brings its own
    path = private.with_suffix(".crt")
    path.write_bytes(made.sign(key, kind).public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="module")
def signed(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One signed audit, with its keys and weights beside it."""
    place = tmp_path_factory.mktemp("signed")
    shutil.copytree(drawn / AUDITS / AUDIT, place / "audit")
    shutil.copytree(drawn.parent / "weights", place / "weights")
    private, _ = key_pair(place, "own")
    code, answer = run(
        "sign", place / "audit", "--key", private, "--certificate", certificate(private),
        "--weights", f"candidate={place / 'weights'}",
    )  # fmt: skip
    assert code == 0 and list(answer["not_made"]) == [OTHER_WEIGHTS]  # type: ignore[call-overload]
    assert "names no file" in str(answer["not_made"])
    return place


@pytest.fixture
def place(signed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(signed, tmp_path / "place"))


def told(place: Path, *more: str | Path) -> tuple[dict[tuple[str, str], str], list[str], str]:
    """Return what verification says: the states, the names of what failed, and all of it as text."""
    _, answer = run("verify", place / "audit", "--key", place / "own.pub.pem", *more)
    states = {(check["name"], check["what"]): check["state"] for check in answer["checks"]}  # type: ignore[attr-defined]
    return states, answer["failed"], json.dumps(answer)  # type: ignore[return-value]


def test_what_was_signed_verifies_and_the_report_stays_as_it_is(place: Path, drawn: Path) -> None:
    states, failed, _ = told(place, "--weights", f"candidate={place / 'weights'}")
    assert failed == []
    of_files = {name: {state for (each, _), state in states.items() if each == name} for name, _ in states}
    assert all(of_files[name] == {"verified"} for name in (STATEMENT, BOM, PDF, WEIGHTS))
    report = (drawn / AUDITS / AUDIT / "report.pdf").read_bytes()
    assert (place / "audit/report.pdf").read_bytes() == report
    assert (place / "audit" / PDF).read_bytes().startswith(report)


def test_without_key_or_weights_nothing_fails_and_each_says_why(place: Path) -> None:
    code, answer = run("verify", place / "audit")
    assert code == 0 and str(answer).count("no key was given") == 3
    states, failed, text = told(place)
    assert failed == [] and states[WEIGHTS, "the weights themselves"] == "not verified"
    assert "they are not here" in text


@pytest.mark.parametrize("name", [STATEMENT, BOM, PDF, WEIGHTS])
def test_one_changed_byte_fails_and_names_the_file(place: Path, name: str) -> None:
    flip(place / "audit" / name)
    assert {name, STATEMENT} == set(told(place)[1])  # the statement names all of them


@pytest.mark.parametrize("name", [STATEMENT, BOM, WEIGHTS])
def test_no_byte_of_a_signed_file_can_change_unseen(place: Path, name: str) -> None:
    folder, key = place / "audit", public_key(place / "own.pub.pem")
    data = (folder / "audit.json").read_bytes()
    record = AuditRecord.from_json(data)

    def state() -> str:
        if name == WEIGHTS:
            return next(each.state for each in check_weights(folder, record, key, {}) if each.name == name)
        check = check_bom(folder, data, record) if name == BOM else check_statement(folder, record, key)
        return check.state

    whole = (folder / name).read_bytes()
    assert state() == "verified"
    for at in range(0, len(whole), 1 + len(whole) // 40):
        (folder / name).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert state() == "FAILED", at


def test_no_byte_of_the_signed_pdf_can_change_unseen(place: Path) -> None:
    folder, key = place / "audit", public_key(place / "own.pub.pem")
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    whole, begins = (folder / PDF).read_bytes(), (folder / "report.pdf").stat().st_size
    assert check_signed_pdf(folder, key).state == "verified"
    start = whole.index(b"/Contents <", begins) + len(b"/Contents <")
    end = whole.index(b">", start)
    digit = next(at for at in range(start + 200, end) if whole[at : at + 1].isalpha())
    covered = [5, begins // 2, *range(begins, start, 600), end - 1, *range(end, len(whole), 150)]
    for at, bit in [*((at, 1) for at in covered), (digit, 0x20)]:  # the last: a digit of the signature in lower case
        (folder / PDF).write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
        assert check_signed_pdf(folder, key).state == "FAILED", at
    for at in range(start, start + 120, 20):  # versions and names of algorithms, which nothing in a PDF signs
        (folder / PDF).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        checks = [check_signed_pdf(folder, key), check_statement(folder, record, key)]
        assert any(check.state == "FAILED" and PDF in check.in_words() for check in checks), at
    (folder / PDF).write_bytes(whole + b"\n% more\n")
    assert check_signed_pdf(folder, key).state == "FAILED"
    (folder / PDF).write_bytes((folder / "report.pdf").read_bytes())
    assert "0 signatures" in check_signed_pdf(folder, key).why


def test_a_signature_of_a_kind_that_is_refused_is_said_in_a_line_alone(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = place / "audit" / PDF
    before, found, after = path.read_bytes().rpartition(b"06082A8648CE3D040302")  # ECDSA with SHA-256
    path.write_bytes(before + found[:-1] + b"3" + after)  # of SHA-384
    caplog.set_level(logging.INFO, "pyhanko")
    check = check_signed_pdf(place / "audit", public_key(place / "own.pub.pem"))
    assert check.state == "FAILED" and "changed after it was signed" in check.why
    assert caplog.records == [] and logging.getLogger("pyhanko").level == logging.INFO


@pytest.mark.parametrize("missing", ["pyhanko", "cyclonedx"])
def test_a_missing_package_leaves_out_its_own_check_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)  # as Python says that there is none
    states, failed, text = told(place)
    left_out = PDF if missing == "pyhanko" else BOM
    assert failed == [] and f"{missing} missing (pip install" in text
    for name in (STATEMENT, BOM, PDF, WEIGHTS):
        first = next(state for (each, _), state in states.items() if each == name)
        assert first == ("not verified" if name == left_out else "verified")
    assert f"{missing} missing" in str(run("sign", place / "audit", "--key", place / "own.pem")[1]["error"])


def test_a_key_that_can_be_read_once_alone_signs_all(place: Path) -> None:
    """As a shell hands it over with `--key <(pass show key)`."""
    end, start = os.pipe()
    with os.fdopen(end), os.fdopen(start, "wb") as file:
        file.write((place / "own.pem").read_bytes())
        file.close()
        weights = ["--weights", f"candidate={place / 'weights'}"]
        code, answer = run("sign", place / "audit", "--key", f"/dev/fd/{end}", *weights)
    assert code == 0, answer
    states, failed, _ = told(place, *weights)
    assert failed == [] and states[WEIGHTS, "the weights themselves"] == "verified"


def test_a_manifest_of_weights_that_koda_would_not_know_again_is_not_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another release of model-signing may write it."""
    record = AuditRecord.from_json((place / "audit/audit.json").read_bytes())
    monkeypatch.setattr(sign_sigstore_pb, "_BUNDLE_MEDIA_TYPE", "application/vnd.dev.sigstore.bundle+json;version=0.3")
    why = sign_weights(place / "new.sig", record.candidate, private_key(place / "own.pem"), place / "weights")
    assert why is not None and "does not know again what model-signing" in why
    assert not (place / "new.sig").exists()


def test_signatures_of_another_key_fail(place: Path) -> None:
    _, public = key_pair(place, "another")
    code, answer = run("verify", place / "audit", "--key", public)
    assert code == 1 and set(answer["failed"]) == {STATEMENT, PDF, WEIGHTS}  # type: ignore[call-overload]


def test_model_signing_itself_accepts_the_manifest_of_weights(place: Path) -> None:
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=place / "own.pub.pem")
    verifier.verify(place / "weights", place / "audit" / WEIGHTS)
    flip(place / "weights" / "model.safetensors")
    with pytest.raises(ValueError, match="Hash mismatch"):
        verifier.verify(place / "weights", place / "audit" / WEIGHTS)


def test_weights_that_changed_since_they_were_signed_fail(place: Path) -> None:
    given = ["--weights", f"candidate={place / 'weights'}"]
    flip(place / "weights" / "model.safetensors")
    states, failed, text = told(place, *given)
    assert failed == [WEIGHTS] and "was changed since it was signed" in text
    assert states[WEIGHTS, "its signature, over the weights of the record"] == "verified"
    (place / "weights" / "model.safetensors").unlink()
    assert told(place, *given)[1] == [WEIGHTS]
    assert run("verify", place / "audit", "--weights", "other=x")[0] == 2


def test_the_manifest_of_another_models_weights_fails(place: Path) -> None:
    """A signature that holds is moved to where one is missing."""
    shutil.copyfile(place / "audit" / WEIGHTS, place / "audit" / OTHER_WEIGHTS)
    _, failed, text = told(place)
    assert failed == [OTHER_WEIGHTS] and "of other weights than those of the record" in text


def test_weights_in_shards_behind_links_are_signed_with_their_index(place: Path, tmp_path: Path) -> None:
    """As a hub's cache has them: names that lead to files of other names."""
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    cache, blobs = tmp_path / "cache", tmp_path / "blobs"
    cache.mkdir()
    blobs.mkdir()
    for number, name in enumerate(names):
        (cache / name).symlink_to(f"../blobs/{number}")
    save_file({"visual.proj": np.arange(64, dtype=np.float32)}, blobs / "0")
    save_file({"logit_scale": np.ones(1, np.float32)}, blobs / "1")  # together the tensors of the audit's weights
    (blobs / "2").write_text(json.dumps({"weight_map": {"visual.proj": names[0], "logit_scale": names[1]}}))
    given = ["--weights", f"candidate={cache}"]
    private, _ = key_pair(place, "own", password="a password")  # told() reads its public half
    arguments = ["sign", place / "audit", "--key", private, "--password-env", "KEY_PASSWORD", *given]
    assert run(*arguments, KEY_PASSWORD="a password")[0] == 0
    states, failed, _ = told(place, *given)
    assert failed == [] and states[WEIGHTS, "the weights themselves"] == "verified"
    _, failed, text = told(place, "--weights", f"candidate={place / 'weights'}")
    assert failed == [WEIGHTS] and f"other files than {', '.join(names)}" in text
    flip(blobs / "1")
    assert "model-00002-of-00002.safetensors was changed" in told(place, *given)[2]


def test_weights_in_the_cache_of_the_hub_are_found(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    snapshot = tmp_path / "hub/models--a-team--a-model/snapshots/0f"
    shutil.copytree(place / "weights", snapshot)
    (tmp_path / "hub/models--a-team--a-model/refs").mkdir()
    (tmp_path / "hub/models--a-team--a-model/refs/main").write_text("0f")
    record = AuditRecord.from_json((place / "audit/audit.json").read_bytes())
    for name, found in (("hf-hub:a-team/a-model", True), ("hf-hub:a-team/another", False), ("hf-hub:no/na/me", False)):
        names = {"name": name, "pretrained": None, "weights_file": "model.safetensors"}
        from_hub = record.model_copy(update={"candidate": record.candidate.model_copy(update=names)})
        _, files = [
            check
            for check in check_weights(place / "audit", from_hub, public_key(place / "own.pub.pem"), {})
            if check.name == WEIGHTS
        ]
        assert files.state == ("verified" if found else "not verified"), files


def test_what_names_no_file_has_no_weights_to_point_at(place: Path) -> None:
    record = AuditRecord.from_json((place / "audit/audit.json").read_bytes())
    model = record.candidate.model_copy(update={"name": "embeddings:/somewhere"})
    why = sign_weights(place / "none.sig", model, private_key(place / "own.pem"), None)
    assert why is not None and "no file of their own" in why and how_to_say_where("candidate", why) == ""
    model = record.candidate.model_copy(update={"pretrained": f"/{'x' * 5000}"})
    assert "cannot be looked at" in str(sign_weights(place / "none.sig", model, private_key(place / "own.pem"), None))
    assert not (place / "none.sig").exists()


def test_people_read_what_was_made_what_was_not_and_what_came_of_it(place: Path) -> None:
    def shown(*arguments: str | Path) -> str:
        environment = {"COLUMNS": "80", "KODA_HOME": "/nonexistent"}
        return CliRunner().invoke(app, [*map(str, arguments)], env=environment).stdout

    audit = (place / "audit").rename(place / "an audit")
    made = shown("sign", audit, "--key", place / "own.pem")
    line = f"koda verify '{audit}' --key PUBLIC"  # a long path is broken anywhere
    assert "".join(line.split()) in "".join(made.split())
    assert "✓ statement.dsse.json: the verdict, signed" in made
    assert "– report.pdf: not made, because no certificate" in made
    checked = shown("verify", audit, "--key", place / "own.pub.pem")
    assert "report.html, report.pdf, slices.csv, verdict.json: unchanged" in checked
    assert "✓ nothing failed (" in checked
    flip(audit / BOM)
    failed = shown("verify", audit, "--key", place / "own.pub.pem")
    assert f"✕ {STATEMENT}, {BOM}: FAILED (" in failed


def test_other_weights_than_the_audits_are_not_signed(place: Path) -> None:
    before = {path.name: path.read_bytes() for path in (place / "audit/signed").iterdir()}
    change(place / "weights" / "model.safetensors", b"\x00\x00\x80?", b"\x00\x00\x90?")
    arguments = ["sign", place / "audit", "--key", place / "own.pem", "--weights", f"candidate={place / 'weights'}"]
    code, answer = run(*arguments)
    assert code == 2 and "other weights than the audit looked at" in str(answer["error"])
    assert {path.name: path.read_bytes() for path in (place / "audit/signed").iterdir()} == before
    assert [path.name for path in (place / "audit").iterdir() if path.is_dir()] == ["signed"]


def test_a_certificate_has_to_be_the_keys_own(place: Path) -> None:
    arguments = ["sign", place / "audit", "--key", place / "own.pem", "--certificate"]
    another, _ = key_pair(place, "another-own")
    assert "is of the key" in str(run(*arguments, certificate(another))[1]["error"])
    assert "no certificate that can be read" in str(run(*arguments, place / "own.pem")[1]["error"])
    assert "2020-01-01 to 2020-01-31" in str(run(*arguments, certificate(place / "own.pem", 30))[1]["error"])
    assert told(place)[1] == []


def test_an_ed25519_key_signs_the_pdf_with_a_word_of_warning(place: Path) -> None:
    private, public = key_pair(place, "edwards", "ed25519")
    code, answer = run("sign", place / "audit", "--key", private, "--certificate", certificate(private))
    assert code == 0 and "few readers of PDF know" in str(answer["notes"])
    assert set(answer["not_made"]) == {WEIGHTS, OTHER_WEIGHTS}  # type: ignore[call-overload]
    weights = f"candidate={place / 'weights'}"
    code, answer = run("sign", place / "audit", "--key", private, "--weights", weights)
    assert code == 2 and "takes no Ed25519 key" in str(answer["error"])  # asked for, and not to be had
    code, answer = run("verify", place / "audit", "--key", public)
    assert (
        code == 0
        and {"name": PDF, "state": "verified"}.items()
        <= next(
            check
            for check in answer["checks"]  # type: ignore[attr-defined]
            if check["name"] == PDF
        ).items()
    )
    assert run("sign", place / "audit", "--key", private)[0] == 0
    assert not (place / "audit" / PDF).exists()  # what was not made again is not left from before


def why_none(place: Path, key: Path) -> str:
    """Return what verification says of the weights of the candidate, of which there is no manifest."""
    record = AuditRecord.from_json((place / "audit/audit.json").read_bytes())
    return next(
        each.why for each in check_weights(place / "audit", record, public_key(key), {}) if each.name == WEIGHTS
    )


def test_why_there_is_no_manifest_of_weights_is_said_of_this_audit(place: Path) -> None:
    folder, public = place / "audit", place / "own.pub.pem"
    (folder / WEIGHTS).unlink()
    assert "the statement names one, and it is missing" in why_none(place, public)
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    for kind, words in (("p256", "were not at hand"), ("ed25519", "was signed with an Ed25519 key")):
        private, public = key_pair(place, f"own-{kind}", kind)
        (folder / STATEMENT).write_bytes(signed_statement(folder, record, private_key(private), []))
        assert words in why_none(place, public)
    model = record.candidate.model_copy(update={"name": "embeddings:/somewhere"})
    stored = record.model_copy(update={"candidate": model})
    whys = [each.why for each in check_weights(folder, stored, public_key(public), {}) if each.name == WEIGHTS]
    assert "have no file of their own" in whys[0]
    (folder / STATEMENT).unlink()
    assert "no statement that can be read" in why_none(place, public)


def test_weights_that_nobody_signed_are_compared_with_the_record(place: Path) -> None:
    (place / "audit" / WEIGHTS).unlink()
    record = AuditRecord.from_json((place / "audit/audit.json").read_bytes())

    def state() -> str:
        places: dict[Role, Path] = {"candidate": place / "weights"}
        checks = check_weights(place / "audit", record, public_key(place / "own.pub.pem"), places)
        return next(each.state for each in checks if each.what == "the weights themselves, against the record")

    assert state() == "verified"
    change(place / "weights" / "model.safetensors", b"\x00\x00\x80?", b"\x00\x00\x90?")
    assert state() == "FAILED"
    shutil.rmtree(place / "weights")
    assert state() == "FAILED"


def test_a_signature_field_that_nothing_signs_fails_by_the_name_of_its_pdf(place: Path) -> None:
    folder, key = place / "audit", public_key(place / "own.pub.pem")
    for name in (PDF, "report.pdf"):
        writer = IncrementalPdfFileWriter(io.BytesIO((folder / name).read_bytes()))
        append_signature_field(writer, SigFieldSpec("Second"))
        out = io.BytesIO()
        writer.write(out)
        (folder / name).write_bytes(out.getvalue())
        if name == PDF:
            check = check_signed_pdf(folder, key)
            assert check.state == "FAILED" and "1 signature field that nothing signs" in check.why
    list_again(folder)
    code, answer = run("verify", folder)
    assert code == 1 and "report.pdf" in str(answer["failed"]) and "it holds changes" in str(answer["checks"])
    assert "signature fields, marks on pages (Widget), which koda puts in no report.pdf" in str(answer["checks"])


def test_a_statement_of_an_older_koda_still_verifies(place: Path) -> None:
    folder = place / "audit"
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    alone = signed_statement(folder, record, private_key(place / "own.pem"), [])
    shutil.rmtree(folder / "signed")
    (folder / "signed").mkdir()
    (folder / STATEMENT).write_bytes(alone)
    states, failed, _ = told(place)
    assert failed == [] and states[STATEMENT, "its signature, and the files that it names"] == "verified"


def test_what_the_statement_names_cannot_be_taken_away(place: Path) -> None:
    (place / "audit" / PDF).unlink()
    _, failed, text = told(place)
    assert failed == [STATEMENT] and f"it names {PDF}, which is missing" in text


def test_the_bill_of_materials_is_valid_and_says_what_the_record_does(place: Path) -> None:
    folder = place / "audit"
    data = (folder / "audit.json").read_bytes()
    record = AuditRecord.from_json(data)
    written = (folder / BOM).read_bytes()
    assert written == bom_of(data, record) == bom_of(data, record)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(written.decode()) is None
    raw = json.loads(written)
    components = {component["bom-ref"]: component for component in raw["components"]}
    assert components["candidate"]["type"] == components["baseline"]["type"] == "machine-learning-model"
    stated = {entry["name"]: entry["value"] for entry in components["candidate"]["properties"]}
    assert stated["koda:weights_digest"] == record.candidate.weights_digest
    figures = components["candidate"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    rules = [rule for rule in record.verdict.rules if rule.observed is not None]
    assert {f"{rule.figure} ({rule.result})" for rule in rules} <= {figure["type"] for figure in figures}
    assert components["data"]["type"] == "data"
    assert {f"pkg {name}" for name in record.provenance.packages} <= set(components)
    assert raw["metadata"]["timestamp"].startswith(record.ended.strftime("%Y-%m-%dT%H:%M"))


def test_a_bill_of_materials_of_another_koda_is_no_failure(place: Path) -> None:
    folder = place / "audit"
    data = (folder / "audit.json").read_bytes()
    raw = json.loads((folder / BOM).read_bytes())
    raw["metadata"]["tools"]["components"][0]["version"] = "99.0"
    (folder / BOM).write_text(json.dumps(raw), encoding="utf-8")
    check = check_bom(folder, data, AuditRecord.from_json(data))
    assert check.state == "not verified" and "99.0" in check.why
    assert told(place)[1] == [STATEMENT]  # which names it
