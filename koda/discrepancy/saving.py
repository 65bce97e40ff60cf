"""Solutions on disk: `directions.safetensors` and `solution.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from koda.config import DiscrepancyConfig
from koda.discrepancy.solution import Direction, Solution
from koda.kernels.bandwidths import kernels_from_note, kernels_to_note
from koda.storage import write_atomically
from koda.storage.marks import TIMINGS

_SECONDS = "seconds"  # how the statistics begin that are other ones each time


def save_solution(solution: Solution, folder: Path) -> None:
    """Write a solution as `directions.safetensors` (k, n) and `solution.json`; how long it took in a file beside."""
    from safetensors.numpy import save

    x = np.stack([direction.x for direction in solution.directions] or [np.zeros(len(solution.keys))])
    write_atomically(folder / "directions.safetensors", save({"x": np.ascontiguousarray(x)}))
    timings = {name: value for name, value in solution.stats.items() if name.startswith(_SECONDS)}
    note = {
        "directions": [
            {name: value for name, value in vars(direction).items() if name != "x"} for direction in solution.directions
        ],
        "keys": solution.keys,
        "eps": solution.eps,
        "kernels": kernels_to_note(solution.kernels),
        "status": solution.status,
        "stats": {name: value for name, value in solution.stats.items() if name not in timings},
        "rejected": dict(solution.rejected),
        "config": solution.config.model_dump(),
    }
    write_atomically(folder / TIMINGS, json.dumps(timings, indent=1, default=_plain).encode())
    write_atomically(folder / "solution.json", json.dumps(note, indent=1, default=_plain).encode())


def load_solution(folder: Path) -> Solution:
    """Read a solution that :func:`save_solution` wrote."""
    from safetensors.numpy import load

    x = load((folder / "directions.safetensors").read_bytes())["x"]
    note = json.loads((folder / "solution.json").read_bytes())
    timings = folder / TIMINGS
    stats = note["stats"] | (json.loads(timings.read_bytes()) if timings.is_file() else {})  # an older koda wrote none
    config = {name: value for name, value in note["config"].items() if value is not None}
    return Solution(
        directions=tuple(Direction(x=row, **rest) for row, rest in zip(x, note["directions"], strict=False)),
        keys=tuple(note["keys"]),
        eps=note["eps"],
        kernels=kernels_from_note(note["kernels"]),
        status=note["status"],
        stats=stats,
        rejected=note["rejected"],
        config=DiscrepancyConfig.model_validate(config),
    )


def _plain(value: Any) -> Any:
    """Turn numpy numbers, which the solver may leave in its statistics, into Python's."""
    if hasattr(value, "item"):
        return value.item()
    return str(value)
