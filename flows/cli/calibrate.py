"""The command `koda calibrate`: models that are held for equal set the limits of a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.destinations import destination
from flows.cli.options import ConfigArgument, JsonOption, SetOption, answer, home, load
from flows.cli.show_calibration import show_calibration
from flows.environment import make_prefect_home
from flows.limits import time_limit
from flows.runners import working
from flows.server import the_own_server

if TYPE_CHECKING:
    from koda.config import AuditConfig


def calibrate(
    config: ConfigArgument,
    equals: Annotated[
        list[str] | None,
        typer.Option(
            "--equals",
            metavar="A B [C ...]",
            help="Models held for equal, such as seeds of one training: names as in the configuration, NAME@WEIGHTS "
            "for an open_clip name, or baseline or candidate.",
        ),
    ] = None,
    subsamples: Annotated[
        int,
        typer.Option(
            "--subsamples", metavar="N", min=1, help="Subsamples that each pair is audited on, beside all rows."
        ),
    ] = 5,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="M", min=1, help="Rows of each; default: half of the data.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the policy there too, as YAML.")
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audit models held for equal against each other, and write a policy with limits beyond what they show."""

    def work() -> dict[str, Any]:
        the_own_server().begin()
        checked = load(config, set_)
        _check_out(out, config)
        with destination("--out", out, "file"):
            return calibrated(checked)

    def calibrated(checked: AuditConfig) -> dict[str, Any]:
        from koda.calibration.models import equal_models
        from koda.storage import write_atomically

        specs = equal_models(equals or [], checked, config.absolute().parent)
        make_prefect_home()
        from flows.calibrate import calibrate as calibrate_flow

        models = [spec.model_dump(mode="json") for spec in specs]
        with time_limit(checked.limits.minutes), working(checked.runner, home()):
            result = calibrate_flow(checked.settings(), str(home()), models, subsamples, size)
        if out is None:
            return result
        write_atomically(out, Path(result["paths"]["policy"]).read_bytes())
        return {**result, "paths": {**result["paths"], "out": str(out.absolute())}}

    answer(work, as_json, show_calibration)


def _check_out(out: Path | None, config: Path) -> None:
    """Refuse, before anything runs, to write the policy over what it was made from."""
    from koda.errors import ConfigError

    if out is not None and out.resolve() == config.resolve():
        raise ConfigError(
            f"--out {out} is the configuration itself.", "Give the name of another file, such as policy.yaml."
        )
