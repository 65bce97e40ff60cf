"""The command `koda serve`: audits by the clock, of new checkpoints, and from Prefect's UI."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flows.cli.options import ConfigArgument, SetOption, answer, home, settings_of

if TYPE_CHECKING:
    from flows.service import Service


def serve(config: ConfigArgument, set_: SetOption = None) -> None:
    """Run audits by the clock and of every new checkpoint, and serve them in Prefect's UI, until it is ended."""

    def work() -> None:
        settings_of(set_)  # which says what is wrong with them
        os.environ["KODA_HOME"] = str(home())
        from flows.environment import make_prefect_home
        from flows.service import service_of

        overrides = {key.strip(): value for key, _, value in (item.partition("=") for item in set_ or [])}
        service = service_of(config, overrides, home())
        make_prefect_home()
        from flows.serve import serve

        serve(service, lambda url, taken_up: _show(service, url, taken_up))

    answer(work, False, lambda _: None)


def _show(service: Service, url: str, taken_up: list[str]) -> None:
    """Say what is served, where, and how to end it."""
    from flows.terminal import console, escape, say

    console.print(f"[bold]koda serves[/] {escape(str(service.path))} at {escape(url)}")
    say(f"by hand: koda-audit/{escape(service.name)}")
    schedule, watched, due = service.config.schedule, service.config.watch, service.next_audit()
    if schedule is not None and due is not None:
        say(
            f"by the clock: koda-audit/{escape(service.name)}-schedule, {escape(schedule.cron)} "
            f"({escape(schedule.timezone)}); next {due:%a %Y-%m-%d %H:%M %Z}"
        )
    if watched is not None:
        every = f"every {service.seconds_between_looks:g} s (koda-watch/{escape(service.name)})"
        say(
            f"checkpoints: {escape(watched.path)}, {every} or on the event koda.checkpoint.ready; audited by "
            f"koda-checkpoint/{escape(service.name)}"
        )
    for line in service.missing:
        say(f"[yellow]{escape(line)}[/]")
    for name in taken_up:
        say(f"taken up again, as it was broken off: {escape(name)}")
    say(f"results: {escape(str(service.home))}")
    say("Ctrl-C or SIGTERM ends it, and the runs that go on; the next koda serve takes them up.")
    console.file.flush()
