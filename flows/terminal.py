"""What people see in the terminal: what a command was asked for on stdout, progress and notes on stderr.

All of it goes through these two consoles, so that nothing in the user's data, names or paths reaches the terminal as
anything but text.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich import markup
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.text import Text

from flows import logs
from koda.wording import counted, one_line, printable
from tasks.progress import Listener, listen, unlisten

if TYPE_CHECKING:
    from koda.audit.plan import AuditPlan
    from koda.audit.runs import StepCost

_SECONDS_BETWEEN_LINES = 10.0  # of a step's progress in a log
UNBROKEN = 10_000  # columns of what is no terminal: a line is then a line, for grep and for files


def stop_printing() -> None:
    """Send the rest of stdout nowhere, so that neither a print nor the end of the process fails by it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _SafeConsole(Console):
    """A console that shows control characters instead of sending them, and breaks no lines but those of a terminal."""

    def __init__(self, *, stderr: bool = False) -> None:
        # without emoji, since a label such as :red_circle: is to stay what it is
        super().__init__(stderr=stderr, highlight=False, emoji=False)

    @property  # type: ignore[misc] # nobody sets it here
    def size(self) -> ConsoleDimensions:
        """Return the size of the terminal; a file or a pipe has no width, unless COLUMNS states one."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(UNBROKEN, 25)

    @property
    def is_terminal(self) -> bool:
        """Whether it draws on a terminal, which a log of JSON lines never is."""
        return not self._is_log and super().is_terminal

    @property
    def file(self) -> IO[str]:
        """Where it prints: what is said beside the result may be wanted as JSON lines."""
        return logs.NOTES if self._is_log else super().file  # type: ignore[return-value]

    @file.setter
    def file(self, new: IO[str]) -> None:
        self._file = new

    @property
    def _is_log(self) -> bool:
        return self.stderr and logs.as_json()

    def on_broken_pipe(self) -> None:
        """Print no more where nobody reads on (`koda audit ... | head`): the exit code is still the verdict's."""
        stop_printing()

    def render_str(self, text: str, **options: Any) -> Text:
        """Spell out control characters before the text is measured and laid out."""
        return super().render_str(printable(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Spell them out too in what came as ready text; the console's own cursor movements are segments apart."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else printable(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)


console = _SafeConsole()
notes = _SafeConsole(stderr=True)
VERDICT_LOOKS = {
    "pass": ("✓", "green"),
    "warn": ("!", "yellow"),
    "fail": ("✕", "red"),
    "inconclusive": ("?", "magenta"),
}


def escape(text: str) -> str:
    """Make text from outside part of a line: its markup, control characters and ends of lines are shown as such."""
    return markup.escape(one_line(text))


def escape_lines(text: str) -> str:
    """Make text of several lines, such as a message with its remedy, part of what is printed."""
    return markup.escape(printable(text))


@contextlib.contextmanager
def watch(plan: AuditPlan) -> Iterator[None]:
    """Say what is audited, and show the progress of its steps."""
    data = plan.dataset
    candidate, baseline = plan.label("candidate"), plan.label("baseline")
    size = counted(len(data.pairs), "pair") + (f", {len(data.rejections)} rejected" if data.rejections else "")
    with logs.fields(audit=plan.audit_id):
        if logs.as_json():
            words = f"{candidate} against {baseline} on {data.name}: {size}"
            logs.log("audit started", words, candidate=candidate, baseline=baseline, data=data.name)
        else:
            notes.print(
                f"[bold]{escape(candidate)}[/] against [bold]{escape(baseline)}[/] on {escape(data.name)}: {size}"
            )
        with follow():
            yield


@contextlib.contextmanager
def follow() -> Iterator[None]:
    """Show the progress of the steps and how long each took: a bar on a terminal, a line a step elsewhere."""
    with _logger() if logs.as_json() else _follower() as tell:
        listen(tell)
        try:
            yield
        finally:
            unlisten(tell)


@contextlib.contextmanager
def _logger() -> Iterator[Listener]:
    """Log the beginning and the end of each step, and now and then how far it is."""
    last = {"said": time.monotonic()}

    def log_step(step: str, done: int, total: int, cost: StepCost | None) -> None:
        if cost is not None:
            words = f"{step}: {cost.seconds:.1f} s"
            took = {name: value for name, value in asdict(cost).items() if name not in ("name", "executed")}
            logs.log("step finished", words, step=cost.name, cached=not cost.executed, **took)
        elif total == 1:
            logs.log("step started" if done == 0 else "progress", step, step=step)
        elif time.monotonic() - last["said"] > _SECONDS_BETWEEN_LINES:
            logs.log("progress", f"{step}: {done} of {total}", step=step, done=done, total=total)
        else:
            return
        last["said"] = time.monotonic()

    yield log_step


@contextlib.contextmanager
def _follower() -> Iterator[Listener]:
    """Return what is told of each step: its name, how far it is, and of how much; it begins at 0 and ends at 1 of 1."""
    clock = {"begun": time.monotonic()}

    def over(step: str, done: int, total: int) -> str | None:
        """Say how long a step took by itself, once it is over."""
        if done == 0:
            clock["begun"] = time.monotonic()
        if not done == total == 1:
            return None
        return f"{escape(step)}: {time.monotonic() - clock['begun']:.1f} s"

    if not notes.is_terminal:

        def print_step(step: str, done: int, total: int, cost: StepCost | None) -> None:
            if (line := over(step, done, total)) is not None:
                notes.print(f"  {line}")

        yield print_step
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=notes, transient=True) as progress:
        bar = progress.add_task("starting the flow", total=None)

        def draw(step: str, done: int, total: int, cost: StepCost | None) -> None:
            if (line := over(step, done, total)) is not None:
                progress.console.print(f"  [green]✓[/] {line}")
            else:
                progress.update(bar, description=step, completed=done, total=total if total > 1 else None)

        yield draw


def fits(table: RenderableType) -> bool:
    """Tell whether the terminal is wide enough for a table whose lines are not to be broken."""
    return console.measure(table, options=console.options.update(width=UNBROKEN)).maximum <= console.width


def say(text: str, indent: int = 2, to: Console = console) -> None:
    """Print text that stays indented where it has to be broken."""
    to.print(Padding(text, (0, 0, 0, indent), expand=False))


def show_notes(lines: Sequence[str]) -> None:
    """Show what the reader should know of how a result came out, beside the result."""
    for line in lines:
        if logs.as_json():
            logs.log("note", printable(line), "warning")
        else:
            say(f"[yellow]note[/] {escape_lines(line)}", to=notes)


def show_steps(result: dict[str, Any]) -> None:
    """Say how many steps a run executed, how many were there, and how long all of it took."""
    total = result["steps_executed"] + result["steps_cached"]
    notes.print(
        f"  {counted(result['steps_executed'], 'step')} executed, {result['steps_cached']} of {total} cached, "
        f"{result.get('seconds_total', result['seconds']):.1f} s in all"
    )


def short_path(path: str) -> str:
    """A path relative to the working directory, where that is shorter."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return path
