"""The commands that look at several audits at once: `koda diff` and `koda sweep`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import FreshOption, JsonOption, JunitOption, SetOption, StrictOption, guarded, no_stale
from flows.failures import koda_home


def sweep(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration of the sweep.")],
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audit many pairs of models on one or several data sets, and sum up; the worst audit decides the exit code."""

    def work() -> dict[str, Any]:
        from koda.config import load_sweep, parse_override
        from koda.policy import check_policy

        no_stale(junit)
        checked = load_sweep(config, dict(parse_override(item) for item in set_ or []))
        # what is wrong with all pairs is said before any of them runs
        check_policy(checked.policy, checked.waivers, checked.significance.stability)
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)  # Prefect makes none above its own
        from flows.sweep import sweep as sweep_flow

        result = sweep_flow(checked.model_dump(mode="json"), str(koda_home()), fresh, strict)
        if junit is None:
            return result
        _write_junit(junit, result["cells"], strict)
        return {**result, "paths": {**result["paths"], "junit": str(junit.absolute())}}

    result = guarded(work, as_json)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        from flows.cli.show_changes import show_sweep

        show_sweep(result)
    raise typer.Exit(result["exit_code"])


def _write_junit(junit: Path, cells: list[dict[str, Any]], strict: bool) -> None:
    """Write the verdicts of a sweep as JUnit XML: a suite for each audit, an error for each that could not be run."""
    from koda.audit.publishing import read_published
    from koda.policy.export import junit_xml
    from koda.storage import write_atomically

    records = [read_published(koda_home(), cell["audit"]) for cell in cells if cell["audit"] is not None]
    failed = {
        f"{cell['candidate']} against {cell['baseline']} on {cell['data']}": cell["error"]
        for cell in cells
        if cell["error"] is not None
    }
    write_atomically(junit, junit_xml(records, strict, failed))
