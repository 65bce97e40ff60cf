"""The command that signs an audit with a key of the user's."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import AuditArgument, JsonOption, WeightsOption, answer, home
from flows.terminal import console, escape, say

_WHAT = {
    "statement.dsse.json": "the verdict, signed, over all files",
    "bom.cdx.json": "models, data and software (CycloneDX)",
    "report.pdf": "a copy of the report with a signature in it (PAdES)",
    "weights-baseline.sig": "the weight files, signed (OpenSSF model signing)",
    "weights-candidate.sig": "the weight files, signed (OpenSSF model signing)",
}


def sign(
    audit: AuditArgument,
    key: Annotated[Path, typer.Option("--key", metavar="FILE", help="The private key: P-256 or Ed25519, in PEM.")],
    password_env: Annotated[
        str | None, typer.Option("--password-env", metavar="VAR", help="The variable with the key's password.")
    ] = None,
    certificate: Annotated[
        Path | None,
        typer.Option("--certificate", metavar="FILE", help="The key's certificate, in PEM: to sign the PDF with."),
    ] = None,
    weights: WeightsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign an audit with a key of your own, into `signed/` of its folder. No file of the audit is changed.

    A statement of the verdict over all files, a bill of materials (CycloneDX), with a certificate a signed copy of
    the PDF (PAdES), and with a key on P-256 a manifest of each model's weights (OpenSSF model signing).
    `koda verify AUDIT --key PUBLIC` checks them.
    """

    def work() -> dict[str, Any]:
        from koda.audit.publishing import find_published
        from koda.errors import ConfigError
        from koda.evidence.sign import Signing
        from koda.evidence.sign import sign as sign_audit
        from koda.evidence.weights import weights_places

        if password_env is not None and password_env not in os.environ:
            raise ConfigError(f"The variable {password_env} is not set.", "Put the password of the key in it.")
        password = None if password_env is None else os.environ[password_env]
        signing = Signing(key, password, certificate, weights_places(weights or []))
        return sign_audit(find_published(home(), audit), signing)

    answer(work, as_json, lambda result: _show(result, audit))


def _show(result: dict[str, Any], audit: str) -> None:
    folder = Path(result["signed"][0]).parent
    console.print(f"Signed {escape(result['id'])}, in {escape(str(folder))}:", soft_wrap=True)
    for path in result["signed"]:
        say(f"[green]✓[/] {escape(Path(path).name)}: {_WHAT[Path(path).name]}")
    for name, why in result["not_made"].items():
        say(f"[yellow]–[/] {escape(Path(name).name)}: not made, because {escape(why)}")
    for note in result["notes"]:
        say(f"[yellow]![/] {escape(note)}")
    say(f"Check it: koda verify {escape(shlex.quote(audit))} --key PUBLIC", 0)
