"""What it costs to check, on reading, that files are those that were written.

    python benchmarks/read_checks.py
    python benchmarks/read_checks.py --out benchmarks/read_checks.md

Two tables of embeddings (unit vectors, image and text) are audited step by step without Prefect, then the same audit is
asked for again; the time in the checks, which read files and sum digests, is set against the time of all steps.
Digests that are summed when an artifact is written are no part of it. A model's forward pass, which takes most of a run
that embeds pictures, is not in these figures: with it the share is smaller.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.common import about, in_words
from koda.audit.controls import control
from koda.audit.evaluation import evaluate
from koda.audit.plan import AuditPlan, prepare
from koda.audit.publishing import write_report
from koda.audit.recording import write_record
from koda.audit.solutions import discover
from koda.config import AuditConfig
from koda.embeddings import EmbeddingTable
from koda.embeddings.writing import save_table
from koda.extraction import extract
from koda.storage import digests
from koda.storage.marks import Mark
from koda.typing import ROLES, SIDES


class Clock:
    """Adds up the time in :meth:`koda.storage.marks.Mark.fault`."""

    def __init__(self) -> None:
        self.seconds, self._fault = 0.0, Mark.fault

    def __enter__(self) -> Clock:
        def fault(mark: Mark, folder: Path) -> str | None:
            begun = time.perf_counter()
            try:
                return self._fault(mark, folder)
            finally:
                self.seconds += time.perf_counter() - begun

        Mark.fault = fault  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        Mark.fault = self._fault  # type: ignore[method-assign]


def tables(samples: int, width: int, folder: Path) -> None:
    """Write two tables of unit vectors in clusters, the second with noise of its own."""
    rng = np.random.default_rng(0)
    keys = tuple(f"k{number:06d}" for number in range(samples))
    centres = rng.normal(size=(200, width))
    base = centres[rng.integers(0, 200, samples)]  # (n, width)
    captions = np.array([f"a thing number {number % 997}" for number in range(samples)])
    for name in ROLES:
        image, text = (base + rng.normal(size=base.shape) for _ in range(2))
        image, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text))
        table = EmbeddingTable(keys, image.astype(np.float32), text.astype(np.float32), {"caption": captions})
        save_table(table, folder / name, "koda")


def steps(plan: AuditPlan) -> None:
    """Run the steps of an audit that are not there yet, as its flow does."""
    for role in ROLES:
        extract(plan.artifacts, plan.embedded, plan.models[role], device="cpu")
    for side in SIDES:
        if not plan.artifacts.has("solutions", plan.solution_key(side)):
            discover(plan, side)
    if not plan.artifacts.has("controls", plan.control_key):
        control(plan)
    if not plan.artifacts.has("evaluations", plan.evaluation_key):
        evaluate(plan)
    if not plan.artifacts.has("records", plan.record_key):
        write_record(plan, datetime.now(UTC))
    if not plan.artifacts.has("reports", plan.report_key):
        write_report(plan)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, default=None, help="write the table there as Markdown")
    options = parser.parse_args()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        tables(options.samples, options.width, folder)
        config = AuditConfig.model_validate(
            {
                **{role: {"name": f"embeddings:{folder / role}"} for role in ROLES},
                "data": {"path": str(folder / "baseline")},
                "discrepancy": {"n_directions": 5, "device": "cpu"},
                "significance": {"spike_ins": 0},  # they search again and again, and would make the share smaller still
                "report": {"pdf": False},
            }
        )
        rows = []
        for name in ("first run", "asked again"):
            digests._known.clear()  # as in a process of its own
            plan = prepare(config, folder / "home")
            clock = time.perf_counter()
            with Clock() as checks:
                steps(plan)
            seconds = time.perf_counter() - clock
            rows.append((name, seconds, checks.seconds, checks.seconds / seconds))
        size = sum(path.stat().st_size for path in (folder / "home" / "artifacts").rglob("*") if path.is_file())
    text = "# What checking files on reading costs\n\n" + in_words(about(), time.perf_counter() - begun)
    text += f"\n\n{options.samples} samples, two modalities of {options.width}; {size / 1e6:.0f} MB of artifacts.\n\n"
    text += "| run | steps, s | checks, s | share |\n| --- | ---: | ---: | ---: |\n"
    text += "".join(f"| {name} | {all_:.2f} | {check:.3f} | {share:.1%} |\n" for name, all_, check, share in rows)
    text += (
        "\nMeasured are the steps of an audit of two tables of embeddings, and of the time in them that of the checks: "
        "files read and digests summed when an artifact is read. Not in these figures are a model's forward pass, "
        "Prefect, the start of Python, and the digests that are summed when an artifact is written.\n\n"
        "A run that is asked for again does little but check; the bound of 3 % is on runs that execute their steps.\n"
    )
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")
    return 0 if rows[0][3] < 0.03 else 1


if __name__ == "__main__":
    sys.exit(main())
