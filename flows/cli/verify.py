"""The command that checks evidence: the files of an audit, what they say of each other, and the chain of a home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import AUDIT_HELP, JsonOption, WeightsOption, answer, home
from flows.terminal import console, escape, say

if TYPE_CHECKING:
    from koda.storage.chain import ChainHead

_MARKS = {"verified": "[green]✓[/]", "not verified": "[yellow]?[/]", "FAILED": "[red]✕[/]"}


def verify(
    audit: Annotated[str | None, typer.Argument(metavar="[AUDIT]", help=AUDIT_HELP)] = None,
    head: Annotated[
        Path | None, typer.Option("--head", metavar="FILE", help="The head of the chain, as it was kept elsewhere.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="The public key of who is to have signed, in PEM.")
    ] = None,
    weights: WeightsOption = None,
    chain: Annotated[bool, typer.Option("--chain", help="Check the chain of all audits of the home.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check an audit's files against its manifest, its reports, signature and chain; exit with 1 where one fails.

    A folder is enough. Each check says verified, not verified because, or FAILED. With --chain, check the chain of
    KODA_HOME instead; its JSON holds the head, which is to be kept elsewhere.
    """

    def work() -> dict[str, Any]:
        from koda.errors import ConfigError

        if chain == (audit is not None):
            raise ConfigError(
                "koda verify checks either an audit or, with --chain, the chain of the home.",
                "Give koda verify AUDIT, or koda verify --chain.",
            )
        if weights and key is None:
            raise ConfigError("--weights says where weights lie that somebody signed.", "Give --key PUBLIC too.")
        kept = None if head is None else _read(head)
        if audit is None:
            return _of_the_chain(kept)
        from koda.audit.publishing import find_published
        from koda.evidence.verify import verify as check
        from koda.evidence.weights import weights_places

        return check(find_published(home(), audit), kept, key, weights_places(weights or []), home()).as_json()

    result = answer(work, as_json, show_verification)
    raise typer.Exit(0 if result["verified"] else 1)


def show_verification(result: dict[str, Any]) -> None:
    """Show each check: what was looked at, and what it came to; then how many there were of each kind."""
    unchanged = [check["name"] for check in result["checks"] if _is_unchanged(check, result)]
    for check in result["checks"]:
        if check["name"] in unchanged and _is_unchanged(check, result):
            if check["name"] == unchanged[0]:
                say(f"{_MARKS['verified']} {escape(', '.join(unchanged))}: unchanged, as manifest.json lists them")
            continue
        mark, state = _MARKS[check["state"]], check["state"]
        joint = ": " if state == "FAILED" else ", because " if state == "not verified" else "; "
        why = f"{joint}{check['why']}" if check["why"] else ""
        say(f"{mark} {escape(check['name'])}: {escape(check['what'])}: {state}{escape(why)}")
    console.print()
    console.print(_summary(result), soft_wrap=True)
    for remark in result["cannot_know"]:
        say(f"[dim]{escape(remark)}[/]")


def _is_unchanged(check: dict[str, Any], result: dict[str, Any]) -> bool:
    against = check["name"] in result["files"] and check["what"].startswith("against")
    return against and check["state"] == "verified"


def _summary(result: dict[str, Any]) -> str:
    states = [check["state"] for check in result["checks"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in _MARKS if state in states)
    if result["failed"]:
        return f"[red]✕ {escape(', '.join(result['failed']))}: FAILED[/] ({counts})"
    return f"[green]✓ nothing failed[/] ({counts})"


def _read(path: Path) -> ChainHead:
    from koda.storage.chain import ChainHead

    return ChainHead.read(path)


def _of_the_chain(kept: ChainHead | None) -> dict[str, Any]:
    from koda.errors import StoreError
    from koda.evidence.chained import LIMIT, StoredChain, check_audits, check_chain
    from koda.evidence.result import failed

    chain = StoredChain.read(home())
    if chain.rows is None and not chain.is_lost:  # nothing would be checked, and nothing fail
        raise StoreError(f"The chain cannot be checked: {chain.problem}", chain.remedy)
    checks = [*check_chain(chain, kept), *check_audits(chain)]
    return {
        "verified": not failed(checks),
        "files": {},
        "failed": failed(checks),
        "checks": [check.as_json() for check in checks],
        "head": chain.head,
        "cannot_know": [LIMIT],
    }
