"""The command `koda sweep`: many audits at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.options import (
    FreshOption,
    JsonOption,
    JunitOption,
    SetOption,
    StrictOption,
    answer,
    home,
    settings_of,
    with_junit,
)
from flows.cli.show_changes import show_sweep
from flows.environment import make_prefect_home
from flows.runners import working
from flows.server import the_own_server


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
        the_own_server().begin()
        from koda.config import load_sweep
        from koda.policy import check_policy

        checked = load_sweep(config, settings_of(set_))
        # what is wrong with all pairs is said before any of them runs
        check_policy(checked.policy, checked.waivers, checked.significance.stability)
        make_prefect_home()
        from flows.sweep import sweep as sweep_flow

        settings = checked.model_dump(mode="json", exclude={"limits", "runner"})
        with working(checked.runner, home()):
            result = sweep_flow(settings, str(home()), fresh, strict, checked.limits.minutes)
        cells = result["cells"]
        failed = {
            f"{cell['candidate']} against {cell['baseline']} on {cell['data']}": cell["error"]
            for cell in cells
            if cell["error"] is not None
        }
        return with_junit(result, junit, strict, [cell["audit"] for cell in cells if cell["audit"] is not None], failed)

    result = answer(work, as_json, show_sweep, junit=junit)
    raise typer.Exit(result["exit_code"])
