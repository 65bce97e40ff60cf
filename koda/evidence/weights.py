"""Signed manifests of the models' weight files, in the format of the OpenSSF's model signing (OMS 1.0)."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from koda.audit.folders import SIGNED
from koda.config import ModelSpec
from koda.errors import ConfigError, KodaError
from koda.evidence.keys import NO_KEY, OTHER_KEY
from koda.evidence.result import Evidence
from koda.evidence.statement import PAYLOAD_TYPE, STATEMENT_TYPE, signed_names
from koda.models.state_dicts import OPEN_CLIP_ORDER, TIMM_ORDER
from koda.models.weight_files import files_of, is_index, weights_at
from koda.models.weights import look_at_weights
from koda.records import AuditRecord, ModelRecord
from koda.storage import digest_file
from koda.typing import ROLES, Role

_WITHOUT_FILES = frozenset(("python", "embeddings"))  # kinds of models
_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_NO_FILE = "they come from code or from stored embeddings, and have no file of their own"
NO_ED25519 = "the format takes no Ed25519 key, only one on P-256"
_PREDICATE = "https://model_signing/signature/v1.0"


def weights_file(role: Role) -> str:
    """Return the name of the signed manifest of a model's weights."""
    return f"{SIGNED}/weights-{role}.sig"


def weights_places(given: list[str]) -> dict[Role, Path]:
    """Read where weights lie: ROLE=PATH, each.

    Raises:
        ConfigError: another form, or no such role.
    """
    places: dict[Role, Path] = {}
    for item in given:
        role, _, path = item.partition("=")
        if role not in ROLES or not path:
            raise ConfigError(
                f"--weights {item} does not say whose weights lie where.", "Give --weights candidate=PATH."
            )
        places[role] = Path(path)
    return places


def how_to_say_where(role: Role, problem: str) -> str:
    """Return what to add to a reason why weights were not found, unless there is nothing to be found."""
    return "" if problem.endswith(_NO_FILE) else f" (--weights {role}=PATH)"


def sign_weights(target: Path, model: ModelRecord, key: Any, place: Path | None) -> str | None:
    """Write the signed manifest of a model's weight files.

    Args:
        target: the file to write.
        model: what the record says of it.
        key: the private key, on P-256.
        place: of the weights; None for where the record says that they lay.

    Returns:
        None, or why no manifest was made.
    """
    from model_signing import hashing, signing

    found = _find(model, place)
    if isinstance(found, str):
        return found
    try:
        digest = look_at_weights(found, _order(model)).digest
        files = _files(found)
    except KodaError as error:
        return error.message
    if digest != model.weights_digest:
        return f"{found} holds other weights than the audit looked at"
    with tempfile.TemporaryDirectory() as temporary:  # of the files that stand beside them none is signed
        beside = Path(temporary) / _name(model)
        beside.mkdir()
        for file in files:
            (beside / file.name).symlink_to(file.resolve())
        with _as_file(key) as file_of_key:
            configuration = signing.Config().use_elliptic_key_signer(private_key=file_of_key)
        configuration.set_hashing_config(hashing.Config().set_allow_symlinks(True))
        configuration.sign(beside, target)
    named = _read_named(target, model, key.public_key())
    if isinstance(named, str) or named.keys() != {file.name for file in files}:
        target.unlink()
        problem = named if isinstance(named, str) else "it names other files"
        return f"koda does not know again what model-signing {version('model-signing')} wrote: {problem}"
    return None


@contextlib.contextmanager
def _as_file(key: Any) -> Iterator[Path]:
    """Give a private key as the file that model-signing wants of it, which can be read once and lies on no disk."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    end, start = os.pipe()
    try:
        with os.fdopen(start, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        yield Path(f"/dev/fd/{end}")
    finally:
        os.close(end)


def check_weights(
    folder: Path, record: AuditRecord, key: Any | None, places: Mapping[Role, Path]
) -> Iterator[Evidence]:
    """Check the signed manifests of weights, and the weights themselves where they are on this machine.

    Args:
        folder: of the audit.
        record: of the audit.
        key: the public key of who is to have signed; None where none was given.
        places: of the weights, where the record does not say so.
    """
    what = "its signature, over the weights of the record"
    for role in ROLES:
        name, model = weights_file(role), getattr(record, role)
        if not (folder / name).is_file():
            yield Evidence(name, what, "not verified", _why_none(folder, name, role, model))
            if places.get(role) is not None:
                yield _check_unsigned(name, model, places[role])
            continue
        if key is None:
            yield Evidence(name, what, "not verified", NO_KEY)
            continue
        named = _read_named(folder / name, model, key)
        if isinstance(named, str):
            yield Evidence(name, what, "FAILED", named)
            continue
        yield Evidence(name, what, "verified")
        yield _check_files(name, role, model, named, places.get(role))


def _why_none(folder: Path, name: str, role: Role, model: ModelRecord) -> str:
    """Say why there is no manifest of a model's weights."""
    signed = signed_names(folder)
    if signed is None:
        return "there is none, and no statement that can be read says why"
    names, is_ed25519 = signed
    if name in names:
        return "the statement names one, and it is missing"
    if _has_no_file(model):
        return f"there is none, since {_NO_FILE}"
    if is_ed25519:
        return f"there is none, since the audit was signed with an Ed25519 key: {NO_ED25519}"
    return (
        f"there is none, since the weights were not at hand when the audit was signed (koda sign --weights {role}=PATH)"
    )


