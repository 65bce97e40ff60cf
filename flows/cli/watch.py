"""The command that looks for new checkpoints and audits them: `koda watch`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import JsonOption, SetOption, answer, home, settings_of
from flows.environment import make_prefect_home, profile_settings

if TYPE_CHECKING:
    from koda.checkpoints import Happened
    from koda.config import AuditConfig


def watch(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration, with a section `watch`.")],
    once: Annotated[bool, typer.Option("--once", help="End when what stands still is audited.")] = False,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look for new checkpoints and audit each against the baseline, once.

    It goes on until it is ended by a signal. With --json it prints one JSON object a line; with --once a single one.
    """
    if once:
        result = answer(lambda: _once(_ready(config, set_), as_json), as_json, lambda _: None)
        raise typer.Exit(result["exit_code"])
    answer(lambda: _go_on(_ready(config, set_), as_json), False, lambda _: None)


def _ready(config: Path, set_: list[str] | None) -> AuditConfig:
    """Read the configuration, and ask the Prefect server that is set, so that what is wrong is said before a look."""
    from flows.telling import check_following
    from koda.checkpoints import watched
    from koda.config import load_config

    loaded = load_config(config, settings_of(set_), without_candidate=True)
    watched(loaded)
    check_following(loaded)
    if "PREFECT_API_URL" in os.environ or "PREFECT_API_URL" in profile_settings():
        make_prefect_home()
        from flows.engine import ask_server_if_set

        ask_server_if_set()
    return loaded


def _once(config: AuditConfig, as_json: bool) -> dict[str, Any]:
    """Look until everything stands still that is not being written, and audit what is new."""
    from flows.cli.show_checkpoints import event_of
    from flows.terminal import console, notes
    from koda.checkpoints import watched
    from koda.wording import counted

    section, round_ = watched(config), _Round(config, home(), None if as_json else _show)
    for number in range(section.settle):
        unsettled = round_.run()
        if not unsettled or number == section.settle - 1:
            break
        who, still = counted(len(unsettled), "checkpoint"), "stands still" if len(unsettled) == 1 else "stand still"
        notes.print(f"waiting {section.every:g} s to see whether {who} {still}")
        time.sleep(section.every)
    if not as_json and not round_.happened and not round_.trouble:
        console.print(f"looked at {counted(round_.found, 'checkpoint')}: nothing new{_not_still(len(unsettled))}")
    return {
        "exit_code": round_.exit_code,
        "audits": round_.results,
        "events": [event_of(each, home()) for each in round_.happened],
        "unsettled": unsettled,
        "trouble": round_.trouble,
        "notes": round_.notes,
    }


def _not_still(unsettled: int) -> str:
    """Say how many checkpoints are left for a later look."""
    if unsettled == 0:
        return ""
    return f", {unsettled} {'does' if unsettled == 1 else 'do'} not stand still yet"


def _go_on(config: AuditConfig, as_json: bool) -> None:
    """Look again and again; what fails for a time is said, and the next look tries again."""
    from flows.failures import in_words
    from flows.terminal import escape, notes
    from koda.checkpoints import watched
    from koda.errors import ConfigError

    section, round_ = watched(config), _Round(config, home(), _print if as_json else _show)
    notes.print(f"watching {escape(section.path)} every {section.every:g} s")
    while True:
        begun = time.monotonic()
        try:
            round_.run()
        except ConfigError:
            raise
        except Exception as error:
            foreseen = in_words(error)
            if foreseen is None:
                raise
            round_.say(str(foreseen))
        round_.forget()
        time.sleep(max(0.0, section.every - (time.monotonic() - begun)))


class _Round:
    """Looks, each followed by the audits of what it found, and what there is to tell of them."""

    def __init__(self, config: AuditConfig, where: Path, tell: Callable[[Happened, Path], None] | None) -> None:
        self._config, self._home, self._tell = config, where, tell
        self.found = 0
        self.happened: list[Happened] = []
        self.results: list[dict[str, Any]] = []
        self.trouble: list[str] = []
        self.notes: list[str] = []
        self._said: set[str] = set()
        self._lasting: set[str] = set()

    def run(self) -> list[str]:
        """Make a look and audit what it found; return the places of what does not stand still yet."""
        from flows.watch import survey, take_up

        self.trouble = []  # what was mended since is none any more
        seen, notes = survey(self._config, self._home)
        self.found = seen.found
        self._add(seen.happened, notes, [str(error) for error in seen.trouble])
        for checkpoint in seen.ready:
            outcome = take_up(self._config, self._home, checkpoint.path)
            trouble = [] if outcome.trouble is None else [str(outcome.trouble)]
            self._add(outcome.happened, outcome.notes, trouble)
            if outcome.result is not None:
                self.results.append(outcome.result)
        return seen.unsettled

    @property
    def exit_code(self) -> int:
        """Return 3 where an audit could not be run, else 1 where a verdict is fail, else 0."""
        if self.trouble or any(each.event == "failed" for each in self.happened):
            return 3
        verdicts = [each.entry.verdict for each in self.happened if each.event == "audited" and each.entry is not None]
        return int("fail" in verdicts)

    def say(self, text: str) -> None:
        """Say something on stderr, unless it was said at this look or the last one: what lasts is said once."""
        from flows.terminal import show_notes

        if text not in self._said and text not in self._lasting:
            show_notes([text])
        self._said.add(text)

    def forget(self) -> None:
        """Keep nothing of a look but what was said, nor memory of the GPU, which those who train need meanwhile."""
        from flows.watch import release

        self._lasting, self._said = self._said, set()
        self.happened, self.results, self.notes = [], [], []
        release()

    def _add(self, happened: list[Happened], notes: list[str], trouble: list[str]) -> None:
        self.happened += happened
        self.trouble += trouble
        self.notes += notes
        if self._tell is not None:
            for each in happened:
                self._tell(each, self._home)
        for text in (*notes, *trouble):
            self.say(text)


def _show(happened: Happened, where: Path) -> None:
    from flows.cli.show_checkpoints import show_event

    show_event(happened, where)


def _print(happened: Happened, where: Path) -> None:
    import json

    from flows.cli.show_checkpoints import event_of
    from koda.wording import printable_json

    typer.echo(printable_json(json.dumps(event_of(happened, where))))
