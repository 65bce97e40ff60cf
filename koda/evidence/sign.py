"""Signing an audit: only what verifies is signed, and no file of the audit is changed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from koda.audit.folders import FORMER_SIGNED, MANIFEST, PDF, RUNS, SIGNED, put_back_signatures
from koda.audit.redrawing import held
from koda.errors import ConfigError, DataError
from koda.evidence.bom import BOM, bom_of
from koda.evidence.keys import is_p256, private_key
from koda.evidence.manifest import read_whole
from koda.evidence.result import failed
from koda.evidence.signed_pdf import SIGNED_PDF, certificates, sign_pdf
from koda.evidence.statement import STATEMENT, signed_statement
from koda.evidence.verify import verify
from koda.evidence.weights import NO_ED25519, how_to_say_where, sign_weights, weights_file
from koda.records import AuditRecord
from koda.storage.writing import explain_os_errors, new_folder
from koda.typing import ROLES, Role

_ED25519 = (
    "The PDF is signed with Ed25519, which few readers of PDF know: Poppler, for one, calls such a document damaged. A "
    "key on P-256 serves all of them."
)
_REMEDY = "Leave out --weights, or sign with a key on P-256."
_KEPT = (
    "In the folder of signatures lies what koda did not write, and what the statement does not name: {}. It is kept."
)
_OWN = frozenset((STATEMENT, BOM, SIGNED_PDF, *map(weights_file, ROLES)))


@dataclass(frozen=True)
class Signing:
    """What an audit is signed with.

    Args:
        key: PEM file of the private key.
        password: of that file, if it has one.
        certificate: PEM file of the key's certificate, and of its issuers; a PDF is signed with one alone.
        weights: where the weights of the models lie, if not where the record says.
    """

    key: Path
    password: str | None = None
    certificate: Path | None = None
    weights: Mapping[Role, Path] = field(default_factory=dict)


def sign(folder: Path, signing: Signing) -> dict[str, Any]:
    """Sign an audit; return its id, what was written, and what was not, because.

    Args:
        folder: of the audit, or of a former run that it keeps. Nobody else changes it meanwhile.
        signing: what with.

    Raises:
        ConfigError: a key or certificate that cannot be used, or files that do not verify.
        PrerequisiteError: a package of the extra `sign` is missing.
        StoreError: the folder cannot be written.
    """
    key = private_key(signing.key, signing.password)
    chain = None if signing.certificate is None else certificates(signing.certificate, key)
    if signing.weights and not is_p256(key):
        raise ConfigError(f"--weights asks for signatures over weights, and {NO_ED25519}.", _REMEDY)
    real = folder.resolve()
    above = real.parent.parent
    audit = above if real.parent.name == RUNS and (above / MANIFEST).is_file() else real
    with held(audit):
        put_back_signatures(folder)  # of a folder that lies in no home
        whole = _whole(folder)
        with explain_os_errors(folder):
            place = new_folder(audit.parent, f".{audit.name}.")  # which `sweep` knows, should this process be killed
            try:
                (place / SIGNED).mkdir()
                left_out = _write_all(folder, place / SIGNED, whole, key, chain, signing)
                written = sorted(path.name for path in (place / SIGNED).iterdir())
                kept = _keep_others(folder / SIGNED, place / SIGNED)
                _exchange(folder, place / SIGNED)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    notes = [] if chain is None or is_p256(key) else [_ED25519]
    notes += [_KEPT.format(", ".join(kept))] if kept else []
    paths = [str(folder / SIGNED / name) for name in written]
    return {"id": whole[1].id, "signed": paths, "not_made": left_out, "notes": notes}


def _whole(folder: Path) -> tuple[bytes, AuditRecord]:
    """Return the bytes of a record and what they hold, if all of its audit verifies."""
    if (folder / SIGNED).is_symlink() or ((folder / SIGNED).exists() and not (folder / SIGNED).is_dir()):
        raise ConfigError(
            f"{folder / SIGNED} is a link or a file, and koda signs into a folder of that name.", "Move it away."
        )
    # signatures of before are to be replaced: whether they still hold is no matter
    wrong = [name for name in failed(verify(folder).checks) if not name.startswith(f"{SIGNED}/")]
    whole = read_whole(folder)
    if wrong or whole is None:
        raise ConfigError(
            f"{folder} is not signed, since it does not verify: {', '.join(wrong)}.",
            f"koda verify {folder} says what is wrong.",
        )
    return whole


def _keep_others(former: Path, new: Path) -> list[str]:
    """Copy what lies beside former signatures and koda did not write; return the names."""
    others = [path for path in sorted(former.glob("*")) if f"{SIGNED}/{path.name}" not in _OWN]
    for path in others:
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)
    return [path.name for path in others]


def _exchange(folder: Path, new: Path) -> None:
    """Put new signatures in the place of those of before, which stay if that cannot be.

    A process that is killed between the two renames leaves those of before under another name, by which the next
    command that changes the audit puts them back.
    """
    current, former = folder / SIGNED, folder / FORMER_SIGNED
    try:
        if current.exists():
            current.rename(former)
        new.rename(current)
    except BaseException:
        put_back_signatures(folder)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _write_all(
    folder: Path, place: Path, whole: tuple[bytes, AuditRecord], key: Any, chain: list[Any] | None, signing: Signing
) -> dict[str, str]:
    """Write what is to be `signed/`; return what was not made, and why."""
    data, record = whole
    left_out = _sign_weights(place, record, key, signing)
    if chain is None:
        left_out[SIGNED_PDF] = "no certificate of the key was given (--certificate FILE)"
    elif not (folder / PDF).is_file():
        left_out[SIGNED_PDF] = f"the audit has no {PDF}"
    else:
        (place / Path(SIGNED_PDF).name).write_bytes(sign_pdf(folder / PDF, key, chain))
    try:
        (place / Path(BOM).name).write_bytes(bom_of(data, record))
    except DataError as error:
        left_out[BOM] = error.message
    statement = signed_statement(folder, record, key, sorted(place.iterdir()))  # the last: it names the others
    (place / Path(STATEMENT).name).write_bytes(statement)
    return left_out


def _sign_weights(place: Path, record: AuditRecord, key: Any, signing: Signing) -> dict[str, str]:
    """Sign the manifests of weights; return those that were not made, and why."""
    if not is_p256(key):
        return {weights_file(role): NO_ED25519 for role in ROLES}
    left_out: dict[str, str] = {}
    for role in ROLES:
        target, at = place / Path(weights_file(role)).name, signing.weights.get(role)
        why = sign_weights(target, getattr(record, role), key, at)
        if why is not None and at is not None:
            raise ConfigError(
                f"The weights of the {role} are not signed: {why.rstrip('.')}.", "Leave out --weights, or mend it."
            )
        if why is not None:
            left_out[weights_file(role)] = why + how_to_say_where(role, why)
    return left_out