def _check_unsigned(name: str, model: ModelRecord, place: Path) -> Evidence:
    """Compare weights that nobody signed with the digest that the record has of their tensors."""
    what = "the weights themselves, against the record"
    found = _find(model, place)
    if isinstance(found, str):
        return Evidence(name, what, "FAILED", found)
    try:
        is_same = look_at_weights(found, _order(model)).digest == model.weights_digest
    except KodaError as error:
        return Evidence(name, what, "FAILED", error.message)
    if is_same:
        return Evidence(name, what, "verified", f"{found}: tensors as the record says")
    return Evidence(name, what, "FAILED", f"{found} holds other weights than the audit looked at")


def _check_files(name: str, role: Role, model: ModelRecord, named: Mapping[str, str], place: Path | None) -> Evidence:
    """Compare weight files with their signed digests, and their tensors with the record.

    Where nobody says where they lie, they are looked for where the audit read them. What a training wrote there since
    speaks against nothing that was signed.
    """
    what = "the weights themselves"
    found = _find(model, place)
    problem = f"they are not here: {found}" if isinstance(found, str) else _problem(found, model, named)
    if problem is None:
        return Evidence(name, what, "verified", f"{found}: files as signed, tensors as the record says")
    if place is None:
        return Evidence(name, what, "not verified", problem + how_to_say_where(role, problem))
    return Evidence(name, what, "FAILED", problem)


def _problem(path: Path, model: ModelRecord, named: Mapping[str, str]) -> str | None:
    try:
        files = {file.name: file for file in _files(path)}
        if files.keys() != named.keys():
            return f"{path} consists of other files than {', '.join(sorted(named))}"
        if changed := sorted(file for file, each in files.items() if digest_file(each) != named[file]):
            return f"{files[changed[0]]} was changed since it was signed"
        if look_at_weights(path, _order(model)).digest != model.weights_digest:
            return f"{path} holds other weights than the audit looked at"
    except (KodaError, OSError) as error:
        return str(error).splitlines()[0]
    return None


def _find(model: ModelRecord, place: Path | None) -> Path | str:
    """Return the file of a model's weights, or its index; in words why it is not to be had. Nothing is fetched."""
    try:
        spec = ModelSpec(name=model.name, pretrained=model.pretrained)
    except ValidationError:
        return f"the record calls the model '{model.name}', by which koda finds none"
    if spec.kind in _WITHOUT_FILES:
        return _NO_FILE
    place = place or _where_it_was_read(model, spec)
    if place is None:  # a name of a hub's, or from a folder that nobody knows any more
        return "the record names no file of them that is here"
    try:
        return weights_at(place) if place.exists() else f"there is no {place}"
    except KodaError as error:
        return error.message
    except OSError as error:  # such as a name that is too long for one
        return f"{place} cannot be looked at: {error.strerror}"


def _has_no_file(model: ModelRecord) -> bool:
    try:
        return ModelSpec(name=model.name, pretrained=model.pretrained).kind in _WITHOUT_FILES
    except ValidationError:
        return False


def _where_it_was_read(model: ModelRecord, spec: ModelSpec) -> Path | None:
    """Return where the record says that weights lay, or where the cache of the hub has them."""
    if model.pretrained or spec.kind == "local-dir":
        path = Path(model.pretrained or spec.place)
        return path if path.is_absolute() else None
    if spec.kind != "hf-hub" or not model.weights_file:
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(spec.place, model.weights_file.partition(" [")[0])
    except ValueError:  # the name is none of the hub's
        return None
    return Path(cached) if isinstance(cached, str) else None


def _order(model: ModelRecord) -> tuple[str, ...]:
    return TIMM_ORDER if ModelSpec(name=model.name).kind == "timm" else OPEN_CLIP_ORDER


def _files(path: Path) -> list[Path]:
    return [*files_of(path), *([path] if is_index(path) else [])]


def _name(model: ModelRecord) -> str:
    """Return what a manifest calls the model: by the digest of the record it is bound to the audit."""
    return f"weights-{model.weights_digest}"


def _read_named(path: Path, model: ModelRecord, key: Any) -> dict[str, str] | str:
    try:
        return _named(path.read_bytes(), model, key)
    except Exception:  # a damaged bundle raises whatever its parser meets, in the words of a library
        return "it is no signed manifest of weights, or one that is damaged"


def _named(data: bytes, model: ModelRecord, key: Any) -> dict[str, str] | str:
    """Return name -> sha256 of the files that a signed manifest names, or what is wrong with it."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import Signature, SSlibKey

    raw = json.loads(data)
    payload = base64.b64decode(raw["dsseEnvelope"]["payload"], validate=True)
    signature = base64.b64decode(raw["dsseEnvelope"]["signatures"][0]["sig"], validate=True)
    if raw != _bundle(payload, signature, key):
        return OTHER_KEY
    own = SSlibKey.from_crypto(key)
    try:
        own.verify_signature(Signature(own.keyid, signature.hex()), Envelope(payload, PAYLOAD_TYPE, {}).pae())
    except VerificationError:
        return OTHER_KEY
    said = json.loads(payload)
    if (said["_type"], said["predicateType"]) != (STATEMENT_TYPE, _PREDICATE):
        return f"it states something else than weights: {said['predicateType']}"
    if [subject["name"] for subject in said["subject"]] != [_name(model)]:
        return "it is of other weights than those of the record"
    resources = said["predicate"]["resources"]
    if {each["algorithm"] for each in resources} != {"sha256"}:
        return "it names files by other digests than sha256"
    return {each["name"]: each["digest"] for each in resources}


def _bundle(payload: bytes, signature: bytes, key: Any) -> dict[str, Any]:
    """Return the whole of a signed manifest around its payload, in which nothing else can be changed unseen."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    hint = hashlib.sha256(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    return {
        "mediaType": _BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }
