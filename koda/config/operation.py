"""What koda does by itself: when it audits, which new checkpoints, whom it tells, what follows from a verdict.

Nothing here is part of what an audit is: records, digests and Prefect never see these sections.
"""

from __future__ import annotations

import glob
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from koda.config.models import ModelSpec
from koda.config.paths import absolute_model, local_path
from koda.config.strict import Strict

Event = Literal["pass", "warn", "fail", "inconclusive", "error"]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
#: what a hook's arguments may name
PLACEHOLDERS = ("checkpoint", "report", "record", "folder", "verdict", "audit")


class ScheduleConfig(Strict):
    """When koda serve audits by itself."""

    cron: str = Field(description="minute, hour, day of the month, month, day of the week, as cron has them")
    timezone: str = Field(default="UTC", description="a name such as Europe/Berlin")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str) -> str:
        from cronsim import CronSim, CronSimError

        try:
            CronSim(value, datetime(2026, 1, 1, tzinfo=UTC))
        except CronSimError as error:
            raise ValueError(f"{value!r} is no cron expression of five fields, such as 0 3 * * * ({error})") from error
        return value

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone that this machine knows, such as Europe/Berlin") from error
        return value


def _as_list(value: Any) -> Any:
    """Refuse a word where a list of them is due, in the form that it is to have."""
    if isinstance(value, str):
        raise ValueError(f"it is a list: write on: [{value}]")
    return value


class WatchConfig(Strict):
    """Which new checkpoints are audited, each as the candidate."""

    model_config = ConfigDict(populate_by_name=True)

    path: str = Field(
        min_length=1, description="pattern of checkpoint files or model folders, or a URL of fsspec with one"
    )
    every: float = Field(default=60, gt=0, description="seconds between two looks")
    settle: int = Field(default=2, ge=1, description="looks at which size and time have to be the same")
    as_: ModelSpec | None = Field(
        default=None,
        alias="as",
        description="the model that a checkpoint file is of, as candidate: has it but without pretrained; "
        "default: the candidate, or a folder by itself",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_folder_needs_no_name(cls, raw: Any) -> Any:
        """Let `as` leave out the name, as a model folder brings its own."""
        if isinstance(raw, dict) and isinstance(raw.get("as"), dict) and "name" not in raw["as"]:
            return {**raw, "as": {"name": "local-dir:", **raw["as"]}}
        return raw

    @field_validator("as_")
    @classmethod
    def _without_weights(cls, value: ModelSpec | None) -> ModelSpec | None:
        if value is not None and value.pretrained is not None:
            raise ValueError("pretrained is the checkpoint that is found; leave it out")
        return value


class NotifyConfig(Strict):
    """Whom koda tells of a verdict, or that there is none."""

    url: str = Field(
        min_length=1, description="of Apprise, such as slack://${SLACK_TOKEN}; secrets stand in ${VARIABLES} alone"
    )
    on: Annotated[tuple[Event, ...], BeforeValidator(_as_list)] = Field(
        default=("fail", "inconclusive", "error"), min_length=1, description="verdicts, or error where there is none"
    )


class PromoteConfig(Strict):
    """What follows when a watched checkpoint has passed."""

    on: Annotated[tuple[Literal["pass", "warn", "fail", "inconclusive"], ...], BeforeValidator(_as_list)] = Field(
        default=("pass",), min_length=1, description="verdicts that promote a checkpoint"
    )
    write: str | None = Field(
        default=None,
        description="JSON file that names the promoted checkpoint and its audit, written once run has succeeded",
    )
    run: tuple[str, ...] = Field(
        default=(),
        description="program, which has to be there when koda begins to watch, and arguments; {checkpoint}, {report}, "
        "{record} ... stand for paths; no shell",
    )

    @model_validator(mode="after")
    def _does_something(self) -> PromoteConfig:
        if self.write is None and not self.run:
            raise ValueError("it says neither which file to write (write) nor what to run (run)")
        unknown = [name for part in self.run for name in _PLACEHOLDER.findall(part) if name not in PLACEHOLDERS]
        if unknown:
            raise ValueError(f"run has {{{unknown[0]}}}; it may have {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}")
        return self


class LimitsConfig(Strict):
    """What a run may take."""

    minutes: float | None = Field(default=None, gt=0, description="after which a run is ended; default: no limit")


def absolute_watch(watch: WatchConfig, folder: Path) -> WatchConfig:
    """Make the paths of what is watched, which are relative to `folder`, absolute."""
    local = local_path(watch.path)
    path = local if "://" in local else str(_absolute(_below(local, folder), folder))
    named = watch.as_ is not None and watch.as_.name != "local-dir:"
    return watch.model_copy(
        update={"path": path, "as_": absolute_model(watch.as_, folder) if named and watch.as_ else watch.as_}
    )


def absolute_promote(promote: PromoteConfig, folder: Path) -> PromoteConfig:
    """Make the file that is written, and a program given by a path, absolute; arguments stay as they are."""
    changes: dict[str, Any] = {}
    if promote.write is not None:
        changes["write"] = str(_absolute(promote.write, folder))
    if promote.run and "/" in promote.run[0]:
        changes["run"] = (str(_absolute(promote.run[0], folder)), *promote.run[1:])
    return promote.model_copy(update=changes)


def _below(pattern: str, folder: Path) -> str:
    """Return a pattern in which the folder that it is relative to is meant as it is written, brackets and all."""
    if Path(pattern).expanduser().is_absolute():
        return pattern
    return os.path.join(glob.escape(str(folder.absolute())), pattern)  # noqa: PTH118 (Path would drop what is escaped)


def _absolute(path: str, folder: Path) -> Path:
    return Path(os.path.normpath(folder.absolute() / Path(path).expanduser()))
