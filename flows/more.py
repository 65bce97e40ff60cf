"""The commands that look at several audits at once: `koda diff` and `koda sweep`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.guard import FreshOption, JsonOption, SetOption, StrictOption, guarded, koda_home


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="An audit's id, the beginning of one, or an audit.json.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The audit to compare with it.")],
    as_json: JsonOption = False,
) -> None:
    """Say what differs between two audits: findings, verdict, figures, settings, data and software."""

    def work() -> Any:
        from koda.audit.history import diff_audits

        return diff_audits(koda_home(), a, b)

    changes = guarded(work, as_json)
    if as_json:
        typer.echo(changes.model_dump_json(indent=1))
        return
    from flows.tables import show_changes

    show_changes(changes)


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of the sweep.")],
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Audit many pairs of models on one or several data sets, and sum up; the worst verdict decides the exit code."""

    def work() -> dict[str, Any]:
        from koda.settings import parse_override
        from koda.sweeping import load_sweep

        checked = load_sweep(config, dict(parse_override(item) for item in set_ or []))
        from koda.policy import check_policy

        check_policy(
            checked.policy, checked.waivers, checked.significance.stability
        )  # what is wrong with all pairs is said before any of them runs
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes none above its own
        from flows.sweep import sweep as sweep_flow

        return sweep_flow(checked.model_dump(mode="json"), str(koda_home()), fresh, strict)

    result = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        from flows.tables import show_sweep

        show_sweep(result)
    raise typer.Exit(result["exit_code"])
