"""Notifications arrive once at each target that wants them, whatever happens in between, and keep their secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koda.config import NotifyConfig
from koda.errors import ConfigError
from koda.notification import Message, check_targets, flush, notify, of_error
from tests.catcher import Catcher, catching


@pytest.fixture
def catcher() -> Iterator[Catcher]:
    with catching() as service:
        yield service


def fail(key: str = "audit-1 abc") -> Message:
    return Message("fail", key, "koda: FAIL a against b", "- lost.max_share is over its limit")


def everything(folder: Path) -> str:
    return "".join(path.read_text(encoding="utf-8", errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_target_hears_once_of_what_it_wants(catcher: Catcher, tmp_path: Path) -> None:
    target = NotifyConfig(url=catcher.url, on=("fail",))
    for _ in range(3):
        assert notify([target], tmp_path, fail()) == []
    assert notify([target], tmp_path, Message("pass", "audit-2", "koda: PASS", "")) == []
    assert notify([target], tmp_path, fail("audit-1 made again")) == []
    assert catcher.titles == ["koda: FAIL a against b"] * 2
    assert catcher.received[0]["message"].strip() == "- lost.max_share is over its limit"
    assert catcher.received[0]["type"] == "failure"


def test_each_target_hears(catcher: Catcher, tmp_path: Path) -> None:
    with catching() as other:
        notify([NotifyConfig(url=catcher.url), NotifyConfig(url=other.url)], tmp_path, fail())
        assert (len(catcher.received), len(other.received)) == (1, 1)


def test_many_at_once_send_it_once(catcher: Catcher, tmp_path: Path) -> None:
    target = NotifyConfig(url=catcher.url)
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(lambda _: notify([target], tmp_path, fail()), range(8))] == [[]] * 8
    assert len(catcher.received) == 1


def test_what_was_sent_while_another_process_wrote_it_down_is_not_sent_again(catcher: Catcher, tmp_path: Path) -> None:
    target, catcher.status = NotifyConfig(url=catcher.url), 503
    notify([target], tmp_path, fail())
    (waiting,) = (tmp_path / "notifications" / "waiting").glob("*.json")
    written, catcher.status = waiting.read_bytes(), 200
    assert flush([target], tmp_path) == []
    received = len(catcher.received)
    waiting.write_bytes(written)
    assert flush([target], tmp_path) == []
    assert len(catcher.received) == received and not waiting.exists()


def test_an_address_with_a_secret_written_out_is_told_nothing_and_kept_nowhere(tmp_path: Path) -> None:
    (said,) = notify([NotifyConfig(url="json://me:a-password@127.0.0.1:9/x")], tmp_path, fail())
    assert "a password written out" in said and "a-password" not in said and "json://" in said
    assert "a-password" not in everything(tmp_path)


def test_what_could_not_be_sent_comes_with_the_next(catcher: Catcher, tmp_path: Path) -> None:
    target, catcher.status = NotifyConfig(url=catcher.url), 503
    (said,) = notify([target], tmp_path, fail())
    assert "could not be told" in said and "503" in said and "tried again" in said
    catcher.status = 200
    assert notify([target], tmp_path, Message("error", "2", "koda: no verdict", "disk")) == []
    assert sorted(catcher.titles) == ["koda: FAIL a against b", "koda: no verdict"]
    assert flush([target], tmp_path) == []
    assert len(catcher.received) == 2


def test_a_crash_before_sending_loses_nothing(
    catcher: Catcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = NotifyConfig(url=catcher.url)
    with monkeypatch.context() as patched:
        patched.setattr("koda.notification.flush", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            notify([target], tmp_path, fail())
    assert catcher.received == []
    assert flush([target], tmp_path) == []
    assert len(catcher.received) == 1


def test_a_damaged_note_stops_nothing(catcher: Catcher, tmp_path: Path) -> None:
    waiting = tmp_path / "notifications" / "waiting"
    waiting.mkdir(parents=True)
    for number, text in enumerate(("", "[]", '{"address": 1}', '{"address": "x", "written": "never", "message": {}}')):
        (waiting / f"{number}.json").write_text(text, encoding="utf-8")
    assert notify([NotifyConfig(url=catcher.url)], tmp_path, fail()) == []
    assert len(catcher.received) == 1


def test_secrets_come_from_the_environment_and_are_written_nowhere(
    catcher: Catcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = catcher.url.removeprefix("json://").removesuffix("/hook")
    monkeypatch.setenv("HOOK_SECRET", "s3cr3t-t0ken")
    target = NotifyConfig(url=f"json://bot:${{HOOK_SECRET}}@{host}/${{HOOK_SECRET}}")
    check_targets([target], with_variables=True)
    catcher.status = 500
    (said,) = notify([target], tmp_path, fail())
    catcher.status = 200
    assert notify([target], tmp_path, fail("2")) == []
    assert len(catcher.received) == 2
    assert "s3cr3t" not in everything(tmp_path) + said + repr(target)


def test_an_address_is_kept_nowhere_and_shown_by_its_host(catcher: Catcher, tmp_path: Path) -> None:
    target, catcher.status = NotifyConfig(url=catcher.url.replace("/hook", "/a-secret-path")), 503
    (said,) = notify([target], tmp_path, fail())
    assert said.startswith("json://127.0.0.1 could not be told") and "a-secret-path" not in said + everything(tmp_path)
    with catching() as other:
        assert flush([NotifyConfig(url=other.url)], tmp_path) == [] and other.received == []
    catcher.status = 200
    assert flush([target], tmp_path) == []
    assert catcher.titles == ["koda: FAIL a against b"]


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    target = NotifyConfig(url="slack://${KODA_NOT_SET}/x")
    assert "KODA_NOT_SET" not in os.environ
    with pytest.raises(ConfigError, match="KODA_NOT_SET"):
        check_targets([target], with_variables=True)
    check_targets([target])
    (said,) = notify([target], tmp_path, fail())
    assert "KODA_NOT_SET is not set" in said


@pytest.mark.parametrize(
    "url",
    [
        "mailto://bot:password@example.com",
        "json://bot:password@host/x",
        "ntfys://bot:pass/word@host/topic",
        "json://${USER}:password@host",
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
        "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
        "json://127.0.0.1/hook?token=abcdefgh",
    ],
)
def test_a_secret_that_is_written_out_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="written out") as raised:
        check_targets([NotifyConfig(url=url)])
    for secret in ("password@", "pass/word", "TIiajkd", "JHMHI8q", "abcdefgh"):
        assert secret not in str(raised.value)


@pytest.mark.parametrize("url", ["nonsense://x", "C:/x", "slack", "json://"])
def test_an_address_of_no_service_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address that Apprise knows"):
        check_targets([NotifyConfig(url=url)])


def test_hostile_text_is_spelled_out(catcher: Catcher, tmp_path: Path) -> None:
    notify([NotifyConfig(url=catcher.url)], tmp_path, of_error("1", "a\x1b[2J\nPASS", "bad\u202e\nline two"))
    assert catcher.received[0]["title"] == "koda: no verdict on a\\x1b[2J\\nPASS"
    assert "\\u202e" in catcher.received[0]["message"] and "\x1b" not in catcher.received[0]["message"]
