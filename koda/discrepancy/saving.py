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


def save_solution(solution: Solution, folder: Path) -> None:
    """Write a solution as `directions.safetensors` (k, n) and `solution.json`."""
    from safetensors.numpy import save

    x = np.stack([direction.x for direction in solution.directions] or [np.zeros(len(solution.keys))])
    write_atomically(folder / "directions.safetensors", save({"x": np.ascontiguousarray(x)}))
    note = {
        "directions": [
            {name: value for name, value in vars(direction).items() if name != "x"} for direction in solution.directions
        ],
        "keys": solution.keys,
        "eps": solution.eps,
        "kernels": kernels_to_note(solution.kernels),
        "status": solution.status,
        "stats": dict(solution.stats),
        "rejected": dict(solution.rejected),
        "config": solution.config.model_dump(),
    }
    write_atomically(folder / "solution.json", json.dumps(note, indent=1, default=_plain).encode())


def load_solution(folder: Path) -> Solution:
    """Read a solution that :func:`save_solution` wrote."""
    from safetensors.numpy import load

    x = load((folder / "directions.safetensors").read_bytes())["x"]
    note = json.loads((folder / "solution.json").read_bytes())
    config = {name: value for name, value in note["config"].items() if value is not None}
    return Solution(
        directions=tuple(Direction(x=row, **rest) for row, rest in zip(x, note["directions"], strict=False)),
        keys=tuple(note["keys"]),
        eps=note["eps"],
        kernels=kernels_from_note(note["kernels"]),
        status=note["status"],
        stats=note["stats"],
        rejected=note["rejected"],
        config=DiscrepancyConfig.model_validate(config),
    )


def _plain(value: Any) -> Any:
    """Turn numpy numbers, which the solver may leave in its statistics, into Python's."""
    if hasattr(value, "item"):
        return value.item()
    return str(value)
