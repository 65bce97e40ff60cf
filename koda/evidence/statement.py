"""A signed statement of an audit's verdict: an in-toto test result over its files, in a DSSE envelope.

It also names what else lies in `signed/`: the bill of materials, the signed PDF, the manifests of weights.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from koda.audit.folders import ANNOTATIONS, FORMER_SIGNED, HTML, MANIFEST, RECORD, SIGNED
from koda.errors import ConfigError, reason_of
from koda.evidence.keys import NO_KEY, OTHER_KEY
from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.storage import digest_file

STATEMENT = f"{SIGNED}/statement.dsse.json"
OVER_FILES = "its signature, and the files that it names"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
_ED25519_BYTES = 64  # of a signature; those of ECDSA are longer, in another form
_AGAIN = "where all else verifies, sign it again with koda sign"
_PUTS_BACK = "koda sign, koda report and koda annotate put it back"
_RESULTS = {"pass": "PASSED", "fail": "FAILED"}  # the predicate knows no other but WARNED


def signed_statement(folder: Path, record: AuditRecord, key: Any, beside: Sequence[Path]) -> bytes:
    """Return the signed statement of an audit.

    Args:
        folder: of the audit.
        record: of the audit.
        key: the private key.
        beside: what is to lie in `signed/` with the statement.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    statement = _statement(folder, record, {f"{SIGNED}/{path.name}": path for path in beside})
    payload = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key))
    return _written(envelope.to_dict())


def check_statement(folder: Path, record: AuditRecord, key: Any | None) -> Evidence:
    """Check the signature of an audit's statement, and that it is of the files that are there.

    Args:
        folder: of the audit.
        record: of the audit.
        key: the public key of who is to have signed; None where none was given.
    """
    what, path = OVER_FILES, folder / STATEMENT
    if not path.is_file():
        why = "there is none: the audit is not signed, or no longer"
        if (folder / FORMER_SIGNED).is_dir():
            why = f"koda was stopped while it signed; what was signed before lies in {FORMER_SIGNED}, and {_PUTS_BACK}"
        # whoever names a key expects a signature; one that was taken away must not pass
        return Evidence(STATEMENT, what, "not verified" if key is None else "FAILED", why)
    if key is None:
        return Evidence(STATEMENT, what, "not verified", NO_KEY)
    try:
        problem = _problem(path.read_bytes(), folder, record, key)
    except OSError as error:
        problem = f"it cannot be read: {reason_of(error)}"
    except Exception:  # a damaged envelope raises whatever its parser meets, in the words of a library
        problem = "it is no signed statement, or one that is damaged"
    return Evidence(STATEMENT, what, "verified") if problem is None else Evidence(STATEMENT, what, "FAILED", problem)


def signed_names(folder: Path) -> tuple[set[str], bool] | None:
    """Return what a statement says that it is over, unchecked, and whether its signature is one of Ed25519.

    Args:
        folder: of the audit.

    Returns:
        None where there is no statement that can be read.
    """
    try:
        envelope = json.loads((folder / STATEMENT).read_bytes())
        names = {str(subject["name"]) for subject in json.loads(base64.b64decode(envelope["payload"]))["subject"]}
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
    except Exception:  # a damaged envelope raises whatever its parser meets; of that its own check speaks
        return None
    return names, len(signature) == _ED25519_BYTES


def check_named(folder: Path) -> Iterator[Evidence]:
    """Name what lies in `signed/` and is not named by the statement there: nothing says who laid it there.

    A second signer may lay a signature there, so it is no failure.

    Args:
        folder: of the audit.
    """
    signed = signed_names(folder)
    named = set() if signed is None else signed[0]
    why = "there is no statement that names it" if signed is None else "the statement does not name it"
    for path in sorted((folder / SIGNED).iterdir()):
        if (name := f"{SIGNED}/{path.name}") not in {STATEMENT, *named}:
            yield Evidence(name, "that the statement names it", "not verified", why)


def _problem(data: bytes, folder: Path, record: AuditRecord, key: Any) -> str | None:
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    envelope = Envelope.from_dict(json.loads(data))
    if data != _written(envelope.to_dict()):  # an envelope says the same with other spaces and other idle bits
        return "it is not as koda writes one: it was changed"
    try:
        envelope.verify([SSlibKey.from_crypto(key)], 1)
    except VerificationError:
        return OTHER_KEY
    if envelope.payload_type != PAYLOAD_TYPE:
        return f"it is a statement of another type, {envelope.payload_type}"
    said = json.loads(envelope.payload)
    named = {subject["name"]: subject["digest"]["sha256"] for subject in said["subject"]}
    # one of an older koda names nothing in signed/, where each file has a check of its own
    beside = {name: folder / name for name in named if Path(name).parts[:-1] == (SIGNED,)}
    wanted = _statement(folder, record, beside)
    there = {subject["name"]: subject["digest"]["sha256"] for subject in wanted["subject"]}
    if different := sorted(name for name in named.keys() | there.keys() if named.get(name) != there.get(name)):
        gone = [name for name in different if name not in there]
        other = [name for name in different if name in there]
        found = [f"it was signed over other files: {', '.join(other)}"] if other else []
        found += [f"it names {', '.join(gone)}, which is missing"] if gone else []
        return "; ".join([*found, *_drawn_since(different, named)])
    return None if said == wanted else "it states another result than the record"


def _drawn_since(different: Sequence[str], named: Mapping[str, str]) -> Iterator[str]:
    """Say why other files may be those of the audit all the same: koda draws a report again, and adds annotations."""
    if RECORD in different or MANIFEST not in different:
        return
    if ANNOTATIONS in different:
        how = "annotated" if ANNOTATIONS not in named else "annotated once more"
        yield f"the audit was {how} after it was signed, or changed by other means: {_AGAIN}"
    elif HTML in different:
        yield f"the report was drawn again after it was signed, or changed by other means: {_AGAIN}"


def _statement(folder: Path, record: AuditRecord, beside: Mapping[str, Path]) -> dict[str, Any]:
    """Make the statement over the files of an audit, and over those beside them: name -> path."""
    names = [MANIFEST, *json.loads((folder / MANIFEST).read_bytes())["files"]]
    if odd := [name for name in names if Path(name).name != name]:
        raise ConfigError(f"{folder / MANIFEST} names a file outside the folder: {odd[0]}.")
    verdict = record.verdict
    policy = [] if not verdict.policy_digest else [{"name": "policy", "digest": {"sha256": verdict.policy_digest}}]
    files = {**{name: folder / name for name in names}, **beside}
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest_file(path)}}
            for name, path in sorted(files.items())
            if path.is_file()
        ],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "result": _RESULTS.get(verdict.status, "WARNED"),
            "configuration": policy,
            "audit": record.id,
            "verdict": verdict.status,
            "ended": record.ended.isoformat(),
        },
    }


def _written(envelope: dict[str, Any]) -> bytes:
    return json.dumps(envelope, indent=2, sort_keys=True).encode() + b"\n"
