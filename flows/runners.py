"""Who works on the parts of a run: nothing of a cluster is imported where the configuration names none."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.environment import make_prefect_home
from koda.parallel import using

if TYPE_CHECKING:
    from koda.config import RunnerConfig


def working(config: RunnerConfig, home: Path) -> AbstractContextManager[None]:
    """Have the workers that a configuration names work on the parts of what runs within.

    Args:
        config: the section `runner`.
        home: KODA_HOME.

    Raises:
        PrerequisiteError: on entering, the extra of the kind is not installed.
        MachineError: on entering, no cluster answers at the address.
    """
    if config.kind == "threads":
        return using(None)
    make_prefect_home()  # where it is not there when Prefect is imported, Prefect warns
    from tasks.clusters import workers_of

    return workers_of(config, home)
