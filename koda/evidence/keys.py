"""Keys of signers, read from PEM files: ECDSA on P-256, or Ed25519."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from koda.errors import ConfigError, PrerequisiteError

_PACKAGES = ("cryptography", "cyclonedx", "model_signing", "OpenSSL", "pyhanko", "securesystemslib")
_KINDS = "an ECDSA key on P-256 or an Ed25519 key"


def private_key(path: Path, password: str | None = None) -> Any:
    """Read a private key.

    Args:
        path: a PEM file.
        password: of the file, if it has one.

    Raises:
        ConfigError: it cannot be read, wants a password, or is of another kind.
        PrerequisiteError: the extra `sign` is not installed.
    """
    _needs_extra()
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(path.read_bytes(), None if password is None else password.encode())
    except Exception as error:  # one of several of the library's, or of the file's
        remedy = f"Give {_KINDS} in PEM; for one with a password name its variable with --password-env."
        raise ConfigError(f"{path} is not a private key that can be read: {error}.", remedy) from error
    _refuse_others(path, key.public_key())
    return key


def public_key(path: Path) -> Any:
    """Read a public key.

    Raises:
        ConfigError: it cannot be read, or is of another kind.
        PrerequisiteError: the extra `sign` is not installed.
    """
    _needs_extra()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(path.read_bytes())
    except Exception as error:
        remedy = f"Give the public half of {_KINDS}: openssl pkey -in private.pem -pubout -out public.pem"
        raise ConfigError(f"{path} is not a public key that can be read: {error}.", remedy) from error
    _refuse_others(path, key)
    return key


def is_p256(key: Any) -> bool:
    """Tell whether a private key is one on P-256; the other kind is Ed25519."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    return isinstance(key, EllipticCurvePrivateKey)


def _needs_extra() -> None:
    if missing := [name for name in _PACKAGES if find_spec(name) is None]:
        raise PrerequisiteError(
            f"Signatures need the extra `sign`, which is not installed whole: {', '.join(missing)} missing.",
            "pip install 'koda-audit[sign]'",
        )


def _refuse_others(path: Path, key: Any) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return
    raise ConfigError(f"{path} is a key of another kind: koda signs with {_KINDS}.", "Make one of these.")
