"""Keys of signers, read from PEM files: ECDSA on P-256, or Ed25519."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from koda.errors import ConfigError, PrerequisiteError
from koda.storage.reading import UnreadableError, read_small

NO_KEY = "no key was given (--key PUBLIC)"
OTHER_KEY = "it is not signed with this key, or was changed after it was signed"
_FOR_STATEMENTS = ("cryptography", "securesystemslib")
_FOR_ALL = (*_FOR_STATEMENTS, "cyclonedx", "model_signing", "OpenSSL", "pyhanko")
_REMEDY = "pip install 'koda-audit[sign]'"
_KINDS = "an ECDSA key on P-256 or an Ed25519 key"


def private_key(path: Path, password: str | None = None) -> Any:
    """Read a private key.

    Args:
        path: a PEM file.
        password: of the file, if it has one.

    Raises:
        ConfigError: it cannot be read, wants a password, or is of another kind.
        PrerequisiteError: a package of the extra `sign` is missing.
    """
    _needs(_FOR_ALL)
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    remedy = f"Give {_KINDS} in PEM; for one with a password name its variable with --password-env."
    what, data = f"{path} is not a private key that can be read", _read(path, "private", remedy)
    try:
        key = load_pem_private_key(data, None if password is None else password.encode())
    except Exception as error:  # one of several of the library's
        raise ConfigError(f"{what}: {_why_no_private_key(data, password)}.", remedy) from error
    _refuse_others(path, key.public_key())
    return key


def public_key(path: Path) -> Any:
    """Read a public key, which is to check at least the statement.

    Raises:
        ConfigError: it cannot be read, or is of another kind.
        PrerequisiteError: a package is missing that a signed statement takes.
    """
    _needs(_FOR_STATEMENTS)
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    remedy = f"Give the public half of {_KINDS}: openssl pkey -in private.pem -pubout -out public.pem"
    what, data = f"{path} is not a public key that can be read", _read(path, "public", remedy)
    try:
        key = load_pem_public_key(data)
    except Exception as error:
        raise ConfigError(f"{what}: it holds {_kind_of(data, 'public key')}.", remedy) from error
    _refuse_others(path, key)
    return key


def is_p256(key: Any) -> bool:
    """Tell whether a private key is one on P-256; the other kind is Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    return isinstance(key, EllipticCurvePrivateKey)


def lacking(*packages: str) -> str | None:
    """Return why a check that takes packages of the extra `sign` cannot be made; None where it can."""
    problem = _problem(packages)
    return None if problem is None else f"{problem} ({_REMEDY})"


def _read(path: Path, which: str, remedy: str) -> bytes:
    try:
        return read_small(path)
    except UnreadableError as error:
        raise ConfigError(f"{path} is not a {which} key that can be read: {error}.", remedy) from error


def _why_no_private_key(data: bytes, password: str | None) -> str:
    if b"ENCRYPTED" in data:  # in the first line, or in a header of an older form
        return "it has a password" if password is None else "its password is another, or it is damaged"
    if password is not None and b"PRIVATE KEY-----" in data:
        return "it has no password, and one is given, or it is damaged"
    return f"it holds {_kind_of(data, 'private key')}"


def _kind_of(data: bytes, wanted: str) -> str:
    """Say what a PEM file holds by its first line, where that is not what was wanted, or not whole."""
    found = re.search(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----", data)
    if found is None:
        return "nothing in PEM"
    kind = found[1].decode("ascii").lower()
    if not kind.endswith(wanted):
        return f"'{kind}', not a {wanted}"
    return f"a {wanted} that is damaged, or of a form that is not known"


def _needs(packages: Sequence[str]) -> None:
    if (problem := _problem(packages)) is not None:
        raise PrerequisiteError(f"Signatures cannot be handled: {problem}.", _REMEDY)


def _problem(packages: Sequence[str]) -> str | None:
    missing = [name for name in packages if find_spec(name) is None]
    return f"the extra `sign` is not installed whole, {', '.join(missing)} missing" if missing else None


def _refuse_others(path: Path, key: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return
    raise ConfigError(f"{path} is a key of another kind: koda signs with {_KINDS}.", "Make one of these.")
