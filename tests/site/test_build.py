"""The page over all audits: what it lists, that it is harmless, and that only changed audits are read again."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.audit.annotations import Statement
from koda.audit.redrawing import annotate
from koda.errors import ConfigError
from koda.report import template_folder
from koda.site import BuiltSite, build_site
from tests.audit.published import put, small_record
from tests.report.page import HOSTILE, Page

ODD = "odd & <b> #1?\u202e"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    first = small_record(id="audit-1")
    put(home, first)
    second = small_record(id="audit-2", title=HOSTILE[0])
    labels = {"candidate": HOSTILE[3], "baseline": HOSTILE[1]}
    models = {
        role: getattr(second, role).model_copy(update={"label": label, "weights_digest": "f" * 64})
        for role, label in labels.items()
    }
    later = {"ended": second.ended.replace(month=12)}
    data = second.data.model_copy(update={"name": "صور الشارع"})
    put(home, second.model_copy(update={**models, **later, "data": data}), ODD)
    annotate(home, "audit-1", Statement("approved", HOSTILE[0]))
    annotate(home, "audit-1", Statement("note", "Bob", "see there"))
    (home / "audits" / ".audit-3.tmp").mkdir()
    (home / "audits" / "no audit").mkdir()
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def page(built: BuiltSite) -> Page:
    return Page(built.index.read_text(encoding="utf-8"))


def data(built: BuiltSite) -> dict[str, Any]:
    text = built.index.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found is not None and "<" not in found[1]
    return dict(json.loads(found[1]))


def test_every_audit_is_listed_the_latest_first_with_figures_and_people(home: Path) -> None:
    built = build_site(home)
    assert (built.index, built.audits, built.damaged, built.read) == (home / "site" / "index.html", 2, 0, 2)
    text = page(built).text
    assert "2 audits: 2 fail" in text
    assert text.index("صور الشارع") < text.index("street-pairs-2026", text.index("Ended (UTC)"))
    assert "0.81 % [0.73, 0.90]" in text
    assert "approved: <script>alert(1)</script>" in text and "1 note" in text
    assert "2026-11-23 02:11" in text
    told = data(built)
    place = told["figures"].index("lost.max_share")
    assert [audit[4][place] for audit in told["audits"]] == [[0.0081, 0.0073, 0.009]] * 2
    assert told["audits"][0][0] != told["audits"][1][0]  # against other weights: another line
    units = [told["units"].get(name) for name in ("lost.max_share", "retrieval.drop", "confirmed.count")]
    assert units == ["%", "points", None]


def test_an_index_of_somebody_else_stays(home: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("<title>mine</title>")
    with pytest.raises(ConfigError, match="koda did not make it"):
        build_site(home, tmp_path)
    assert (tmp_path / "index.html").read_text() == "<title>mine</title>"
    first = build_site(home, tmp_path / "own").index.read_bytes()
    assert build_site(home, tmp_path / "own").index.read_bytes() == first  # over its own


def test_hostile_names_do_nothing_and_links_lead_to_the_reports(home: Path, tmp_path: Path) -> None:
    for out in (None, tmp_path / "a b%20" / "ü?"):
        built = build_site(home, out)
        seen = page(built)
        links = [str(a["href"]) for a in seen.named("a") if not str(a["href"]).startswith("#")]
        assert len(links) == 2
        for link in links:
            assert not re.search(r"[\s<>\"?#&\u202e]", link)
            assert (built.index.parent / unquote(link)).is_file()
        text = built.index.read_text(encoding="utf-8")
        assert "\u202e" not in text and "alert(1)" in text
        assert len(seen.named("script")) == 2 and not seen.named("img")
        assert not [name for _, attributes in seen.tags for name in attributes if name.startswith("on")]
        policy = next(str(m["content"]) for m in seen.named("meta") if m.get("http-equiv"))
        assert "default-src 'none'" in policy and "unsafe" not in policy


def test_only_what_changed_is_read_again_and_the_page_is_the_same(home: Path) -> None:
    first = build_site(home).index.read_bytes()
    again = build_site(home)
    assert (again.read, again.index.read_bytes()) == (0, first)
    os.utime(home / "audits" / "audit-1" / "audit.json")
    again = build_site(home)
    assert (again.read, again.index.read_bytes()) == (1, first)
    annotate(home, "audit-1", Statement("dissent", "Mallory", "no"))
    again = build_site(home)
    assert again.read == 1 and "1 dissent" in page(again).text
    kept = sorted((home / "site-cache").iterdir())
    kept[0].write_bytes(kept[0].read_bytes()[:-9])
    kept[1].write_bytes(kept[1].read_bytes().replace(b"fail", b"pass"))
    repaired = build_site(home)
    assert (repaired.read, repaired.index.read_bytes()) == (2, again.index.read_bytes())
    shutil.rmtree(home / "audits" / ODD)
    assert (build_site(home).audits, len(list((home / "site-cache").iterdir()))) == (1, 1)


def test_a_new_record_of_the_same_id_is_read(home: Path) -> None:
    build_site(home)
    folder = home / "audits" / "audit-1"
    shutil.rmtree(folder)
    shutil.rmtree(home / "artifacts")
    put(home, small_record(id="audit-1", title="Made anew"))
    built = build_site(home)
    assert built.read == 1 and "Made anew" in page(built).text and "approved" not in page(built).text


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("audit.json", lambda text: text.replace('"fail"', '"pass"'), "audit.json: changed"),
        ("audit.json", None, "audit.json: missing"),
        ("slices.csv", lambda text: text + "x", "slices.csv: changed"),
        ("manifest.json", None, "manifest.json is missing"),
        ("manifest.json", lambda text: text[:-9], "manifest.json cannot be read"),
        ("annotations.json", lambda text: text.replace("Bob", "Eve"), "annotations.json: changed"),
        ("annotations.json", None, "annotations.json: missing"),
    ],
)
def test_damage_is_listed_as_such(home: Path, name: str, change: Any, words: str) -> None:
    build_site(home)
    path = home / "audits" / "audit-1" / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    built = build_site(home)
    assert (built.audits, built.damaged, built.read) == (2, 1, 1)
    assert words in page(built).text and words in built.notes[0]
    rows = [tag for tag, attributes in page(built).tags if tag == "tr" and attributes.get("data-damaged")]
    assert len(rows) == 1
    unreadable = [a for a in page(built).named("tr") if a.get("data-verdict") == "damaged"]
    assert len(unreadable) == (name == "audit.json")


def test_a_home_without_audits_and_one_that_is_not_there(tmp_path: Path) -> None:
    built = build_site(tmp_path / "none", tmp_path / "out")
    assert built.audits == 0 and "There is no audit yet" in page(built).text
    assert not (tmp_path / "none").exists()


def test_the_command_says_what_it_built_and_refuses_a_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KODA_HOME", str(home))
    assert "2 audits; 2 read\n" in CliRunner().invoke(app, ["site"]).stderr
    answer = CliRunner().invoke(app, ["site", "--json"])
    told = json.loads(answer.stdout)
    assert (answer.exit_code, told["audits"], told["index"]) == (0, 2, str(home / "site" / "index.html"))
    answer = CliRunner().invoke(app, ["site"])
    assert "2 audits; 0 read, the others as they were" in answer.stderr
    answer = CliRunner().invoke(app, ["site", "--out", str(home / "site" / "index.html")])
    assert answer.exit_code == 2 and "is a file" in answer.stderr


def test_it_is_dark_as_the_report_is() -> None:
    sheets = [(template_folder() / f"{name}.css").read_text(encoding="utf-8") for name in ("screen", "site")]
    colours = [
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", "".join(re.findall(r":root \{(.*?)\}", sheet, re.S))))
        for sheet in sheets
    ]
    assert colours[1] and colours[1].items() <= colours[0].items()
