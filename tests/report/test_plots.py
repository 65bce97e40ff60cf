from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET

import pytest

from koda.report.map_plot import map_plot, mark_icon
from koda.report.plots import Interval, IntervalRow, curve_plot, interval_plot, interval_plots, line_plot

SVG = "{http://www.w3.org/2000/svg}"


def rows() -> list[IntervalRow]:
    return [
        IntervalRow("first", Interval(0.008, 0.007, 0.009), Interval(0.0005, 0.0003, 0.0007)),
        IntervalRow("second", Interval(0.004), Interval(-0.001, -0.002, 0.0)),
    ]


def interval_svg(**changes: object) -> str:
    settings: dict[str, object] = {
        "title": "t",
        "target_name": "a",
        "reference_name": "b",
        "axis": "share, %",
        "scale": 100.0,
    } | changes
    return str(interval_plot(rows(), **settings))  # type: ignore[arg-type]


def drawings() -> list[str]:
    points = [(float(i % 7), float(i // 7)) for i in range(50)]
    group = [0] * 30 + [1] * 5 + [-1] * 5 + [2] * 5 + [-2] * 5
    return [
        interval_svg(limits={"fail limit": 0.002}),
        str(line_plot({"baseline": [0.1, 0.01], "candidate": [0.2, 0.02]}, title="s", x_axis="i", y_axis="v")),
        str(map_plot(points, group, title="m")),
        str(mark_icon(-3)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_a_drawing_needs_no_style_sheet_and_names_itself(number: int) -> None:
    svg = drawings()[number]
    root = ET.fromstring(svg)
    assert root.tag == f"{SVG}svg" and root.find(f"{SVG}title") is not None
    for element in root.iter():
        assert not {"class", "style", "onclick", "href"} & set(element.attrib)
    assert "var(" not in svg and "currentColor" not in svg and "nan" not in svg.lower().replace("nanum", "")


def test_drawings_are_the_same_each_time() -> None:
    assert drawings() == drawings()


def test_names_are_escaped() -> None:
    row = IntervalRow("<script>&", Interval(1.0), Interval(2.0))
    svg = str(
        interval_plot([row], title='"><script>', target_name="<b>", reference_name="&", axis="<x>", limits={"<l>": 1.0})
    )
    assert "<script" not in svg and "<b>" not in svg
    labels = [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"<script>&", "<b>", "&", "<x>", "<l>"} <= set(labels)


def test_marks_stand_at_their_values_on_the_axis() -> None:
    root = ET.fromstring(interval_svg())
    ticks = {
        float((t.text or "").replace("−", "-")): float(t.attrib["x"])
        for t in root.iter(f"{SVG}text")
        if re.fullmatch(r"−?[\d.]+", t.text or "")
    }
    (v0, x0), *_, (v1, x1) = sorted(ticks.items())
    assert v0 <= -0.2 and v1 >= 0.9  # the axis, in percent, holds both ends of every whisker

    def expected(value: float) -> float:
        return x0 + (100 * value - v0) / (v1 - v0) * (x1 - x0)

    targets = [float(c.attrib["cx"]) for c in root.iter(f"{SVG}circle")][1:]  # the first is the legend's
    assert targets == pytest.approx([expected(0.008), expected(0.004)], abs=0.2)
    references = [float(r.attrib["x"]) + 3.5 for r in root.iter(f"{SVG}rect")][1:]
    assert references == pytest.approx([expected(0.0005), expected(-0.001)], abs=0.2)


def test_a_limit_stands_at_its_value_and_one_that_is_not_finite_is_left_out() -> None:
    assert "fail limit" in interval_svg(limits={"fail limit": 0.002})
    assert "odd" not in interval_svg(limits={"odd": math.inf})


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.0, 1e-300, -1e9])
def test_any_value_can_be_drawn(value: float) -> None:
    row = IntervalRow("x", Interval(value, value, value), Interval(0.0, None, 1.0))
    svg = str(interval_plot([row], title="t", target_name="a", reference_name="b", axis="x"))
    ET.fromstring(svg)
    assert not re.search(r'="[^"]*(nan|inf)\b', svg)


def test_a_long_label_is_cut_and_stays_in_the_picture() -> None:
    row = IntervalRow("w" * 500, Interval(1.0), Interval(0.5))
    label = next(
        t
        for t in ET.fromstring(
            str(interval_plot([row], title="t", target_name="a", reference_name="b", axis="x"))
        ).iter(f"{SVG}text")
        if (t.text or "").startswith("w")
    )
    assert (label.text or "").endswith("…") and len(label.text or "") < 60


def test_map_draws_all_dots_in_one_path_and_one_path_a_lobe() -> None:
    points = [(math.cos(i), math.sin(i)) for i in range(100)]
    group = [0] * 80 + [1] * 12 + [-1] * 8
    paths = list(ET.fromstring(str(map_plot(points, group, title="m"))).iter(f"{SVG}path"))
    assert [path.attrib["d"].count("M") for path in paths] == [80, 8, 12]
    assert paths[1].attrib["fill"] != paths[2].attrib["fill"]  # the counterpart is hollow


def test_map_has_one_scale_for_both_axes() -> None:
    points = [(0.0, 0.0), (10.0, 0.0), (0.0, 1.0)]
    path = next(ET.fromstring(str(map_plot(points, [0, 0, 0], title="m", size=200))).iter(f"{SVG}path")).attrib["d"]
    a, b, c = ((float(x), float(y)) for x, y in re.findall(r"M([\d.]+) ([\d.]+)h0", path))
    assert b[0] - a[0] == pytest.approx(176, abs=0.2) and a[1] - c[1] == pytest.approx(17.6, abs=0.2)


def test_map_of_one_point_of_equal_points_and_of_none() -> None:
    assert "M160.0 160.0" in map_plot([(3.0, 4.0)], [0], title="m")
    assert map_plot([(1.0, 1.0)] * 5, [1] * 5, title="m").count("M160.0 160.0") == 5
    assert map_plot([], [], title="m") == ""
    assert map_plot([(math.nan, 0.0)], [0], title="m") == ""
    with pytest.raises(ValueError, match="zip"):
        map_plot([(0.0, 0.0)], [], title="m")


def test_thirty_findings_have_thirty_marks() -> None:
    assert len({str(mark_icon(key)) for key in [*range(1, 31), *range(-30, 0)]}) == 60


def test_spectrum_leaves_out_what_has_no_logarithm() -> None:
    svg = line_plot({"a": [1.0, 0.0, -1.0, math.nan, 0.1], "b": [0.0]}, title="s", x_axis="i", y_axis="v")
    curve = [
        p
        for p in ET.fromstring(str(svg)).iter(f"{SVG}path")
        if "L" in p.attrib["d"] and p.attrib["stroke-width"] == "2"
    ]
    assert len(curve) == 1 and curve[0].attrib["d"].count("L") == 1
    assert line_plot({"a": [0.0]}, title="s", x_axis="i", y_axis="v") == ""
    assert line_plot({}, title="s", x_axis="i", y_axis="v") == ""
    ET.fromstring(str(line_plot({"one": [0.5]}, title="s", x_axis="i", y_axis="v")))


def test_a_curve_has_its_points_where_the_axes_say():
    svg = str(
        curve_plot(
            {"a": [(0.0, 0.0), (1.0, 10.0)], "b": [(0.5, 5.0), (0.7, math.nan)]}, title="t", x_axis="q", y_axis="v"
        )
    )
    paths = re.findall(r'<path d="M([\d. L]+)"[^>]*stroke-width="2"', svg)
    points = [[tuple(map(float, p.split())) for p in path.split("L")] for path in paths]
    ((x0, y0), (x1, y1)) = next(p for p in points if len(p) == 2)
    assert [((x0 + x1) / 2, (y0 + y1) / 2)] == next(p for p in points if len(p) == 1)  # what is not finite is left out
    assert 'stroke-dasharray="6 3"' in svg
    assert curve_plot({"a": [(math.inf, 1.0)], "b": []}, title="t", x_axis="q", y_axis="v") == ""
    assert "<path" in curve_plot({"one": [(0.5, 2.0)]}, title="t", x_axis="q", y_axis="v")


def test_a_curve_has_its_limits_and_marks_and_need_not_start_at_zero():
    line = {"a": [(0.0, 86.0), (400.0, 92.0)]}
    svg = str(
        curve_plot(
            line,
            title="t",
            x_axis="step",
            y_axis="",
            limits={"<guard>": 84.9, "odd": math.nan},
            marks={"kept": 400.0},
            from_zero=False,
        )
    )
    labels = [text.text or "" for text in ET.fromstring(svg).iter(f"{SVG}text")]
    assert {"<guard>", "kept", "84"} <= set(labels) and not {"odd", "0", "80"} & set(labels[:5])
    assert re.search(r'stroke="#b3151f"[^>]*stroke-dasharray="4 3"', svg)
    assert "84.9" not in svg and "nan" not in svg
    assert "0" in [
        t.text for t in ET.fromstring(str(curve_plot(line, title="t", x_axis="s", y_axis=""))).iter(f"{SVG}text")
    ]


def test_many_rows_are_several_figures_over_one_axis() -> None:
    many = [IntervalRow(f"row {n}", Interval(0.001 * n)) for n in range(45)]
    pieces = [str(piece) for piece in interval_plots(many, 20, title="t", axis="x", scale=100.0)]
    assert [piece.count(">row ") for piece in pieces] == [20, 20, 5]
    ticks = [re.findall(r'text-anchor="middle">([0-9.]+)<', piece) for piece in pieces]
    assert ticks[0] == ticks[1] == ticks[2] and len(ticks[0]) > 2


def test_no_upright_line_crosses_a_label_or_the_name_of_a_limit() -> None:
    long = [IntervalRow("a label that is longer than the limits are far from the left", Interval(0.008)), *rows()]
    svg = interval_plot(
        long,
        title="t",
        axis="x",
        limits={"warn limit 0.35 %": 0.0035, "fail limit 0.30 %": 0.003},
        scale=100.0,
        width=460,
        label_width=0,
        reference_name="b",
        target_name="a",
    )
    root = ET.fromstring(str(svg))
    upright = [
        tuple(map(float, found))
        for path in root.iter(f"{SVG}path")
        for found in re.findall(r"^M([\d.]+) ([\d.]+)L\1 ([\d.]+)$", path.attrib["d"])
    ]
    labels = [t for t in root.iter(f"{SVG}text") if "label" in (t.text or "") or "limit" in (t.text or "")]
    assert len(labels) == 3 and len(upright) > 6
    for label in labels:
        x, y, width = float(label.attrib["x"]), float(label.attrib["y"]), 5.0 * len(label.text or "")
        x -= width if label.attrib["text-anchor"] == "end" else 0
        crossing = [line for line in upright if x < line[0] < x + width and line[1] < y - 1 and line[2] > y - 8]
        assert crossing == [], label.text
    dashed = [path for path in root.iter(f"{SVG}path") if path.attrib.get("stroke-dasharray")]
    assert len(dashed) > 2  # the limit goes on beneath the label
