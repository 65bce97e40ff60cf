"""Findings that share one name are told apart wherever they are named."""

from __future__ import annotations

from pathlib import Path

from koda.records import AuditRecord, Finding, OverRepresented, Theme, Word
from koda.report.cover import theme_lines
from koda.report.thumbnails import gallery
from koda.report.view import titles, view
from tests.report import factory
from tests.report.page import page_of


def _finding(number: int, first: list[str], second: list[str], words: tuple[str, ...] = (), size: int = 46) -> Finding:
    """Return a confirmed lost finding of one name, with metadata values of its lobes, the strongest first."""
    made = factory.finding(0, gallery=2)

    def lobe(sign: str, values: list[str]) -> object:
        metadata = [
            OverRepresented(column="script", value=value, share_in=0.9 - 0.01 * i, share_out=0.1, lift=9.0)
            for i, value in enumerate(values)
        ]
        said = [Word(text=word, z=5.0, share_in=0.8, share_out=0.1) for word in words]
        return getattr(made, sign).model_copy(update={"metadata": metadata, "words": said, "size": size})

    lobes = {"positive": lobe("positive", first), "negative": lobe("negative", second)}
    return made.model_copy(update={"direction": number, "name": "script = he against script = ar", **lobes})


def _record() -> AuditRecord:
    findings = [
        _finding(1, ["he", "x", "y", "short"], ["ar", "x", "y", "short"]),
        _finding(2, ["he", "x", "y"], ["ar", "x", "y", "long"]),
        _finding(3, ["he", "x"], ["ar", "x"], ("in", "he", "lamp")),
        _finding(4, ["he", "x"], ["ar", "x"], size=51),
    ]
    themes = [
        Theme(side="lost", number=n, findings=[f.subset], name=f.name, size=9, confirmed=True)
        for n, f in enumerate(findings, 1)
    ]
    return factory.record(0, map_points=0, findings=findings, themes=themes)


def test_a_shared_name_goes_with_what_the_others_of_that_name_have_not() -> None:
    assert list(titles(_record()).values()) == [
        "script = he against script = ar (script = short)",
        "script = he against script = ar (counterpart: script = long)",
        "script = he against script = ar (“lamp”)",
        "script = he against script = ar (lobes of 51 and 51)",
    ]
    assert len({line.name for line in theme_lines(_record())}) == 4
    alone = _record().model_copy(update={"findings": _record().findings[:1], "themes": []})
    assert list(titles(alone).values()) == ["script = he against script = ar"]


def test_the_page_tells_them_apart_wherever_it_names_them(tmp_path: Path) -> None:
    _, made = page_of(_record(), tmp_path)
    text = made.html.read_text(encoding="utf-8")
    for number, what in ((1, "script = short"), (2, "counterpart: script = long")):
        heading = f"Lost {number}: script = he against script = ar ({what})"
        assert text.count(heading) >= 4  # heading, sidebar with its title, table, forest
    assert "Lost 2: script = he against script = ar</option>" in text


def test_the_chip_that_tells_them_apart_comes_first_since_paper_has_room_for_two() -> None:
    record = _record()
    first, second = (view(record, finding, gallery(record, {})) for finding in record.findings[:2])
    assert [lobe.metadata[0].value for lobe in first.lobes] == ["he", "ar"]
    assert [lobe.metadata[1].value for lobe in first.lobes] == ["short", "short"]
    assert [lobe.metadata[1].value for lobe in second.lobes] == ["x", "long"]
