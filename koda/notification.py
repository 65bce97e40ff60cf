"""Notifications: a verdict, or that there is none, told to those whom the configuration names, once.

What is to be told is written down before it is sent, and taken off when it has arrived, so that neither a crash nor a
network that is down loses it: whoever notifies the same address next sends it too. Apprise knows the services.
Addresses are written nowhere: what waits knows its own by a digest of it, with `${VARIABLE}` in the place of secrets.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from koda.config import NotifyConfig
from koda.errors import ConfigError
from koda.records import AuditRecord
from koda.secrets import conceal, redact, reveal
from koda.storage import ArtifactStore, digest_json, write_atomically
from koda.storage.rows import digest_of_record
from koda.wording import one_line

FOLDER = "notifications"
_WAITING = "waiting"
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_USER = re.compile(r"://[^/?#@:]*:?@")
_HOST = re.compile(r"\[[^\]]*\]|\$\{\w+\}|[^:]*")
_KEPT = timedelta(days=7)  # of what cannot be delivered
_MOST_REASONS, _MOST_FINDINGS = 8, 5
_LEAST_SECRET = 4  # characters; shorter ones would be found in any text
_KINDS = {"pass": "success", "warn": "warning", "fail": "failure", "inconclusive": "warning", "error": "failure"}
_HOW = "Write ${VARIABLE} in its place, and set that in the environment."


@dataclass(frozen=True)
class Message:
    """What is told.

    Args:
        event: the verdict, or error where there is none.
        key: what it is of; each target hears of one key once.
        title, body: plain text.
    """

    event: str
    key: str
    title: str
    body: str


def of_audit(record: AuditRecord, folder: Path) -> Message:
    """Say what an audit found.

    Args:
        record: of the audit.
        folder: that holds its report.
    """
    verdict = record.verdict
    lines = [f"- {reason}" for reason in verdict.reasons[:_MOST_REASONS]]
    confirmed = [finding for finding in record.findings if finding.confirmed]
    lines += [f"{finding.side} {finding.direction}: {finding.title}" for finding in confirmed[:_MOST_FINDINGS]]
    if len(confirmed) > _MOST_FINDINGS:
        lines.append(f"and {len(confirmed) - _MOST_FINDINGS} more confirmed findings")
    if not confirmed:
        lines.append("No finding was confirmed.")
    lines += [f"{record.data.n_compared} samples compared", f"Audit {record.id}", f"Report {folder / 'report.html'}"]
    title = (
        f"koda: {verdict.status.upper()} {one_line(record.candidate.label)} against "
        f"{one_line(record.baseline.label)} on {one_line(record.data.name)}"
    )
    return Message(verdict.status, f"{record.id} {digest_of_record(record)}", title, _text(lines))


def of_error(key: str, what: str, why: str, title: str = "no verdict on {}") -> Message:
    """Say that there is no verdict, or that something else went wrong.

    Args:
        key: see :class:`Message`.
        what: was to be audited.
        why: there is none.
        title: what went wrong; {} stands for `what`.
    """
    return Message("error", key, f"koda: {title.replace('{}', one_line(what))}", _text(redact(why).splitlines()))


def variables_of(targets: Sequence[NotifyConfig]) -> set[str]:
    """Return the variables of the environment that the addresses of targets name."""
    return {name for target in targets for name in _VARIABLE.findall(reveal(target.url))}


def check_targets(targets: Sequence[NotifyConfig], *, with_variables: bool = False) -> None:
    """Refuse targets that can never be told, or that hold a secret, before anything runs.

    Args:
        targets: from the configuration.
        with_variables: whether their variables have to be set, as where nobody reads the notes.

    Raises:
        ConfigError: a secret that is written out, a variable that is not set, or an address that no service has.
    """
    for place, target in enumerate(targets):
        where, address = f"notify.{place}.url", reveal(target.url)
        if (name := _written_secret(address)) is not None:
            raise ConfigError(f"{where} has {name} written out, which everyone who reads the file sees.", _HOW)
        if missing := [name for name in _VARIABLE.findall(address) if name not in os.environ]:
            if not with_variables:
                continue
            raise ConfigError(f"{where} needs the variable {missing[0]}, which is not set.", f"export {missing[0]}=...")
        with _quiet():
            known = _service(_expanded(address))
        if known is None:
            raise ConfigError(
                f"{where} is no address that Apprise knows: {one_line(_shown(address))}.",
                "Such as slack://${SLACK_TOKENS}, mailto://${USER}:${PASSWORD}@host or jsons://host/path; "
                "the addresses of all services stand at appriseit.com.",
            )


def notify(targets: Sequence[NotifyConfig], home: Path, message: Message) -> list[str]:
    """Tell the targets that want this event, and those who could not be told before.

    Args:
        targets: from the configuration.
        home: KODA_HOME, which remembers who was told what.
        message: what is told.

    Returns:
        In words, what could not be sent; it is sent with the next notification, except to an address that has a secret
        written out, which is kept nowhere.
    """
    refused = []
    for target in targets:
        if message.event in target.on:
            address = reveal(target.url)
            if (name := _written_secret(address)) is None:
                _write_down(home, address, message)
            else:
                scheme = one_line(address.partition("://")[0])  # where a host belongs, there may be a token
                refused.append(f"{scheme}:// was not told: its address has {name} written out. {_HOW}")
    return refused + flush(targets, home)


def flush(targets: Sequence[NotifyConfig], home: Path) -> list[str]:
    """Send what waits for one of these targets; return in words what could not be sent."""
    addresses, said = {_mark_of(each): each for target in targets for each in [reveal(target.url)]}, []
    for path in sorted((home / FOLDER / _WAITING).glob("[!.]*.json")):
        with ArtifactStore(home / "artifacts").lock(FOLDER, path.stem):
            try:
                raw = json.loads(path.read_bytes())
                mark = str(raw["target"]) if "target" in raw else _mark_of(str(raw["address"]))  # an older koda's
                written = datetime.fromisoformat(raw["written"])
                message = Message(**raw["message"])
            except FileNotFoundError:
                continue  # another process has sent it
            except (ValueError, KeyError, TypeError):
                path.unlink(missing_ok=True)
                continue
            if (home / FOLDER / path.name).exists():  # it was sent while another process wrote it down again
                path.unlink(missing_ok=True)
                continue
            if mark not in addresses:
                continue
            failure = _send(addresses[mark], message)
            if failure is None:
                write_atomically(home / FOLDER / path.name, json.dumps({"sent": _now()}).encode())
            elif datetime.now(UTC) - written < _KEPT:
                said.append(f"{failure} It is tried again with the next notification.")
                continue
            else:
                said.append(f"{failure} It is given up after {_KEPT.days} days: {message.title}")
            path.unlink(missing_ok=True)
    return said


def _write_down(home: Path, address: str, message: Message) -> None:
    name = f"{digest_json([address, message.event, message.key])[:32]}.json"
    if (home / FOLDER / name).exists() or (home / FOLDER / _WAITING / name).exists():
        return
    waiting = {"target": _mark_of(address), "written": _now(), "message": asdict(message)}
    write_atomically(home / FOLDER / _WAITING / name, json.dumps(waiting, indent=1).encode())


def _mark_of(address: str) -> str:
    return digest_json(["target", address])


def _send(address: str, message: Message) -> str | None:
    """Send a message; return what went wrong, in words without secrets."""
    where = one_line(_shown(address))
    if missing := [name for name in _VARIABLE.findall(address) if name not in os.environ]:
        return f"{where} could not be told: the variable {missing[0]} is not set."
    with _quiet() as heard:
        service = _service(_expanded(address))
        if service is None:
            return f"{where} could not be told: it is no address that Apprise knows."
        try:
            sent = _told(service, message)
        except Exception as error:  # of a plug-in, whatever it is
            heard.append(f"{type(error).__name__}: {error}")
            sent = False
    if sent:
        return None
    why = _without_secrets((heard or ["the service did not take it"])[-1], address)
    return f"{where} could not be told: {one_line(why.rstrip('.'))}."


def _service(address: str) -> Any:
    from apprise import Apprise

    return Apprise.instantiate(address, suppress_exceptions=True)


def _told(service: Any, message: Message) -> bool:
    from apprise import Apprise, NotifyFormat, NotifyType

    kind = NotifyType(_KINDS[message.event])
    return bool(
        Apprise(service).notify(title=message.title, body=message.body, notify_type=kind, body_format=NotifyFormat.TEXT)
    )


def _expanded(address: str) -> str:
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), address)


def _written_secret(address: str) -> str | None:
    """Say which secret an address has written out; Apprise knows what is one, where no variable stands in it."""
    literal = _VARIABLE.sub("", address)
    before_query, _, query = literal.partition("?")
    user = _USER.sub("://", literal)  # without what is no password
    if conceal(user.partition("?")[0], remember=False, lend=False) != user.partition("?")[0]:
        return "a password"
    with suppress(ValueError):  # which is no address at all
        if urlsplit(literal).password:
            return "a password"
    if query and conceal(f"https://host/?{query}", remember=False, lend=False) != f"https://host/?{query}":
        return "a secret"
    if literal != address:
        return None
    with _quiet():
        service = _service(before_query if not query else address)
    return "a secret" if service is not None and service.url(privacy=True) != service.url() else None


def _shown(address: str) -> str:
    """Return scheme and host of an address, its variables unexpanded: a path may be a secret."""
    scheme, mark, rest = redact(address).partition("://")
    if not mark:
        return re.split(r"[:/?#]", scheme)[0]
    host = _HOST.match(re.split(r"[/?#]", rest)[0].rpartition("@")[2])
    return f"{scheme}://{host[0] if host else ''}"


def _without_secrets(text: str, address: str) -> str:
    """Take the values of an address' variables, and its path, out of what a library said."""
    for name in _VARIABLE.findall(address):
        value = os.environ.get(name, "")
        if len(value) >= _LEAST_SECRET:
            for part in {value, *re.split(r"[/:@]", value)}:
                text = text.replace(part, f"${{{name}}}") if len(part) >= _LEAST_SECRET else text
    path = re.split(r"[?#]", address.partition("://")[2])[0].partition("/")[2]
    for part in sorted({path, *path.split("/")}, key=len, reverse=True):
        text = text.replace(part, "...") if len(part) >= _LEAST_SECRET else text
    return redact(text)


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep Apprise from printing, and return what it would have said."""
    heard: list[str] = []
    logger = logging.getLogger("apprise")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield heard
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[0]
        logger.setLevel(before[1])


def _text(lines: Sequence[str]) -> str:
    return "\n".join(one_line(line) for line in lines)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
