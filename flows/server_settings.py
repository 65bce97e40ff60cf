"""What decides how a Prefect server of a run's own is started: as Prefect reads it, or by the environment alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.environment import profile_settings


@dataclass(frozen=True)
class ServerSettings:
    """What decides how a server is started.

    Args:
        home: Prefect's own folder.
        own_database: whether its database is the one that lies there.
        seconds: in which it is to answer.
        variables: what is set of Prefect, by the variables of the environment that set it.
    """

    home: Path
    own_database: bool
    seconds: float
    variables: Mapping[str, str]

    @classmethod
    def of_prefect(cls) -> ServerSettings:
        """Return what Prefect has read of its files and of the environment."""
        from prefect.settings import get_current_settings

        settings = get_current_settings()
        url = settings.server.database.connection_url
        return cls(
            settings.home.expanduser().absolute(),
            url is not None and url.get_secret_value() == f"sqlite+aiosqlite:///{settings.home}/prefect.db",
            settings.server.ephemeral.startup_timeout_seconds,
            settings.to_environment_variables(exclude_unset=True),
        )

    @classmethod
    def of_environment(cls) -> ServerSettings | None:
        """Return the same without Prefect, which takes a second to import; None where it may be told by more."""
        told = {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}
        if "PREFECT_API_URL" in told or any("DATABASE" in name for name in told) or profile_settings():
            return None
        home, seconds = told.get("PREFECT_HOME", ""), told.get("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "")
        if not home or home.startswith("~") or not seconds.isdecimal():
            return None
        return cls(Path(home).absolute(), True, int(seconds), told)

    def holds(self, begun: ServerSettings) -> bool:
        """Tell whether a server that was begun with others is the same: nothing is set but by the environment."""
        alike = (self.home, self.own_database) == (begun.home, begun.own_database)
        return alike and set(self.variables) <= set(begun.variables)
