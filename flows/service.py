"""What is to be served: a configuration, with what it says of schedule and checkpoints, before Prefect starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from flows.telling import check_following
from koda.audit.rerun import load_config_or_record
from koda.config import AuditConfig, load_config, parse_override
from koda.errors import ConfigError
from koda.secrets import redact
from koda.storage import digest_json

#: each look is a process that takes some seconds to start, and one that is due before the last one is over leaves a
#: cancelled run
_LEAST_SECONDS_BETWEEN_LOOKS = 30.0


@dataclass(frozen=True)
class Service:
    """What is served.

    Args:
        path: of the configuration.
        config: what stands there, with the changes.
        overrides: the changes, as `--set` has them.
        home: KODA_HOME.
    """

    path: Path
    config: AuditConfig
    overrides: dict[str, str]
    home: Path

    @property
    def name(self) -> str:
        """The name of its deployments: that of the file, and what tells it from others of that name."""
        return f"{self.path.stem}-{digest_json([str(self.path.absolute()), str(self.home)])[:6]}"

    @property
    def seconds_between_looks(self) -> float | None:
        """How often it looks for checkpoints, if at all."""
        watch = self.config.watch
        return None if watch is None else max(watch.every, _LEAST_SECONDS_BETWEEN_LOOKS)

    @property
    def missing(self) -> list[str]:
        """Say what it does not do, for want of a section of the configuration."""
        said = []
        if self.config.schedule is None:
            said.append("no schedule: section: no audit runs by the clock")
        if self.config.watch is None:
            said.append("no watch: section: no checkpoint is looked for")
        return said

    def next_audit(self) -> datetime | None:
        """Return when the next audit is due by the clock."""
        from cronsim import CronSim

        schedule = self.config.schedule
        if schedule is None:
            return None
        return next(CronSim(schedule.cron, datetime.now(ZoneInfo(schedule.timezone))), None)


def service_of(path: Path, overrides: dict[str, str], home: Path) -> Service:
    """Read what is to be served.

    Raises:
        ConfigError: the configuration cannot be used, or has neither a schedule nor checkpoints to watch.
    """
    config = load(path, overrides, without_candidate=True)
    service = Service(path.absolute(), config, overrides, home)
    if len(service.missing) == 2:
        raise ConfigError(
            f"{path} has neither a section schedule nor a section watch, so there is nothing to serve.",
            'Add schedule: {cron: "0 3 * * *", timezone: Europe/Berlin} for an audit by the clock, or '
            'watch: {path: "runs/*/checkpoints/epoch_*.pt", as: {name: ViT-B-32}} for an audit of each new checkpoint.',
        )
    check_following(config)
    if config.schedule is not None:
        load(path, overrides)  # which says that a candidate is missing
    return service


def load(config: Path, overrides: dict[str, str] | None, without_candidate: bool = False) -> AuditConfig:
    """Read a configuration, or that of an audit's record, with changes.

    Args:
        config: the file.
        overrides: dotted key -> value as YAML.
        without_candidate: the candidate may be missing, as something takes its place.

    Raises:
        ConfigError: it cannot be used, or a change holds credentials.
    """
    for key, value in (overrides or {}).items():
        if redact(value) != value:
            raise ConfigError(
                f"The value of {key} holds credentials, and Prefect stores what a run is started with.",
                "Put them into the configuration as ${VARIABLE}, or where the library looks for them.",
            )
    changes = dict(parse_override(f"{key}={value}") for key, value in (overrides or {}).items())
    if without_candidate and config.suffix != ".json" and not config.is_dir():
        return load_config(config, changes, without_candidate=True)
    return load_config_or_record(config, changes)
