"""Signing an audit: only what verifies is signed, and no file of the audit is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from koda.audit.folders import SIGNED
from koda.errors import ConfigError, StoreError
from koda.evidence.keys import private_key
from koda.evidence.manifest import read_whole
from koda.evidence.result import failed
from koda.evidence.statement import sign_statement
from koda.evidence.verify import verify


def sign(folder: Path, key: Path, password: str | None = None) -> dict[str, Any]:
    """Sign an audit; return its id and what was written.

    Args:
        folder: of the audit.
        key: PEM file of the private key.
        password: of that file, if it has one.

    Raises:
        ConfigError: a key that cannot be used, or files that do not verify.
        PrerequisiteError: the extra `sign` is not installed.
        StoreError: the folder cannot be written.
    """
    signer = private_key(key, password)
    # a statement of before is to be replaced: whether it still holds is no matter
    wrong = [name for name in failed(verify(folder).checks) if not name.startswith(SIGNED)]
    whole = read_whole(folder)
    if wrong or whole is None:
        raise ConfigError(
            f"{folder} is not signed, since it does not verify: {', '.join(wrong)}.",
            f"koda verify {folder} says what is wrong.",
        )
    try:
        path = sign_statement(folder, whole[1], signer)
    except OSError as error:
        raise StoreError(f"{folder / SIGNED} cannot be written: {error}.") from error
    return {"id": whole[1].id, "signed": [str(path)]}
