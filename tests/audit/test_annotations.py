"""What people say of an audit: a chain that is read back whole or refused, and statements that fit the audit."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from koda.audit.annotations import Statement, read_annotations, with_statement
from koda.audit.folders import ANNOTATIONS, replace_files
from koda.audit.verification import verify_audit
from koda.errors import ConfigError, StoreError
from koda.storage import digest_json
from tests.audit.published import put, small_record

NOW = datetime(2026, 11, 27, 12, 30, 5, 999, tzinfo=UTC)
RECORD = small_record()
SAID = [
    Statement("prepared", "Ada"),
    Statement("note", "Bob", "looks like the colour head", finding="lost 1"),
    Statement("waiver", "Eve", "known", figure="lost.max_share", until=date(2026, 12, 31)),
    Statement("dissent", "Mallory", "I would not ship it"),
]


def say(folder: Path, said: Statement) -> None:
    chain = with_statement(folder, RECORD, said, NOW)
    (folder.parent / "new.json").write_text(chain.to_json(), encoding="utf-8")
    replace_files(folder, {ANNOTATIONS: folder.parent / "new.json"})


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = put(tmp_path_factory.mktemp("home"), RECORD)
    assert read_annotations(folder) == ()
    for said in SAID:
        say(folder, said)
    return folder


@pytest.fixture
def own(told: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(told, tmp_path / told.name))


def test_what_was_said_is_read_back_in_order_and_chained(told: Path) -> None:
    entries = read_annotations(told)
    assert [(entry.number, entry.what, entry.who) for entry in entries] == [
        (number, said.what, said.who) for number, said in enumerate(SAID, start=1)
    ]
    assert [entry.previous for entry in entries[1:]] == [entry.digest for entry in entries[:-1]]
    assert entries[0].when == NOW.replace(microsecond=0)
    assert str(entries[1].finding) == "lost 1"
    assert all(check.problem is None for check in verify_audit(told)[1])


def seal_again(raw: dict[str, Any]) -> None:
    """Digest the entries anew, as one would who changed them."""
    before = raw["record"]
    for entry in raw["entries"]:
        entry["previous"] = before
        entry["digest"] = before = digest_json({name: value for name, value in entry.items() if name != "digest"})


def of_another_record(raw: dict[str, Any]) -> None:
    raw["record"] = "0" * 64
    seal_again(raw)
    raw["head"] = raw["entries"][-1]["digest"]


def renumbered(raw: dict[str, Any]) -> None:
    raw["entries"][1]["number"] = 7
    seal_again(raw)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda raw: raw["entries"][2].update(who="Somebody"), "entry 3 is not as it was written"),
        (lambda raw: raw["entries"][2].update(until="2099-01-01"), "entry 3 is not as it was written"),
        (lambda raw: raw["entries"].pop(1), "entry 2 does not follow"),
        (lambda raw: raw["entries"].reverse(), "entry 1 does not follow"),
        (lambda raw: raw["entries"].pop(), "cut off"),
        (lambda raw: raw.update(head="0" * 64), "head"),
        (lambda raw: raw.update(record="0" * 64), "another record"),
        (of_another_record, "another record"),
        (renumbered, "entry 2 does not follow"),
        (lambda raw: raw["entries"].clear(), "entries"),
        (lambda raw: raw["entries"][0].update(more=1), "entries.0.more"),
        (lambda raw: raw.update(version=99), "version 99"),
        (lambda raw: raw.pop("version"), "no version"),
    ],
)
def test_a_chain_that_was_changed_is_refused_in_words(
    own: Path, damage: Callable[[dict[str, Any]], object], words: str
) -> None:
    raw = json.loads((own / ANNOTATIONS).read_bytes())
    damage(raw)
    (own / ANNOTATIONS).write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(StoreError, match=words) as caught:
        read_annotations(own)
    assert str(own / ANNOTATIONS) in caught.value.message
    with pytest.raises(StoreError):
        with_statement(own, RECORD, SAID[0], NOW)


def test_a_file_that_is_gone_cut_or_unreadable_is_refused(own: Path) -> None:
    path = own / ANNOTATIONS
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(StoreError, match="not JSON"):
        read_annotations(own)
    path.unlink()
    with pytest.raises(StoreError, match="missing"):
        read_annotations(own)
    path.mkdir()
    with pytest.raises(StoreError, match="cannot be read"):
        read_annotations(own)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Statement("approved", " "), "The name is empty"),
        (Statement("approved", "x" * 201), "201 characters"),
        (Statement("approved", "\udcff"), "UTF-8"),
        (Statement("note", "Bob", "  "), "The note is empty"),
        (Statement("note", "Bob", "x", finding="lost 9"), "no finding 'lost 9'.*(?s:.*)lost 1"),
        (Statement("note", "Bob", "x", finding="all"), "no finding 'all'"),
        (Statement("dissent", "Bob", "y" * 10_001), "10001 characters"),
        (Statement("waiver", "Bob", "", figure="lost.max_share", until=date(2027, 1, 1)), "reason of the waiver"),
        (Statement("waiver", "Bob", "x", figure="lost.max_shar", until=date(2027, 1, 1)), "Did you mean"),
        (Statement("waiver", "Bob", "x", figure="lost.max_share", until=date(2026, 11, 26)), "over already"),
    ],
)
def test_a_statement_that_does_not_fit_the_audit_is_refused(told: Path, said: Statement, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_statement(told, RECORD, said, NOW)
    assert re.search(words, str(caught.value))


def test_a_waiver_may_end_today(told: Path) -> None:
    until = date(2026, 11, 27)
    chain = with_statement(told, RECORD, Statement("waiver", "Bob", "x", figure="lost.max_share", until=until), NOW)
    assert chain.entries[-1].until == until


def test_a_folder_keeps_who_may_read_and_write_it(own: Path) -> None:
    own.chmod(0o770)
    say(own, Statement("note", "Ada", "for the group"))
    assert own.stat().st_mode & 0o777 == 0o770


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_to_be_written_is_left_as_it_is(own: Path) -> None:
    own.chmod(0o555)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            say(own, Statement("note", "Ada", "too late"))
    finally:
        own.chmod(0o755)
    assert len(read_annotations(own)) == len(SAID)
    assert not list(own.parent.glob(".*"))
