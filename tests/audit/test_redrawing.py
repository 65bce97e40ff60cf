"""A report drawn again from what an audit left, with what people said, and what becomes of the folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from koda.audit.annotations import Statement, read_annotations
from koda.audit.drawing import find_thumbnails
from koda.audit.folders import ANNOTATIONS, MANIFEST, RUNS, lacks_annotations, replace_files
from koda.audit.publishing import _put_files
from koda.audit.redrawing import annotate, redraw
from koda.audit.verification import verify_audit
from koda.errors import ConfigError, StoreError
from koda.evidence.verify import verify
from koda.records import AuditRecord
from koda.report.former import pictures_in
from tests.audit.published import leave_artifacts, put, small_record
from tests.records.versions import of_version_3, of_version_4
from tests.report import factory_looks
from tests.report.page import Page

RECORD = small_record()
HOSTILE = "<script>alert(1)</script> \u202egnitirw"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    put(home, RECORD)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def folder_of(home: Path) -> Path:
    return home / "audits" / RECORD.id


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def put_again(home: Path) -> None:
    """Do what the end of an audit does that is asked for again."""
    records, reports = (next((home / "artifacts" / kind).iterdir()) for kind in ("records", "reports"))
    _put_files(RECORD.id, reports, records, folder_of(home))


def test_the_same_record_gives_the_same_report(home: Path) -> None:
    before = files(folder_of(home))
    drawn = redraw(home, RECORD.id, pdf=False)
    after = files(folder_of(home))
    assert (drawn.id, drawn.html, drawn.pdf, drawn.notes) == (RECORD.id, folder_of(home) / "report.html", None, [])
    assert {name: data for name, data in after.items() if name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }
    assert "Nobody has signed off" in page(folder_of(home)).text


def test_people_stand_in_the_report_and_figures_stay(home: Path) -> None:
    folder = folder_of(home)
    record, verdict = (folder / "audit.json").read_bytes(), (folder / "verdict.json").read_bytes()
    annotate(home, RECORD.id, Statement("approved", HOSTILE))
    annotate(home, RECORD.id, Statement("note", "Bob", "the colour head", finding="lost 1"))
    annotate(home, RECORD.id, Statement("waiver", "Eve", "retrained", figure="lost.max_share", until=date(2999, 1, 1)))
    drawn = annotate(home, RECORD.id, Statement("dissent", "Mallory", HOSTILE))
    assert [entry.what for entry in drawn.annotations] == ["approved", "note", "waiver", "dissent"]
    seen = page(folder)
    assert "Nobody is named who prepared or reviewed it." in seen.text
    assert "1 waiver stated after the audit; the verdict above does not heed it." in seen.text
    assert seen.text.count("the colour head") == 2  # beside the finding, and among the people
    assert "Note by Bob" in seen.text
    assert any(link.get("href") == "#lost-1" for link in seen.named("a"))
    assert len(seen.named("script")) == 2 and "\u202e" not in (folder / "report.html").read_text(encoding="utf-8")
    assert ((folder / "audit.json").read_bytes(), (folder / "verdict.json").read_bytes()) == (record, verdict)
    assert all(check.problem is None for check in verify_audit(folder)[1])
    assert ANNOTATIONS in json.loads((folder / MANIFEST).read_bytes())["files"]


def test_an_audit_that_is_asked_for_again_keeps_what_was_drawn_since(home: Path) -> None:
    annotate(home, RECORD.id, Statement("reviewed", "Ada"))
    before = files(folder_of(home))
    put_again(home)
    assert files(folder_of(home)) == before
    assert not (folder_of(home) / RUNS).exists()


@pytest.mark.parametrize("lost", ["report.html", "slices.csv", MANIFEST])
def test_annotations_stay_where_other_files_are_put_back(home: Path, lost: str) -> None:
    annotate(home, RECORD.id, Statement("reviewed", "Ada"))
    (folder_of(home) / lost).unlink()
    put_again(home)
    assert lacks_annotations(folder_of(home))  # the report that was put back knows none
    assert [entry.who for entry in read_annotations(folder_of(home))] == ["Ada"]
    redraw(home, RECORD.id, pdf=False)
    assert not lacks_annotations(folder_of(home))
    assert "Reviewed by Ada" in page(folder_of(home)).text
    assert all(check.problem is None for check in verify_audit(folder_of(home))[1])


def test_a_new_record_begins_without_annotations_and_the_former_run_keeps_them(home: Path) -> None:
    annotate(home, RECORD.id, Statement("reviewed", "Ada"))
    new = RECORD.model_copy(update={"started": RECORD.started.replace(year=2027)})
    shutil.rmtree(home / "artifacts")
    records, reports = leave_artifacts(home, new)
    _put_files(RECORD.id, reports, records, folder_of(home))
    assert read_annotations(folder_of(home)) == ()
    assert "Ada" not in page(folder_of(home)).text
    former = folder_of(home) / RUNS / "1"
    assert [entry.who for entry in read_annotations(former)] == ["Ada"]
    assert "Reviewed by Ada" in page(former).text
    assert all(check.problem is None for check in verify_audit(former)[1])


def test_a_copy_elsewhere_takes_its_pictures_from_the_former_report(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder_of(home), tmp_path / "a copy & more"))
    before = (copy / "report.html").read_bytes()
    drawn = redraw(tmp_path / "no home", str(copy), pdf=False)
    assert (copy / "report.html").read_bytes() == before
    assert "former report.html" in drawn.notes[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a copy & more", "home"]


def test_without_any_pictures_the_frames_are_empty_and_it_is_said(home: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder_of(home), tmp_path / "copy"))
    (copy / "report.html").write_text("<p>", encoding="utf-8")  # not the one that was written: nothing of it is taken
    drawn = redraw(tmp_path / "no home", str(copy), pdf=False)
    assert "8 of 8\u00a0gallery pictures could not be had" in drawn.notes[0]


def test_a_folder_elsewhere_gets_the_whole_audit_and_the_own_one_stays(home: Path, tmp_path: Path) -> None:
    annotate(home, RECORD.id, Statement("approved", "Ada"))
    before = files(folder_of(home))
    out = tmp_path / "new" / "out"
    drawn = redraw(home, RECORD.id, out, pdf=False)
    assert files(folder_of(home)) == before
    assert drawn.html == out / "report.html" and files(out).keys() == before.keys()
    assert all(check.problem is None for check in verify_audit(out)[1])
    redraw(home, RECORD.id, out, pdf=False)  # over its own
    other = put(tmp_path / "other", small_record(title="Another"))
    with pytest.raises(ConfigError, match="another audit"):
        redraw(home, RECORD.id, other, pdf=False)
    with pytest.raises(ConfigError, match="is a file"):
        redraw(home, RECORD.id, out / "report.html", pdf=False)


def test_files_of_somebody_else_stay_and_are_named(home: Path, tmp_path: Path) -> None:
    for name in ("report.html", "verdict.json", "notes.txt"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=r"holds report\.html, verdict\.json of something else"):
        redraw(home, RECORD.id, tmp_path, pdf=False)
    assert {path.read_text() for path in tmp_path.iterdir() if path.is_file()} == {"mine"}
    assert not (tmp_path / "audit.json").exists()


def test_pages_of_pictures_are_listed_checked_copied_and_taken_away_with_their_report(tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "out"
    folder = put(home, RECORD, paged=True)
    names = [f"gallery-lost-{number}.html" for number in (1, 2)]
    assert set(names) < set(json.loads((folder / MANIFEST).read_bytes())["files"])
    printed = {check.name: check.state for check in verify(folder).checks if "digest" in check.what}
    assert [printed[name] for name in names] == ["verified"] * 2
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (tmp_path / "empty").write_bytes(b"")
    replace_files(copy, {"report.html": tmp_path / "empty"})  # pictures are taken from the pages
    shutil.copytree(folder, out)
    assert redraw(home, RECORD.id, out, pdf=False).notes == []
    mine = [out / "gallery-lost-7.html", out / "gallery-holidays.html"]
    for path in mine:
        path.write_text("not of koda")
    redraw(home, RECORD.id, out, pdf=False)
    assert [path.read_text() for path in mine] == ["not of koda"] * 2
    for path in mine:
        path.unlink()
    redraw(home, RECORD.id, pdf=False)  # which has room for all of its pictures
    for drawn in (out, folder):
        assert not list(drawn.glob("gallery-*")) and all(check.problem is None for check in verify_audit(drawn)[1])
    put_again(home)
    assert not list(folder.glob("gallery-*"))  # what was drawn since stays
    (folder / "report.html").unlink()
    put_again(home)
    assert sorted(path.name for path in folder.glob("gallery-*")) == names
    (folder / names[0]).write_text("other")
    assert [check.name for check in verify_audit(folder)[1] if check.problem] == [names[0]]
    shutil.rmtree(home)
    assert "former report.html" in redraw(home, str(copy), tmp_path / "again", pdf=False).notes[0]
    assert "no picture" not in page(tmp_path / "again").text


@pytest.mark.parametrize("written", [of_version_3, of_version_4])
def test_a_record_of_an_older_version_is_drawn_again_by_what_it_has_become_and_stays_as_it_is(
    tmp_path: Path, written: Callable[[AuditRecord], str]
) -> None:
    made = factory_looks.record(1, gallery=2, map_points=0)
    home, old = tmp_path / "home", written(made)
    folder = put(home, made)
    (tmp_path / "audit.json").write_text(old, encoding="utf-8")
    replace_files(folder, {"audit.json": tmp_path / "audit.json"})
    redraw(home, made.id, pdf=False)
    assert (folder / "audit.json").read_text(encoding="utf-8") == old
    checks = {check.name: check for check in verify(folder).checks if "digest" in check.what}
    assert checks["report.html"].state == "verified"
    assert all(check.problem is None for check in verify_audit(folder)[1])


def test_pictures_are_taken_from_pages_that_the_manifest_lists_and_a_damaged_one_empties_no_other(
    tmp_path: Path,
) -> None:
    folder = put(tmp_path / "home", RECORD, paged=True)
    whole, _ = find_thumbnails(tmp_path / "no home", Path(shutil.copytree(folder, tmp_path / "copy")))
    copy = tmp_path / "copy"
    first, second = ((copy / f"gallery-lost-{number}.html").read_text(encoding="utf-8") for number in (1, 2))
    key, other = (next(iter(pictures_in(text))) for text in (first, second))
    (copy / "gallery-gained-1.html").write_text(second.replace(f'"{other}"', f'"{key}"'), encoding="utf-8")
    assert whole[key] != whole[other] and find_thumbnails(tmp_path / "no home", copy)[0] == whole
    (copy / "gallery-lost-1.html").write_text("damaged")
    (copy / "report.html").write_text("damaged")
    assert find_thumbnails(tmp_path / "no home", copy)[0] == pictures_in(second)


def test_damage_is_refused_and_nothing_is_drawn(home: Path) -> None:
    annotate(home, RECORD.id, Statement("approved", "Ada"))
    folder = folder_of(home)
    text = (folder / ANNOTATIONS).read_text(encoding="utf-8")
    (folder / ANNOTATIONS).write_text(text.replace("Ada", "Eve"), encoding="utf-8")
    before = files(folder)
    for attempt in (
        lambda: redraw(home, RECORD.id, pdf=False),
        lambda: annotate(home, RECORD.id, Statement("note", "B", "x")),
    ):
        with pytest.raises(StoreError, match="entry 1 is not as it was written"):
            attempt()
    assert files(folder) == before
    (folder / ANNOTATIONS).write_text(text, encoding="utf-8")
    (folder / "audit.json").write_text(
        (folder / "audit.json").read_text().replace('"fail"', '"pass"'), encoding="utf-8"
    )
    with pytest.raises(StoreError, match=r"audit\.json is damaged"):
        redraw(home, RECORD.id, pdf=False)
    (folder / "audit.json").unlink()
    with pytest.raises(ConfigError, match=r"it has no audit\.json"):
        redraw(home, RECORD.id, pdf=False)
