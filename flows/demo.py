"""The configuration of the demo: an ordinary file, written beside the embedded data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from koda.config import AuditConfig, load_config
from koda.demo import PAIRS, model_path, write_data
from koda.errors import ConfigError
from koda.storage import write_atomically
from koda.storage.places import check_place

_TITLES = {
    "regressed": "Demo: a candidate that confuses purple with blue",
    "colour": "Demo: a colour-blind candidate",
    "self": "Demo: a model against itself",
}


def demo_config(pair: str, home: Path, overrides: dict[str, Any] | None = None) -> AuditConfig:
    """Write the demo's data and configuration below `home`, and return the configuration.

    Raises:
        ConfigError: a pair that the demo does not have.
        WriteError: nothing can be written in the home.
    """
    if pair not in PAIRS:
        raise ConfigError(f"The demo has no pair {pair!r}.", f"Choose one of {', '.join(PAIRS)}.")
    check_place(home)
    folder = home / "demo"
    write_data(folder / "scenes")
    baseline, candidate = PAIRS[pair]
    settings = {
        "baseline": {"name": f"local-dir:{model_path(baseline)}", "label": baseline, "precision": "fp32"},
        "candidate": {"name": f"local-dir:{model_path(candidate)}", "label": candidate, "precision": "fp32"},
        "data": {"path": "scenes/pairs.tsv", "name": "demo scenes", "licence": "Apache-2.0", "source": "koda.demo"},
        "discrepancy": {"n_directions": 5, "max_directions": 10},  # a demo is to be over in a minute
        "zero_shot": {"column": "colour", "templates": ["a {} circle", "a {} square", "a {} heart"]},
        "report": {"title": _TITLES[pair]},
        "alignment": {"learning_rate": 0.001, "steps": 250},  # for tiny models; 1e-5, the default, is for large ones
    }
    path = folder / f"{pair}.yaml"
    write_atomically(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True).encode())
    return load_config(path, overrides)
