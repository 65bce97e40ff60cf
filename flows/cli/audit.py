"""The commands that look for discrepancies between two models: `koda audit`, `koda demo` and `koda compare`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.destinations import destination
from flows.cli.options import (
    ConfigArgument,
    FreshOption,
    JsonOption,
    JunitOption,
    SetOption,
    StrictOption,
    answer,
    home,
    load,
    settings_of,
    with_junit,
)
from flows.cli.show_audit import comparing, show_comparison, show_result
from flows.environment import make_prefect_home
from flows.failures import code_of_verdict
from flows.limits import time_limit
from flows.runners import working
from flows.server import the_own_server
from flows.telling import tell_of
from flows.terminal import watch

if TYPE_CHECKING:
    from koda.audit.plan import AuditPlan
    from koda.config import AuditConfig


def audit(
    config: ConfigArgument,
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Audit a candidate model against a baseline on a data set."""
    _audit(lambda: load(config, set_), fresh, strict, junit, as_json)


def demo(
    pair: Annotated[str, typer.Option(help="Which models: regressed, colour or self.")] = "regressed",
    set_: SetOption = None,
    fresh: FreshOption = False,
    strict: StrictOption = False,
    junit: JunitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run an audit on the embedded data and models: three tiny CLIPs, one of them regressed."""

    def configuration() -> AuditConfig:
        from flows.demo import demo_config

        return demo_config(pair, home(), settings_of(set_))

    _audit(configuration, fresh, strict, junit, as_json)


def compare(
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Embeddings whose structure is looked for.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="Embeddings that should lack it.")],
    set_: SetOption = None,
    both: Annotated[bool, typer.Option("--both", help="Ask the reverse question too.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Write the slices to a folder.")] = None,
    join: Annotated[
        Literal["keys", "rows"], typer.Option(help="How samples are matched; rows: the same samples in the same order.")
    ] = "keys",
    as_json: JsonOption = False,
) -> None:
    """Compare two embedding folders, without models: find what TARGET ties together and REFERENCE does not.

    A folder holds img_emb/img_emb_0.npy, text_emb/text_emb_0.npy, or both,
    and metadata/metadata_0.parquet with a column `key`; or koda's own shards,
    as `koda export` writes them. "The layout of an embedding folder" in the
    README has all of it, and an example.
    """

    def work() -> dict[str, Any]:
        from koda.compare import compare_folders, summarise

        settings = settings_of(set_)
        with destination("--out", out), comparing(target, reference):
            return summarise(compare_folders(target, reference, settings, both=both, out=out, join=join))

    answer(work, as_json, show_comparison)


def _audit(
    configuration: Callable[[], AuditConfig], fresh: bool, strict: bool, junit: Path | None, as_json: bool
) -> None:
    """Run an audit, print its result and exit with the code of its verdict."""

    def work() -> dict[str, Any]:
        the_own_server().begin()
        checked = configuration()
        result = tell_of(checked, home(), lambda: _run(checked, fresh))
        return with_junit(result, junit, strict, [result["id"]])

    result = answer(work, as_json, show_result, junit=junit)
    raise typer.Exit(code_of_verdict(result["verdict"], strict))


def _run(config: AuditConfig, fresh: bool) -> dict[str, Any]:
    """Prepare an audit, so that what is wrong is said at once, and run its flow in this process."""
    begun = time.monotonic()
    from koda.audit.plan import prepare
    from tasks.plans import hand_over

    with time_limit(config.limits.minutes), working(config.runner, home()):
        plan = hand_over(prepare(config, home()))
        make_prefect_home()
        with watch(plan):
            from flows.audit import audit as audit_flow

            _meanwhile(plan)
            result = audit_flow(plan.settings, str(plan.home), fresh, "command")
    return {**result, "seconds_total": round(time.monotonic() - begun, 3)}


def _meanwhile(plan: AuditPlan) -> None:
    """Do beside the start of the server what the run would do when it has started."""
    import pyarrow as pa

    pa.array([])  # it loads pandas, where that is installed
    plan.needs()  # the key of the report is that of its fonts too, which are read for it
