"""The tables of verdicts.py: each pair, what was said of it over the subsamples, and whether that was right."""

from __future__ import annotations

from collections import Counter
from statistics import fmean
from typing import Any

_TITLES = {
    "folders": "## From folders of embeddings",
    "checkpoints": "## From checkpoints, with the eight colours as zero-shot classes",
}
_RIGHT = {"not fail": "never FAIL", "not pass": "never PASS", "fail": "FAIL"}


def is_right(right: str, status: str) -> bool:
    """Return whether a verdict is one of the right ones."""
    return status == right if right == "fail" else status != right.removeprefix("not ")


def short(result: dict[str, Any]) -> str:
    """Return the verdict in a line: its status, and the rule that decided it."""
    return f"{result['status'].upper()} ({main_reason(result)})"


def main_reason(result: dict[str, Any]) -> str:
    """Return the figure that decided and its value, or the first reason where no rule decided."""
    for rule in result["rules"]:
        if rule["result"] == result["status"] and result["status"] != "pass":
            value = "none" if rule["observed"] is None else f"{rule['observed']:.3g}"
            finding = f", {rule['finding']}" if rule["finding"] else ""
            return f"{rule['figure']} {value}{finding}"
    return str(result["reasons"][0]) if result["reasons"] else "no reason"


def holds(right: str, drop: tuple[float, float, float]) -> bool:
    """Return whether what a case says of its candidate is so: what is to be worse is, beyond the interval of R@1."""
    return right == "not fail" or drop[2] < 0


def table(results: dict[str, Any], right: dict[str, str], what: dict[str, Any]) -> str:
    """Return the Markdown file.

    Args:
        results: way -> case -> one result of each subsample.
        right: case -> which verdicts are right.
        what: what was measured beside, and with which software.
    """
    lines = ["# Are the verdicts right?", "", _introduction(what), ""]
    for way, cases in results.items():
        runs = {name: each for name, each in cases.items() if each}
        counted = [run for name, each in runs.items() if holds(right[name], what["drop"][name]) for run in each]
        n_right = sum(run["right"] for run in counted)
        share = f"{n_right / len(counted):.0%}" if counted else "none"
        seconds = fmean([run["seconds"] for run in counted]) if counted else 0.0
        lines += [
            _TITLES.get(way, way),
            "",
            f"{n_right} of {len(counted)} verdicts are right ({share}, where the goal is 95 %). "
            f"{max(map(len, runs.values()), default=0)} subsamples; an audit took {seconds:.1f} s.",
            "",
        ]
        lines += _rows(runs, right, what)
        lines.append("")
    return "\n".join(lines)


def _rows(runs: dict[str, list[dict[str, Any]]], right: dict[str, str], what: dict[str, Any]) -> list[str]:
    """Return the table of one way, and a list of what decided."""
    zero_shot = any(run["zero_shot"] for each in runs.values() for run in each)
    extra = " zero-shot |" if zero_shot else ""
    lines = [
        f"| candidate | right is | R@1 of pool, change | R@1 | R@10 |{extra} verdicts | right |",
        f"| --- | --- | --- | --- | --- |{' --- |' if zero_shot else ''} --- | ---: |",
    ]
    for name, each in runs.items():
        value, low, high = what["drop"][name]
        said = "not worse, not counted" if not holds(right[name], what["drop"][name]) else _RIGHT[right[name]]
        cells = [name, said, f"{value:+.3f} [{low:+.3f}, {high:+.3f}]", _change(each, "R@1"), _change(each, "R@10")]
        if zero_shot:
            cells.append(_accuracy(each))
        cells += [
            " ".join(run["status"].upper() for run in each),
            f"{sum(run['right'] for run in each)} of {len(each)}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "What decided:", ""]
    for name, each in runs.items():
        decided = Counter(short(run) for run in each)
        lines.append(f"- {name}: {'; '.join(f'{n} × {one}' if n > 1 else one for one, n in decided.items())}")
    return lines


def _change(runs: list[dict[str, Any]], k: str) -> str:
    """Return a recall of both models, the mean over the subsamples."""
    pairs = [run["recall"] for run in runs if {"baseline", "candidate"} <= run["recall"].keys()]
    if not pairs:
        return "none"
    return " → ".join(f"{fmean([pair[role][k] for pair in pairs]):.3f}" for role in ("baseline", "candidate"))


def _accuracy(runs: list[dict[str, Any]]) -> str:
    pairs = [run["zero_shot"] for run in runs if {"baseline", "candidate"} <= run["zero_shot"].keys()]
    if not pairs:
        return "none"
    return " → ".join(f"{fmean([pair[role] for pair in pairs]):.3f}" for role in ("baseline", "candidate"))


def _introduction(what: dict[str, Any]) -> str:
    software = what["software"]
    trained = "; ".join(f"{name} {seconds:.0f} s" for name, seconds in what["training_seconds"].items())
    return (
        f"{what['date']}, {software.get('cpu', 'CPU')}, {what['jobs']} audits at a time, koda "
        f"{software.get('koda_version')} (code {str(software.get('code_digest'))[:12]}), torch "
        f"{software.get('packages', {}).get('torch')}.\n\n"
        "Small CLIPs were trained on the demonstration's scenes; what is known of each stands in verdicts.py and "
        f"verdict_models.py. Seconds from the start of a run to the epoch that was kept: {trained}. Each was audited "
        f"beside its baseline over seeded subsamples of {what['pairs']} pairs, drawn without replacement from a pool "
        f"of {what['pool']} scenes that no training saw, under the default policy and with all settings at their "
        f"defaults, up to the record. That took {what['seconds']} s, on a machine with a load of {what['load']:g}.\n\n"
        "*R@1 of pool*: candidate less baseline among the whole pool with its 95 % interval; of the queries of the "
        "colour left out, where one was. A row whose candidate is to be worse counts only if that interval lies below "
        "0. *R@1*, *R@10*, *zero-shot*: baseline → candidate, as the records say, mean over the subsamples; both ways "
        "of retrieval together. *Verdicts*: in the order of the subsamples. The subsamples of a row share the models "
        "and most of the pool: they show how steady a verdict is, and are no independent trials."
    )
