"""What people see of an audit, of a comparison and of the history; all of it goes to stderr."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows.environment import koda_home
from flows.terminal import VERDICT_LOOKS, console, say, short_path, show_steps

if TYPE_CHECKING:
    from koda.audit.rebuilding import Rebuilt
    from koda.records import AlignmentRecord, AuditRecord, Estimate


_SHOWN = 5  # findings of a theme; the report has all


def show_result(result: dict[str, Any]) -> None:
    """Show the verdict of an audit, its reasons, and where the report is."""
    symbol, colour = VERDICT_LOOKS[result["verdict"]]
    console.print(f"\n[bold {colour}]{symbol} {result['verdict'].upper()}[/]  {result['id']}")
    for reason in result["reasons"]:
        say(escape(reason))
    lines = {f"{finding['side']} {finding['direction']}": _finding_line(finding) for finding in result["findings"]}
    for theme in result["themes"]:
        alone = len(theme["findings"]) == 1
        if not alone:
            say(_theme_line(theme, result["findings"]))
        for place, name in enumerate(theme["findings"]):
            line = lines.pop(name)
            if place < _SHOWN:
                say(line, 2 if alone else 4)
        if len(theme["findings"]) > _SHOWN:
            say(f"and {len(theme['findings']) - _SHOWN} more", 4)
    for line in lines.values():  # of a record without themes
        say(line)
    if result["could_have_seen"]:
        say(escape(result["could_have_seen"]))
    console.print()
    for name, path in result["paths"].items():
        if path is not None:
            console.print(f"  {name:<9} {escape(short_path(path))}", soft_wrap=True)
    for note in result["notes"]:
        console.print(f"  [yellow]note[/]      {escape(note)}")
    show_steps(result)


def _theme_line(theme: dict[str, Any], findings: Sequence[dict[str, Any]]) -> str:
    """Say what a theme is, the share of its strongest finding, and how many directions and samples it has."""
    shares = {f"{finding['side']} {finding['direction']}": finding["target_share"] for finding in findings}
    return (
        f"{theme['side']}: [bold]{escape(theme['name'])}[/]; share {shares[theme['findings'][0]]:.4f}; "
        f"{_extent(len(theme['findings']), theme['size'])}"
    )


def _extent(n_directions: int, n_samples: int) -> str:
    directions = "1 direction" if n_directions == 1 else f"{n_directions} directions"
    return f"{directions}, {n_samples} {'sample' if n_samples == 1 else 'samples'}"


def _finding_line(finding: dict[str, Any]) -> str:
    title = escape(finding["name"]) or "no common words"
    mark = "[bold]confirmed[/]" if finding["confirmed"] else "not confirmed"
    return (
        f"{finding['side']} {finding['direction']}: {title}; share {finding['target_share']:.4f} against "
        f"{finding['reference_share']:.4f}, {mark}"
    )


@contextlib.contextmanager
def comparing(target: Path, reference: Path) -> Iterator[None]:
    """Show that two folders are being compared."""
    names = f"[bold]{escape(short_path(str(target)))}[/] against [bold]{escape(short_path(str(reference)))}[/]"
    with console.status(f"comparing {names}"):
        yield


def show_comparison(result: dict[str, Any]) -> None:
    """Show what the comparison of two folders found, from what `--json` prints."""
    rejected = result["rejected"]
    console.print(f"[bold]{result['n']}[/] samples compared, {rejected['count']} left out")
    for reason, count in list(rejected["reasons"].items())[:5]:
        key = next((repr(key) for key, why in rejected["first"].items() if why == reason), None)
        console.print(f"  {count}: {escape(reason)}" + (f" ({'such as ' * (count > 1)}{escape(key)})" if key else ""))
    _show_question(result)
    if "reverse" in result:
        _show_question(result["reverse"])
    console.print()
    for name, path in result["paths"].items():
        console.print(f"  {name:<10} {escape(short_path(path))}", soft_wrap=True)
    for note in result["notes"]:
        console.print(f"  [yellow]note[/]       {escape(note)}")
    console.print(f"\n  {result['seconds']:.1f} s")


def _show_question(question: dict[str, Any]) -> None:
    """Show the directions of one question of a comparison."""
    target, reference = (escape(short_path(question[role])) for role in ("target", "reference"))
    console.print(f"\nWhat [bold]{target}[/] ties together and [bold]{reference}[/] does not")
    table = Table(box=None)
    for name in ("", "quotient", "target share", "reference share", "gap", "size"):
        table.add_column(name, justify="right", no_wrap=True)
    lobes = [(direction["positive"], direction["negative"]) for direction in question["directions"]]
    worded = any(lobe["words"] or lobe["metadata"] for pair in lobes for lobe in pair)
    if worded:
        table.add_column("lobes")
    for direction, pair in zip(question["directions"], lobes, strict=True):
        figures = (
            str(direction["direction"]),
            "∞" if direction["quotient"] is None else f"{direction['quotient']:.2f}",
            f"{direction['target_share']:.4f}",
            f"{direction['reference_share']:.4f}",
            "n/a" if direction["gap"] is None else f"{direction['gap']:.0e}",
            " + ".join(str(lobe["size"]) for lobe in pair),
        )
        table.add_row(*figures, *([escape(f"+ {pair[0]['name']}\n- {pair[1]['name']}")] if worded else []))
    if lobes:
        console.print(table)
    console.print(f"  {escape(question['status'])}")


def show_history(audits: list[dict[str, Any]]) -> None:
    """Show a table of audits."""
    if not audits:
        console.print("There is no audit yet. Begin with: koda demo")
        return
    table = Table("id", "verdict", "candidate", "baseline", "data", "n", "last run (UTC)", box=None)
    table.columns[0].min_width = max(len(audit["id"]) for audit in audits)  # else a narrow terminal cuts what is typed
    table.columns[-1].min_width = len("2026-11-23")
    for audit in audits:
        symbol, colour = VERDICT_LOOKS[audit["verdict"]]
        when = audit["last_run"] or audit["ended"]
        table.add_row(
            audit["id"],
            f"[{colour}]{symbol} {audit['verdict']}[/]",
            escape(audit["candidate"]),
            escape(audit["baseline"]),
            escape(audit["dataset"]),
            str(audit["n_compared"]),
            f"{when:%Y-%m-%d %H:%M}",
        )
    console.print(table)
    for audit in audits:
        if audit["files"] != "there":
            what = "is gone" if audit["files"] == "gone" else "is damaged: koda verify shows what changed"
            console.print(f"  the folder of {audit['id']} {what}", soft_wrap=True)
    if any(audit["stored"] is None for audit in audits):
        console.print("  another program has the database open: this is what the folders of the audits tell")
    elif unstored := sum(not audit["stored"] for audit in audits):
        console.print(
            f"  {unstored} of them are in their folders alone: the next run stores what waits to be stored, and "
            "koda history --rebuild all",
            soft_wrap=True,
        )
    for audit in audits:
        if audit["aligned_after"]:
            console.print(f"  {audit['id']} is of a model aligned after {audit['aligned_after']}", soft_wrap=True)


def show_rebuilt(rebuilt: Rebuilt) -> None:
    """Say what a rebuilt database holds, and where the former one is."""
    console.print(f"the database holds {rebuilt.audits} audits, {rebuilt.alignments} alignments, {rebuilt.runs} runs")
    if rebuilt.kept is not None:
        console.print(f"  the former one is kept as {escape(short_path(rebuilt.kept))}", soft_wrap=True)
    for note in rebuilt.notes:
        console.print(f"  [yellow]note[/] {escape(note)}", soft_wrap=True)


def show_record(record: AuditRecord) -> None:
    """Show an audit's verdict, rules and findings."""
    symbol, colour = VERDICT_LOOKS[record.verdict.status]
    console.print(f"[bold {colour}]{symbol} {record.verdict.status.upper()}[/]  {record.id}  {escape(record.title)}")
    for reason in record.verdict.reasons:
        say(escape(reason))
    if record.controls is not None and record.controls.spike_ins:
        say(escape(record.controls.in_words()))
    if record.alignment is not None:
        console.print(f"  {escape(_alignment_line(record.alignment, record.method.alpha))}", soft_wrap=True)
    for theme in record.themes:
        say(f"{theme.side}: [bold]{escape(theme.name)}[/]; {_extent(len(theme.findings), theme.size)}")
    unit = "raw share" if record.method.share_unit == "raw" else "share"
    table = Table("side", "name", f"target {unit}", f"reference {unit}", "p", "confirmed", box=None)
    for finding in record.findings:
        table.add_row(
            f"{finding.side} {finding.direction}",
            escape(finding.title),
            _interval(finding.target_share),
            _interval(finding.reference_share),
            "n/a" if finding.p_value is None else f"{finding.p_value:.2g}",
            {True: "yes", False: "no", None: "untested"}[finding.confirmed],
        )
    if record.findings:
        console.print(table)
    console.print(f"  {escape(short_path(str(koda_home() / 'audits' / record.id)))}")


def show_verification(result: dict[str, Any]) -> None:
    """Show for each file of an audit whether it is still the one that was written."""
    for name, state in result["files"].items():
        typer.echo(f"  ✓ {name}: unchanged" if state == "ok" else f"  ✕ {name}: {state}", err=True)


def _alignment_line(alignment: AlignmentRecord, alpha: float) -> str:
    """Say who learnt from whom, how much of the clusters came back, after which audit, and what was mended."""
    from koda.records import mending_of

    recovered = "" if alignment.recovery is None else f", recovered {alignment.recovery:.2f} of the AMI held out"
    mending = mending_of(alignment, alpha).sentence
    return f"aligned: {alignment.student} with {alignment.teacher}{recovered}, from {alignment.audit_id}; {mending}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4f}"
    return f"{estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]".replace("[", "\\[")
