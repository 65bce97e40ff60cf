"""What people see of an alignment."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from flows.terminal import VERDICT_LOOKS, console, escape, short_path, show_notes, show_steps
from koda.units import measured

_WITHIN_THE_MODEL = ("weights", "config", "record")  # paths that the model's folder says already
_STATES = {"before": "before", "after": "aligned", "teacher": "teacher"}


def show_alignment(result: dict[str, Any]) -> None:
    """Show what was mended and the verdict after, then scores, findings, both audits, and where the model is."""
    symbol, colour = VERDICT_LOOKS[result["verdict_after"]]
    outcome = result["outcome"][0].upper() + result["outcome"][1:]
    console.print(f"\n[bold {colour}]{symbol} {result['verdict_after'].upper()}[/]  [bold]{escape(outcome)}.[/]")
    console.print(
        f"[bold]{escape(result['student'])}[/] aligned with [bold]{escape(result['teacher'])}[/]  {result['id']}"
    )
    console.print(f"  {escape(result['stopped'])}; the weights of step {result['kept_step']} were kept")
    table = Table("clusters against slices", "AMI", "NMI", "ARI", box=None, padding=(0, 2))
    for row in result["scores"]:
        name = f"{row['sample']}, {_STATES[row['state']]}"
        table.add_row(name, *(_spread(row[score]) for score in ("ami", "nmi", "ari")))
    console.print(table)
    for sample, spread in result["recoveries"].items():
        console.print(f"  recovered {sample}: {_spread(spread)} of the difference in AMI")
    for retest in result["retests"]:
        after, p = retest["after"], retest["p_after"]
        significance = "" if p is None else f", p = {p:.2g}"
        console.print(
            f"  {retest['finding']}: difference {measured(retest['before']['value'])} -> {measured(after['value'])} "
            f"on new samples{significance}"
        )
    before, after = (VERDICT_LOOKS[result[name]] for name in ("verdict_before", "verdict_after"))
    console.print(
        f"\n  audit [{before[1]}]{before[0]} {result['verdict_before'].upper()}[/] {result['audit_before']} -> "
        f"[bold {after[1]}]{after[0]} {result['verdict_after'].upper()}[/] {result['audit_after']}"
    )
    for reason in result["reasons"]:
        console.print(f"  {escape(reason)}")
    console.print()
    for name, path in result["paths"].items():
        if name in _WITHIN_THE_MODEL:
            continue
        console.print(f"  {name.replace('_', ' '):<14} {escape(short_path(path))}", soft_wrap=True)
    show_notes(result["notes"])
    show_steps(result)


def _spread(spread: dict[str, Any]) -> str:
    deviation = spread["deviation"]
    return f"{spread['mean']:.3f}" + ("" if deviation is None else f" ± {deviation:.3f}")
