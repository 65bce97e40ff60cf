"""The commands that look before anything runs, at models, data, figures and the machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import ConfigArgument, JsonOption, SetOption, answer, load
from flows.cli.show_changes import show_figures
from flows.cli.show_inputs import show_checks, show_data, show_models
from flows.cli.show_settings import show_settings
from flows.cli.strict_json import strict_json
from flows.environment import koda_home

if TYPE_CHECKING:
    from koda.checks import Check
    from koda.config.reference import Setting
    from koda.policy import Figure


def models(config: ConfigArgument, set_: SetOption = None, as_json: JsonOption = False) -> None:
    """Show the models that a configuration names, by fingerprint, without running anything."""

    def work() -> dict[str, Any]:
        from koda.models.inspection import look_at_models

        return look_at_models(load(config, set_))

    answer(work, as_json, show_models)


def data(
    config: ConfigArgument,
    set_: SetOption = None,
    page: Annotated[int, typer.Option("--page", metavar="N", help="Which page of samples.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show the data that a configuration names: counts, what is left out and why, a page of samples."""

    def work() -> dict[str, Any]:
        from koda.datasets.inspection import look_at_data

        return look_at_data(load(config, set_), page)

    answer(work, as_json, show_data)


def config(as_json: JsonOption = False) -> None:
    """List every setting of a configuration: its type, its default and what it means."""

    def work() -> dict[str, list[Setting]]:
        from koda.config.reference import audit_settings, sweep_settings

        return {"audit": audit_settings(), "sweep": sweep_settings()}

    answer(work, as_json, show_settings, _settings_json)


def figures(as_json: JsonOption = False) -> None:
    """List the figures that the rules of a policy may limit."""

    def work() -> Mapping[str, Figure]:
        from koda.policy import FIGURES

        return FIGURES

    answer(work, as_json, show_figures, _figures_json)


def doctor(
    store: Annotated[
        bool,
        typer.Option("--store", help="Look at what KODA_HOME holds instead: is it whole, does it agree with itself."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at what is installed, which device there is, can a PDF be made; exit with 3 if no audit can run.

    With --store exit with 1 if something in KODA_HOME is at fault.
    """

    def work() -> list[Check]:
        if store:
            from flows.store_check import look_at_store

            return look_at_store(koda_home())
        from flows.prefect_check import look_at_prefect
        from koda.doctor import examine

        return examine(koda_home(), [look_at_prefect])

    checks = answer(work, as_json, show_checks, _checks_json)
    raise typer.Exit(0 if _healthy(checks) else 1 if store else 3)


def _figures_json(figures: Mapping[str, Figure]) -> str:
    names = ("words", "bad", "unit", "of_a_finding")
    rows = {name: {part: getattr(figure, part) for part in names} for name, figure in figures.items()}
    return strict_json(rows)


def _settings_json(settings: dict[str, list[Setting]]) -> str:
    return strict_json({name: [vars(setting) for setting in part] for name, part in settings.items()})


def _checks_json(checks: list[Check]) -> str:
    return strict_json({"healthy": _healthy(checks), "checks": [vars(check) for check in checks]})


def _healthy(checks: list[Check]) -> bool:
    return all(check.state != "fault" for check in checks)
