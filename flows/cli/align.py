"""The command `koda align`: fine-tune a model on what an audit found, and audit it again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.destinations import destination
from flows.cli.options import (
    AUDIT_HELP,
    CONFIG_HELP,
    FreshOption,
    JsonOption,
    SetOption,
    StrictOption,
    answer,
    home,
    load,
    settings_of,
)
from flows.cli.show_alignment import show_alignment
from flows.environment import make_prefect_home
from flows.failures import code_of_verdict
from flows.limits import time_limit
from flows.runners import working
from flows.server import the_own_server
from flows.terminal import watch

if TYPE_CHECKING:
    from koda.config import AuditConfig


def align(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG.yaml]", help=CONFIG_HELP, show_default=False)
    ] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Mend the demo's candidate.")] = False,
    audit: Annotated[
        str | None,
        typer.Option("--audit", metavar="AUDIT", help=f"Take the configuration of a stored audit. {AUDIT_HELP}"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", metavar="N", min=1, help="Alignments; scores get a deviation.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Copy the aligned model to a new folder.")
    ] = None,
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a model on the slices that an audit confirmed, judge it on new samples, and audit it again."""

    def work() -> dict[str, Any]:
        from koda.errors import ConfigError

        if [config is not None, demo, audit is not None].count(True) != 1:
            raise ConfigError("koda align takes one of CONFIG.yaml, --demo and --audit ID.", "See koda align --help.")
        with destination("--out", out):
            if out is not None and out.is_dir() and any(out.iterdir()):
                raise ConfigError(f"--out {out} is not an empty folder.", "Name a folder that does not exist yet.")
            the_own_server().begin()
            result = _run(_configuration(config, audit, set_), seeds, fresh)
            return result if out is None else _with_copy(result, out)

    result = answer(work, as_json, show_alignment)
    raise typer.Exit(code_of_verdict(result["verdict_after"], strict))


def _with_copy(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """Copy the aligned model, and name the copy in the result."""
    from koda.alignment.saving import copy_model

    copy_model(Path(result["paths"]["model"]), out)
    return {**result, "paths": {**result["paths"], "copy": str(out.absolute())}}


def _configuration(config: Path | None, audit: str | None, set_: list[str] | None) -> AuditConfig:
    if config is not None:
        return load(config, set_)
    if audit is None:
        from flows.demo import demo_config

        return demo_config("regressed", home(), settings_of(set_))
    from koda.audit.publishing import read_published
    from koda.audit.rerun import config_of

    return config_of(read_published(home(), audit), settings_of(set_))


def _run(config: AuditConfig, seeds: int, fresh: bool) -> dict[str, Any]:
    """Prepare the audit, so that what is wrong is said at once, and run the flow in this process."""
    begun = time.monotonic()
    from koda.alignment.student import check_student
    from koda.audit.plan import prepare
    from tasks.plans import hand_over

    with time_limit(config.limits.minutes), working(config.runner, home()):
        plan = hand_over(prepare(config, home()))
        check_student(plan.models[plan.config.alignment.student])
        make_prefect_home()
        with watch(plan):
            from flows.align import align as align_flow

            result = align_flow(plan.settings, str(plan.home), seeds, fresh)
    return {**result, "seconds_total": round(time.monotonic() - begun, 3)}
