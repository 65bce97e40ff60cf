"""What there is to look at, as the page holds it: galleries, matrices, maps, neighbours, pictures and their weight."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from koda.records import AuditRecord, Looks, Neighbour, SampleNeighbours
from koda.report import template_folder
from koda.report.environment import script
from koda.report.former import pictures_in
from tests.report import factory, factory_looks
from tests.report.page import Page, known, page_of

BLUE, ORANGE, AMBER, RED, GREY = "#1d5fb8", "#b4530a", "#8a5a00", "#b3151f", "#545d6e"


@pytest.fixture(scope="module")
def looked() -> AuditRecord:
    return factory_looks.record()


@pytest.fixture(scope="module")
def made(looked: AuditRecord, tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    thumbnails = factory_looks.thumbnails(looked)
    page, report = page_of(looked, tmp_path_factory.mktemp("looks"), thumbnails)
    assert report.notes == []
    return page, report.html.read_text(encoding="utf-8")


def test_a_gallery_says_why_each_picture_is_in_it_and_begins_with_what_was_held_out(made: tuple[Page, str]) -> None:
    page, raw = made
    lobe = raw[raw.index('id="lost-1-positive"') : raw.index('id="lost-1-negative"')]
    assert re.findall(r"<h6>([^<]+)", lobe) == [
        "Top of the ranking",
        "Drawn from the members",
        "Near misses, no members",
    ]
    shots = re.findall(r'data-split="(\w+)" data-pick="([\w ]+)" data-meta="([^"]+)"', lobe)
    assert [(split, pick) for split, pick, _ in shots] == [
        ("confirmation", "top"),
        ("discovery", "top"),
        ("confirmation", "member"),
        ("confirmation", "near miss"),
    ]
    assert all("colour\u00a0purple" in meta for _, _, meta in shots)
    assert "20 of them held out" in page.text and "come first in each group" in page.text
    captions = {image["alt"] for image in page.named("img") if not str(image["alt"]).startswith("Picture of")}
    assert any("A purple umbrella" in str(caption) for caption in captions)


def test_similarities_and_what_samples_are_taken_for_stand_in_shaded_tables(made: tuple[Page, str]) -> None:
    page, raw = made
    assert "Mean similarity first lobe counterpart rest first lobe 0.301 0.021 0.012" in page.text
    assert "counterpart 0.021 0.204 0.010" in page.text
    assert 'class="num s9">0.301' in raw and 'class="num s0">–' in raw  # the highest, and one that is not known
    first, second = (page.text.index(f"{role}: ViT-B-32 step") for role in ("Baseline", "Candidate"))
    assert first < second
    assert "50 held-out samples; 3 of other classes are left out Right class purple blue other classes" in page.text
    assert "purple 12 27\u00a0% 30 67\u00a0% 3 7\u00a0%".replace("\u00a0", " ") in page.text


def test_a_share_is_said_in_samples_and_beside_the_members(made: tuple[Page, str]) -> None:
    text = made[0].text
    assert "The lobes have 46 and 39 members (20 and 20 of them held out)." in text
    assert (
        "it is what 23.8 samples that are as alike as a sample and its nearest 1 % would have among the 2 941" in text
    )
    assert "the same in samples, of 2 941 23.8 1.5" in text


def test_a_finding_that_is_not_confirmed_is_hollow_and_grey_with_the_reason(made: tuple[Page, str]) -> None:
    page, raw = made
    assert (
        "The difference is not confirmed on held-out samples: it is 0.04 % (95 % interval −0.02 to 0.11 %) for "
        "n = 2 941, which does not show that it is over the materiality of 0.10 % (p = 0.31, one-sided, Holm)."
    ) in page.text
    forest = raw[raw.index('<figure class="forest">') :].split("</svg>")[0]
    assert forest.count("<circle") == 3
    assert forest.count(f'fill="#ffffff" stroke="{GREY}"') == 1  # the third of the three
    assert AMBER in forest and "materiality" in forest and BLUE not in forest


def test_a_model_keeps_its_colour_and_warn_is_not_as_red_as_fail(tmp_path: Path) -> None:
    raw = page_of(factory.record(6, gallery=0, map_points=0), tmp_path)[1].html.read_text(encoding="utf-8")
    for finding, order in (("lost-1", [BLUE, ORANGE]), ("gained-1", [ORANGE, BLUE])):
        plot = raw[raw.index(f'id="{finding}"') :].split("</svg>")[0]
        drawn = re.findall(rf"<(circle|rect)[^>]*({BLUE}|{ORANGE})[^>]*/>(?=<text[^>]*>([^<]+))", plot)
        by_name = {name: (shape, colour) for shape, colour, name in drawn}
        assert by_name == {factory.BASELINE: ("circle", BLUE), factory.CANDIDATE: ("rect", ORANGE)}, order
    overview = raw[raw.index('id="lost"') :].split("</svg>")[0]
    assert re.search(rf'fill="{AMBER}"[^>]*>warn limit', overview) and re.search(rf'fill="{RED}"[^>]*>fail', overview)


def test_the_script_knows_places_neighbours_and_pictures(looked: AuditRecord, made: tuple[Page, str]) -> None:
    data = known(made[0])
    points = looked.metrics.map
    assert points is not None and [data["keys"][i] for i in data["map"]["at"]] == points.keys
    assert len(data["map"]["baseline"]) == len(data["map"]["candidate"]) == len(points.keys)
    assert all(0 <= v <= 320 for role in ("baseline", "candidate") for place in data["map"][role] for v in place)
    first = looked.looks.neighbours[0]
    baseline, candidate, shared = data["near"][str(data["keys"].index(first.key))]
    assert [data["keys"][i] for i, _ in baseline] == [n.key for n in first.baseline]
    assert [similarity for _, similarity in candidate] == [0.9, 0.85, 0.8, 0.75, 0.7] and shared == first.shared
    assert {data["keys"][int(i)] for i in data["pictures"]} == {
        n.key for e in looked.looks.neighbours for n in e.baseline + e.candidate
    }
    assert {data["keys"][int(i)] for i in data["sheet"]["tiles"]} == {f"s{i}" for i in range(60)}
    (sheet,) = [image for image in made[0].named("image") if image.get("id") == "sheet"]
    assert (sheet["width"], sheet["height"]) == ("1280", "80")  # 32 pictures of 40 px a row


def test_contents_stand_beside_with_the_state_of_each_finding_and_long_sections_are_folded(
    made: tuple[Page, str],
) -> None:
    page, raw = made
    said = " ".join(page.content["sidebar"].split())
    assert "○Lost 3: two against three, not confirmed" in said and "●Lost 1: purple against blue, confirmed" in said
    for section in ("scope", "models", "data", "method", "samples"):
        assert re.search(rf'id="{section}".*?</h2>\n<details class="fold">\n<summary>[^<]+', raw, re.S), section
    assert "street-pairs-2026: 5 883 samples compared, 17 left out, 2 941 of them held out" in page.text


def test_text_of_the_data_stays_text_in_what_the_script_reads(looked: AuditRecord, tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>\u202e\x00"
    samples = {
        k: s.model_copy(update={"caption": evil, "metadata": {evil: evil}}) for k, s in looked.looks.samples.items()
    }
    near = SampleNeighbours(key=evil, baseline=[Neighbour(key=evil, similarity=float("nan"))], candidate=[], shared=0)
    baseline = looked.baseline.model_copy(update={"label": evil})
    findings = [f.model_copy(update={"target": evil, "reference": evil}) for f in looked.findings]
    record = looked.model_copy(
        update={"looks": Looks(samples=samples, neighbours=[near]), "baseline": baseline, "findings": findings}
    )
    page, report = page_of(record, tmp_path, {})
    raw = report.html.read_text(encoding="utf-8")
    assert raw.count("<script") == raw.count("</script>") == 2 and "\u202e" not in raw and "\x00" not in raw
    data = known(page)
    assert any("<script>alert(1)" in caption for caption in data["captions"])
    assert (
        data["near"][str(data["keys"].index(evil.replace("\u202e", "\ufffd").replace("\x00", "\ufffd")))][0][0][1]
        is None
    )


def test_neighbours_that_are_too_heavy_have_their_pictures_on_pages_beside_the_report(tmp_path: Path) -> None:
    record = factory_looks.record(1)
    keys = [f"heavy{i}" for i in range(1500)]
    many = record.looks.neighbours[0].model_copy(update={"baseline": [Neighbour(key=k, similarity=0.5) for k in keys]})
    record = record.model_copy(update={"looks": record.looks.model_copy(update={"neighbours": [many]})})
    grain = factory_looks.picture(1, (96, 96), noise=0.9)
    page, report = page_of(record, tmp_path, factory_looks.thumbnails(record) | dict.fromkeys(keys, grain))
    assert report.html.stat().st_size < 5_000_000
    assert len(report.notes) == 1 and report.notes[0].startswith("With all of its pictures report.html would be over")
    beside = pictures_in((report.html.parent / "gallery-lost-1.html").read_text(encoding="utf-8"))
    assert set(keys) < set(beside)
    assert known(page)["pictures"] == {} and "sheet" in known(page)


def test_a_record_with_nothing_to_look_at_has_the_script_and_no_maps(tmp_path: Path) -> None:
    page, report = page_of(factory.record(0, map_points=0), tmp_path)
    data = known(page)
    assert data["keys"] == [] and "map" not in data and "sheet" not in data and report.notes == []


def test_the_script_is_small_and_loads_nothing() -> None:
    text = script(template_folder())
    assert len(text) < 15_000
    for word in ("fetch(", "XMLHttpRequest", "import ", "eval(", "innerHTML", "http"):
        assert word not in text
