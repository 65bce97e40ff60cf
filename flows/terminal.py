"""What people see in the terminal; all of it goes to stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tasks.progress import listen, unlisten

if TYPE_CHECKING:
    from koda.audit.plan import AuditPlan

console = Console(stderr=True, highlight=False)
VERDICT_LOOKS = {
    "pass": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✕", "red"),
    "inconclusive": ("?", "magenta"),
}


@contextlib.contextmanager
def watch(plan: AuditPlan) -> Iterator[None]:
    """Say what is audited, and show the progress of its steps."""
    data = plan.dataset
    console.print(
        f"[bold]{escape(plan.label('candidate'))}[/] against [bold]{escape(plan.label('baseline'))}[/] on "
        f"{escape(data.name)}: {len(data.pairs)} pairs"
        + (f", {len(data.rejections)} rejected" if data.rejections else "")
    )
    with follow():
        yield


@contextlib.contextmanager
def follow() -> Iterator[None]:
    """Show the progress of the steps: a bar on a terminal, a line a step elsewhere, with how long each one took."""
    clock = {"begun": time.monotonic()}

    def took(step: str) -> str:
        return f"{escape(step)}: {time.monotonic() - clock['begun']:.1f} s"

    if not console.is_terminal:

        def print_step(step: str, done: int, total: int) -> None:
            if done == 0:
                clock["begun"] = time.monotonic()
            elif done == total == 1:
                console.print(f"  {took(step)}", soft_wrap=True)

        listen(print_step)
        try:
            yield
        finally:
            unlisten(print_step)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("starting the flow", total=None)

        def draw(step: str, done: int, total: int) -> None:
            if done == 0:
                clock["begun"] = time.monotonic()
            if done == total == 1:
                progress.console.print(f"  [green]✓[/] {took(step)}")
            else:
                progress.update(bar, description=step, completed=done, total=total if total > 1 else None)

        listen(draw)
        try:
            yield
        finally:
            unlisten(draw)


def say(text: str, indent: int = 2) -> None:
    """Print text that stays indented where it has to be broken."""
    console.print(Padding(text, (0, 0, 0, indent), expand=False))


def show_steps(result: dict[str, Any]) -> None:
    """Say how many steps a run executed, how many were there, and how long it took."""
    total = result["steps_executed"] + result["steps_cached"]
    console.print(
        f"\n  {result['steps_executed']} steps executed, {result['steps_cached']} of {total} cached, "
        f"{result.get('seconds_total', result['seconds']):.1f} s"
    )


def short_path(path: str) -> str:
    """A path relative to the working directory, where that is shorter."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
