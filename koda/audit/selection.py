"""Which audits are asked for: since when, of which baseline, verdict and data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from koda.errors import ConfigError, did_you_mean, nearest
from koda.records import Verdict

_AGE = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
VERDICTS: tuple[str, ...] = get_args(Verdict.model_fields["status"].annotation)


@dataclass(frozen=True)
class Selection:
    """What audits have to be to be shown; by default all are.

    Args:
        since: their last run ended no earlier.
        baselines: labels of baselines, one of which is theirs; none asks for no particular one, and so below.
        verdicts: theirs is one of them.
        data: names of data sets.
    """

    since: datetime | None = None
    baselines: frozenset[str] = frozenset()
    verdicts: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        since: str | None = None,
        baselines: Collection[str] | None = None,
        verdicts: Collection[str] | None = None,
        data: Collection[str] | None = None,
    ) -> Selection:
        """Read what was asked for on the command line.

        Raises:
            ConfigError: no time, or no verdict.
        """
        for verdict in verdicts or ():
            if verdict not in VERDICTS:
                hint = did_you_mean(nearest(verdict, VERDICTS))
                raise ConfigError(
                    f"There is no verdict {verdict!r}.", f"{hint} The verdicts are {', '.join(VERDICTS)}.".strip()
                )
        when = None if since is None else time_of(since, datetime.now(UTC))
        return cls(when, frozenset(baselines or ()), frozenset(verdicts or ()), frozenset(data or ()))

    def holds(self, audit: Mapping[str, Any]) -> bool:
        """Tell whether an audit, with the names that `koda history --json` gives it, is asked for."""
        if self.since is not None and (audit.get("last_run") or audit["ended"]) < self.since:
            return False
        wanted = ((self.baselines, "baseline"), (self.verdicts, "verdict"), (self.data, "dataset"))
        return all(not names or audit[column] in names for names, column in wanted)


EVERY_AUDIT = Selection()


def time_of(text: str, now: datetime) -> datetime:
    """Read an age such as `7d`, or a date, in UTC where it does not say otherwise.

    Raises:
        ConfigError: neither.

    >>> str(time_of("2026-11-01", datetime(2026, 11, 8, tzinfo=UTC)))
    '2026-11-01 00:00:00+00:00'
    >>> str(time_of("7d", datetime(2026, 11, 8, tzinfo=UTC)))
    '2026-11-01 00:00:00+00:00'
    """
    try:
        if (age := _AGE.fullmatch(text.strip())) is not None:
            return now - timedelta(**{_UNITS[age["unit"]]: float(age["count"])})
        when = datetime.fromisoformat(text.strip())
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"{text!r} is no time.", "Give an age such as 12h, 7d or 2w, or a date such as 2026-11-01."
        ) from error
