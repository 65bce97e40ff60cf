"""What people see of an audit, of a comparison and of the history."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from flows.environment import koda_home
from flows.terminal import VERDICT_LOOKS, console, escape, fits, notes, say, short_path, show_notes, show_steps
from koda.units import bracketed, measured
from koda.wording import counted

if TYPE_CHECKING:
    from koda.audit.rebuilding import Rebuilt
    from koda.records import AlignmentRecord, AuditRecord, Estimate


_SHOWN = 5  # findings of a theme; the report has all
_ENDED = {"failed": "failed", "cancelled": "was stopped", "timed out": "took too long", "crashed": "crashed"}
_NONE_CONFIRMED = "no finding is confirmed"


def show_result(result: dict[str, Any]) -> None:
    """Show the verdict of an audit, its reasons, and where the report is."""
    symbol, colour = VERDICT_LOOKS[result["verdict"]]
    console.print(f"\n[bold {colour}]{symbol} {result['verdict'].upper()}[/]  {result['id']}")
    for reason in result["reasons"]:
        say(escape(reason))
    if not any(finding["confirmed"] for finding in result["findings"]):
        say(_NONE_CONFIRMED)
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
    if result["not_judged"]:
        say(escape(f"Not judged: {'; '.join(result['not_judged'])}."))
    console.print()
    for name, path in result["paths"].items():
        if path is not None:
            console.print(f"  {name:<9} {escape(short_path(path))}", soft_wrap=True)
    show_notes(result["notes"])
    show_steps(result)


def _theme_line(theme: dict[str, Any], findings: Sequence[dict[str, Any]]) -> str:
    """Say what a theme is, the share of its strongest finding, and how many directions and samples it has."""
    shares = {f"{finding['side']} {finding['direction']}": finding["target_share"] for finding in findings}
    return (
        f"{theme['side']}: [bold]{escape(theme['name'])}[/]; share {measured(shares[theme['findings'][0]])}; "
        f"{_extent(len(theme['findings']), theme['size'])}"
    )


def _extent(n_directions: int, n_samples: int) -> str:
    return f"{counted(n_directions, 'direction')}, {counted(n_samples, 'sample')}"


def _finding_line(finding: dict[str, Any]) -> str:
    title = escape(finding["name"]) or "no common words"
    mark = "[bold]confirmed[/]" if finding["confirmed"] else "not confirmed"
    return (
        f"{finding['side']} {finding['direction']}: {title}; share {measured(finding['target_share'])} against "
        f"{measured(finding['reference_share'])}, {mark}"
    )


@contextlib.contextmanager
def comparing(target: Path, reference: Path) -> Iterator[None]:
    """Show that two folders are being compared."""
    names = f"[bold]{escape(short_path(str(target)))}[/] against [bold]{escape(short_path(str(reference)))}[/]"
    with notes.status(f"comparing {names}"):
        yield


def show_comparison(result: dict[str, Any]) -> None:
    """Show what the comparison of two folders found, from what `--json` prints."""
    rejected = result["rejected"]
    console.print(f"[bold]{counted(result['n'], 'sample')}[/] compared, {rejected['count']} left out")
    for reason, count in list(rejected["reasons"].items())[:5]:
        key = next((repr(key) for key, why in rejected["first"].items() if why == reason), None)
        console.print(f"  {count}: {escape(reason)}" + (f" ({'such as ' * (count > 1)}{escape(key)})" if key else ""))
    _show_question(result)
    if "reverse" in result:
        _show_question(result["reverse"])
    console.print()
    for name, path in result["paths"].items():
        console.print(f"  {name:<10} {escape(short_path(path))}", soft_wrap=True)
    show_notes(result["notes"])
    notes.print(f"  {result['seconds']:.1f} s in all")


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
            measured(direction["target_share"]),
            measured(direction["reference_share"]),
            "n/a" if direction["gap"] is None else f"{direction['gap']:.0e}",
            " + ".join(str(lobe["size"]) for lobe in pair),
        )
        table.add_row(*figures, *([f"+ {escape(pair[0]['name'])}\n- {escape(pair[1]['name'])}"] if worded else []))
    if lobes:
        console.print(table)
    console.print(f"  {escape(question['status'])}")


def show_history(audits: list[dict[str, Any]], filtered: bool = False) -> None:
    """Show the audits: a line each, or two where the terminal is too narrow for one.

    Args:
        audits: that were found.
        filtered: whether only some were asked for.
    """
    if not audits:
        notes.print("No audit is like that." if filtered else "There is no audit yet. Begin with: koda demo")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("id", "verdict", "n", "last run (UTC)", "candidate", "baseline", "data"):
        table.add_column(column, no_wrap=True)
    for audit in audits:
        table.add_row(*_history_row(audit))
    if fits(table):
        console.print(table)
    else:
        _show_long_history(audits)
    for audit in audits:
        if audit["last_state"] not in (None, "finished"):
            console.print(f"  the last run of {escape(audit['id'])} {_how_ended(audit)}", soft_wrap=True)
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
            ids = escape(audit["id"]), escape(audit["aligned_after"])
            console.print("  {} is of a model aligned after {}".format(*ids), soft_wrap=True)


def show_unfinished(audits: list[dict[str, Any]]) -> None:
    """Show the audits that were begun and never finished, and what became of their last run."""
    for audit in audits:
        when = f"{audit['last_run']:%Y-%m-%d %H:%M}"
        line = f"{escape(audit['id'])} never finished; its last run, {when}, {_how_ended(audit)}"
        console.print(f"  {line}", soft_wrap=True)


def _how_ended(audit: dict[str, Any]) -> str:
    """Say what became of the last run of an audit, which did not finish."""
    state = _ENDED.get(audit["last_state"], escape(audit["last_state"]))
    return f"{state}: {escape(audit['last_error'])}" if audit["last_error"] else state


def _history_row(audit: dict[str, Any]) -> list[str]:
    symbol, colour = VERDICT_LOOKS[audit["verdict"]]
    when = audit["last_run"] or audit["ended"]
    return [
        escape(audit["id"]),
        f"[{colour}]{symbol} {audit['verdict']}[/]",
        str(audit["n_compared"]),
        f"{when:%Y-%m-%d %H:%M}",
        *(escape(audit[name]) for name in ("candidate", "baseline", "dataset")),
    ]


def _show_long_history(audits: list[dict[str, Any]]) -> None:
    """Show each audit in two lines, so that a narrow terminal breaks neither its id nor its date."""
    for audit in audits:
        *line, candidate, baseline, data = _history_row(audit)
        console.print("  ".join(line), soft_wrap=True)
        say(f"{candidate} against {baseline} on {data}", 4)


def show_rebuilt(rebuilt: Rebuilt) -> None:
    """Say what a rebuilt database holds, and where the former one is."""
    notes.print(
        "the database holds "
        f"{counted(rebuilt.audits, 'audit')}, {counted(rebuilt.alignments, 'alignment')}, "
        f"{counted(rebuilt.runs, 'run')}"
    )
    if rebuilt.kept is not None:
        notes.print(f"  the former one is kept as {escape(short_path(rebuilt.kept))}", soft_wrap=True)
    for note in rebuilt.notes:
        notes.print(f"  [yellow]note[/] {escape(note)}", soft_wrap=True)


def show_record(record: AuditRecord) -> None:
    """Show an audit's verdict, rules and findings."""
    symbol, colour = VERDICT_LOOKS[record.verdict.status]
    names = f"{escape(record.id)}  {escape(record.title)}"
    console.print(f"[bold {colour}]{symbol} {record.verdict.status.upper()}[/]  {names}")
    for reason in record.verdict.reasons:
        say(escape(reason))
    if record.controls is not None:
        say(escape(record.controls.in_words()))
    if record.verdict.left_out:
        say(escape(f"Not judged: {'; '.join(record.verdict.left_out)}."))
    if record.alignment is not None:
        console.print(f"  {escape(_alignment_line(record.alignment, record.method.alpha))}", soft_wrap=True)
    if not any(finding.confirmed for finding in record.findings):
        say(_NONE_CONFIRMED)
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


def _alignment_line(alignment: AlignmentRecord, alpha: float) -> str:
    """Say who learnt from whom, how much of the clusters came back, after which audit, and what was mended."""
    from koda.records import mending_of

    recovered = "" if alignment.recovery is None else f", recovered {alignment.recovery:.2f} of the AMI held out"
    mending = mending_of(alignment, alpha).sentence
    return f"aligned: {alignment.student} with {alignment.teacher}{recovered}, from {alignment.audit_id}; {mending}"


def _interval(share: Estimate) -> str:
    return escape(bracketed(share.value, share.low, share.high))
