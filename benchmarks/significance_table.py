"""The table of `significance.py`: rates with their intervals, and what else the runs show."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import beta


def interval(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate, by Clopper and Pearson."""
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def counted(runs: list[dict[str, Any]], figure: str, materiality: float) -> list[bool]:
    """Return a figure of the audits in which a confirmation would be wrong; of all, where the figure says so itself."""
    immaterial = [run for run in runs if run.get("true_difference", 0.0) <= materiality]
    return [run[figure] for run in (runs if figure.endswith("boundary") else immaterial) if figure in run]


ROWS = (  # what, its block, its figure, what is right
    ("koda, equal kernels (rotation)", "rotation", "koda", "at most 5 %"),
    ("koda, independent noise, images", "noise", "koda", "at most 5 %"),
    ("koda, independent noise, joint", "joint", "koda", "at most 5 %"),
    ("koda, images, each direction against its true difference", "noise", "boundary", "at most 5 %"),
    ("koda, joint, each direction against its true difference", "joint", "boundary", "at most 5 %"),
    ("trap: in sample, images", "noise", "in_sample", "at most 5 %"),
    ("trap: in sample, images, against the true differences", "noise", "in_sample_boundary", "at most 5 %"),
    ("trap: in sample, joint, against the true differences", "joint", "in_sample_boundary", "at most 5 %"),
    ("trap: the features of the search again (rotation)", "rotation", "same_features", "at most 5 %"),
    ("trap: materiality 0, images", "noise", "zero_materiality", "at most 5 %"),
    ("trap: materiality 0, joint", "joint", "zero_materiality", "at most 5 %"),
    ("koda, planted group of {group:g} %", "planted", "planted", "at least 90 %"),
)


def table(results: dict[str, Any], n_directions: int) -> str:
    """Return the results of searches of so many directions as Markdown."""
    materiality = results["materiality"]
    blocks = results["runs"]
    lines = [
        "# Level and power of the held-out test",
        "",
        f"{results['date']}, {results['device']}, {results['threads']} threads, torch {results['torch']}, "
        f"numpy {results['numpy']}, Python {results['python']}, koda {results['koda']}.",
        "",
        f"Simulated audits of both questions, {n_directions} directions each, half of the n samples for the "
        f"search and half for the test; materiality {materiality:g}, alpha {results['alpha']:g}, "
        "Holm over both questions. Each model adds noise of "
        f"{results['noise']['noise']:.0%} (images), {results['noise']['joint']:.0%} (joint), "
        f"{results['noise']['planted']:.0%} (planted) of the spread within a topic. "
        "*Confirmed*: audits that confirm anything (in the last row: the planted group), with the 95 % interval of "
        "Clopper and Pearson. Holm's rule is that of a search of one step; in the last row the search may go on, and "
        "its first step has 80 % of alpha. How the samples are made stands in significance.py. All took "
        f"{results['seconds'] / 60:.0f} min.",
        "",
        "| audits of | n | audits | confirmed | interval | right is |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for title, block, figure, right in ROWS:
        values = counted(blocks.get(block, []), figure, materiality)
        if values:
            title = title.format(group=100 * results["group"])
            low, high = interval(sum(values), len(values))
            n = results["n_power" if block == "planted" else "n_level"]
            lines.append(
                f"| {title} | {n} | {len(values)} | {np.mean(values):.1%} | {low:.1%} to {high:.1%} | {right} |"
            )
    lines.append("")
    for name, of in (("noise", "images"), ("joint", "joint")):
        runs = blocks.get(name, [])
        if not runs:
            continue
        said = f"- Independent noise, {of}:"
        truths = [run["true_difference"] for run in runs]
        said += (
            f" the largest true difference of an audit's directions, on {results['n_fresh']} fresh samples, is "
            f"{np.median(truths):.2g} in the median and {max(truths):.2g} at the most of {len(truths)} audits "
            f"({sum(truth > materiality for truth in truths)} over the materiality are not counted above, but "
            "against their true differences);"
        )
        zero, seen, gap = ([run[name] for run in runs] for name in ("zero_materiality_z", "in_sample_z", "optimism"))
        lines.append(
            f"{said} in the sample it looks {np.median(gap):.1f} times as large as held out; the largest z, median and "
            f"most, is {np.median(seen):.1f} and {max(seen):.1f} in sample, {np.median(zero):.1f} and {max(zero):.1f} "
            "against a difference of 0."
        )
    rotation, planted = blocks.get("rotation", []), blocks.get("planted", [])
    if rotation:
        z = [run["same_features_z"] for run in rotation]
        lines.append(
            f"- The features of the search again, with kernels that are equal: z of {np.median(z):.1f} in the median "
            f"and {max(z):.1f} at the most; {np.mean([run['directions'] for run in rotation]):.1f} directions an audit."
        )
    if planted:
        d = [run["difference"] for run in planted]
        lines.append(
            f"- Power: the largest held-out difference is {np.median(d):.2g} in the median, {min(d):.2g} at the least; "
            f"{np.median([run['seconds'] for run in planted]):.0f} s an audit."
        )
    return "\n".join(lines) + "\n"
