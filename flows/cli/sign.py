"""The command that signs an audit with a key of the user's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows.cli.options import AuditArgument, JsonOption, answer, home
from flows.terminal import console


def sign(
    audit: AuditArgument,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key: P-256 or Ed25519, in PEM.")],
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VAR", help="The variable with the key's password.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an audit: a statement of its verdict over all of its files, into `signed/` of its folder.

    No file of the audit is changed. `koda verify AUDIT --key PUBLIC` checks the signature.
    """

    def work() -> dict[str, Any]:
        from koda.audit.publishing import find_published
        from koda.errors import ConfigError
        from koda.evidence.sign import sign as sign_audit

        if password_env is not None and password_env not in os.environ:
            raise ConfigError(f"The variable {password_env} is not set.", "Put the password of the key in it.")
        password = None if password_env is None else os.environ[password_env]
        return sign_audit(find_published(home(), audit), key, password)

    answer(work, as_json, _show)


def _show(result: dict[str, Any]) -> None:
    for path in result["signed"]:
        console.print(f"  [green]✓[/] signed: {escape(path)}", soft_wrap=True)
