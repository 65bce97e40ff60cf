"""The command that checks evidence: the files of an audit, what they say of each other, and the chain of a home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.options import AUDIT_HELP, JsonOption, WeightsOption, answer, home
from flows.terminal import console

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
        kept = None if head is None else _read(head)
        if audit is None:
            return _of_the_chain(kept)
        from koda.audit.publishing import find_published
        from koda.evidence.verify import verify as check
        from koda.evidence.weights import weights_places

        return check(find_published(home(), audit), kept, key, weights_places(weights or [])).as_json()

    result = answer(work, as_json, show_verification)
    raise typer.Exit(0 if result["verified"] else 1)


def show_verification(result: dict[str, Any]) -> None:
    """Show each check: what was looked at, and what it came to."""
    for check in result["checks"]:
        mark, state = _MARKS[check["state"]], check["state"]
        unchanged = state == "verified" and check["name"] in result["files"] and check["what"].startswith("against")
        words = "unchanged" if unchanged else state
        joint = ": " if state == "FAILED" else ", because " if state == "not verified" else "; "
        why = f"{joint}{check['why']}" if check["why"] else ""
        console.print(
            f"  {mark} {escape(check['name'])}: {escape(check['what'])}: {words}{escape(why)}", soft_wrap=True
        )
    for remark in result["cannot_know"]:
        console.print(f"  [dim]{escape(remark)}[/]", soft_wrap=True)


def _read(path: Path) -> ChainHead:
    from koda.storage.chain import ChainHead

    return ChainHead.read(path)


def _of_the_chain(kept: ChainHead | None) -> dict[str, Any]:
    from koda.evidence.chained import LIMIT, StoredChain, check_chain
    from koda.evidence.result import failed

    chain = StoredChain.read(home())
    checks = check_chain(chain, kept)
    return {
        "verified": not failed(checks),
        "files": {},
        "failed": failed(checks),
        "checks": [check.as_json() for check in checks],
        "head": chain.head,
        "cannot_know": [LIMIT],
    }
