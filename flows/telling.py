"""Who is told of a verdict, or that there is none: those whom the configuration names."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.failures import in_words

if TYPE_CHECKING:
    from koda.config import AuditConfig


def check_following(config: AuditConfig) -> None:
    """Refuse what could follow from no verdict, for what audits by itself: nobody is there to read a note.

    `koda watch` and `koda serve` ask before they begin.

    Raises:
        ConfigError: an address with a secret written out, of no service, or whose variable is not set; or a program of
            a promotion that is not there.
    """
    from koda.checkpoints import check_program

    if config.notify:
        from koda.notification import check_targets  # which brings in Apprise

        check_targets(config.notify, with_variables=True)
    check_program(config.promote)


def tell_of(config: AuditConfig, home: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run an audit, and tell those whom its configuration names what came of it; what could not be told is a note.

    Args:
        config: of the audit, with its section `notify`.
        home: KODA_HOME.
        work: runs the audit, and returns what `koda audit --json` prints.

    Raises:
        ConfigError: somebody who can never be told, before anything runs.
        Exception: what `work` raises, after that was told.
    """
    if not config.notify:
        return work()
    from koda.notification import check_targets

    check_targets(config.notify)
    try:
        result = work()
    except Exception as error:
        words = in_words(error)
        what = f"{config.candidate.display_name} against {config.baseline.display_name}"
        why = str(words) if words is not None else f"{type(error).__name__}: {error}"
        with suppress(Exception):  # what went wrong first is what is said
            tell_error(config, home, uuid.uuid4().hex, what, why)
        raise
    return {**result, "notes": [*result["notes"], *tell_verdict(config, home, result["id"])]}


def tell_verdict(config: AuditConfig, home: Path, audit: str) -> list[str]:
    """Tell those whom a configuration names of an audit's verdict; return what could not be told, in words."""
    if not config.notify:
        return []
    from koda.audit.folders import AUDITS, RECORD, read_record
    from koda.errors import KodaError
    from koda.notification import notify, of_audit

    folder = home / AUDITS / audit
    try:
        return notify(config.notify, home, of_audit(read_record(folder / RECORD), folder))
    except (KodaError, OSError) as error:  # it is the audit that counts
        return [f"Nobody was told of the verdict: {error}"]


def tell_error(config: AuditConfig, home: Path, key: str, what: str, why: str, title: str | None = None) -> list[str]:
    """Tell those whom a configuration names that there is no verdict; return what could not be told, in words.

    Args:
        config: with its section `notify`.
        home: KODA_HOME.
        key: of what went wrong; nobody hears of one key twice.
        what: was to be audited.
        why: there is no verdict.
        title: what went wrong with {}, if it is not that.
    """
    if not config.notify:
        return []
    from koda.notification import notify, of_error

    message = of_error(key, what, why) if title is None else of_error(key, what, why, title)
    return notify(config.notify, home, message)
