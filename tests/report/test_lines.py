"""Line charts: points and limits lie where their numbers say, and subjects differ in more than colour."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.report import lines
from onnxmark.report.charts import Estimate, Level, Line, LineChart, LineCharts
from onnxmark.report.html import to_html
from onnxmark.report.markdown import to_markdown
from onnxmark.report.page import Headline, Page, Section
from onnxmark.report.palette import DARK, LIGHT, SERIES
from onnxmark.report.stylesheet import stylesheet

SUBJECTS = tuple(f"scheme {index}" for index in range(14))


def estimate(tick, mean, half=0.0):
    return Estimate(tick, mean, mean - half, mean + half, f"{mean:.3f} at tick {tick}")


def line(subject, *means, half=0.0):
    return Line(subject, tuple(estimate(tick, mean, half) for tick, mean in enumerate(means)))


def chart(*members, ticks=("1", "10", "90"), top=1.0, level=None, bottom=0.0):
    return LineChart("L1 pruning", "symbol error rate", "P (%)", ticks, top, members, level, bottom)


def parsed(*members, **fields):
    return ElementTree.fromstring(lines.line_chart(chart(*members, **fields), SUBJECTS))


def groups(drawing):
    """Class of a subject's colour -> its group."""
    return {group.get("class"): group for group in drawing.iter("g") if re.fullmatch(r"s\d", group.get("class") or "")}


def middle(mark):
    """Middle of a mark: of the box around it."""
    if mark.tag == "circle":
        return float(mark.get("cx")), float(mark.get("cy"))
    start, steps = re.fullmatch(r"M(\S+ \S+?)([hvl].*)z", mark.get("d")).groups()
    x, y = map(float, start.split())
    xs, ys = [x], [y]
    for kind, numbers in re.findall(r"([hvl])([^hvl]*)", steps):
        values = [float(value) for value in re.findall(r"-?[\d.]+", numbers)]
        moves = {"h": [(value, 0) for value in values], "v": [(0, value) for value in values]}.get(
            kind, list(zip(values[::2], values[1::2], strict=False))
        )
        for across, down in moves:
            x, y = x + across, y + down
            xs.append(x)
            ys.append(y)
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2


def marks(group):
    """Title -> middle of each mark of a subject."""
    return {inner[0].text: middle(inner[1]) for inner in group.iter("g") if inner is not group}


def scale(drawing):
    """Value -> height, from the level lines that the chart itself shows."""
    grid = next(path for path in drawing.iter("path") if path.get("class") == "grid")
    heights = [float(height) for height in re.findall(r"M\S+ (\S+?)H", grid.get("d"))]
    (values,) = (group for group in drawing.iter("g") if group.get("class") == "e")
    return dict(zip((float(label.text) for label in values), heights, strict=True))


def height_of(drawing, value):
    (low, below), (high, above) = (list(scale(drawing).items())[index] for index in (0, -1))
    return below + (value - low) / (high - low) * (above - below)


class TestHeights:
    @given(st.lists(st.floats(0, 1), min_size=1, max_size=3))
    @settings(max_examples=30)
    def test_points_lie_where_the_scale_says(self, means):
        drawing = parsed(line(0, *means))
        found = [y for _, y in marks(groups(drawing)["s0"]).values()]
        expected = dict.fromkeys(estimate(tick, mean).label for tick, mean in enumerate(means))
        assert len(found) == len(expected)
        for mean, y in zip(means, found, strict=True):
            assert y == pytest.approx(height_of(drawing, mean), abs=0.15)

    def test_limits_reach_from_low_to_high(self):
        drawing = parsed(line(0, 0.5, half=0.25))
        (whisker,) = (path for path in drawing.iter("path") if path.get("class") == "whisker")
        low, high = re.fullmatch(r"M\S+ (\S+)h6m-3 0V(\S+?)m-3 0h6", whisker.get("d")).groups()
        assert float(low) == pytest.approx(height_of(drawing, 0.25), abs=0.15)
        assert float(high) == pytest.approx(height_of(drawing, 0.75), abs=0.15)

    def test_a_mean_without_limits_has_no_whisker(self):
        assert not [path for path in parsed(line(0, 0.5)).iter("path") if path.get("class") == "whisker"]

    def test_limits_beyond_the_scale_are_cut_there(self):
        drawing = parsed(line(0, 0.02, half=0.1), top=0.6)
        (whisker,) = (path for path in drawing.iter("path") if path.get("class") == "whisker")
        low = float(re.match(r"M\S+ (\S+)h", whisker.get("d")).group(1))
        assert low == pytest.approx(height_of(drawing, 0), abs=0.1)

    def test_the_level_is_drawn_across_at_its_height_and_named(self):
        drawing = parsed(line(0, 0.1), level=Level(0.5, "guessing"))
        (limit,) = (path for path in drawing.iter("path") if path.get("class") == "limit")
        assert float(re.match(r"M\S+ (\S+)H", limit.get("d")).group(1)) == pytest.approx(
            height_of(drawing, 0.5), abs=0.1
        )
        assert "guessing" in [label.text for label in drawing.iter("text")]
        assert not [path for path in parsed(line(0, 0.1)).iter("path") if path.get("class") == "limit"]

    def test_a_scale_may_begin_below_zero(self):
        drawing = parsed(line(0, -3.0, 5.0), top=5.0, bottom=-3.0)
        assert min(scale(drawing)) < 0 < max(scale(drawing))


class TestPlaces:
    def test_ticks_go_from_left_to_right_and_gaps_stay_gaps(self):
        whole, gap = line(0, 0.1, 0.2, 0.3), Line(1, (estimate(0, 0.1), estimate(2, 0.3)))
        found = groups(parsed(whole, gap))
        whole_x = [x for x, _ in marks(found["s0"]).values()]
        gap_x = [x for x, _ in marks(found["s1"]).values()]
        assert whole_x == sorted(whole_x)
        shift = gap_x[0] - whole_x[0]
        assert gap_x[1] - whole_x[2] == pytest.approx(shift, abs=0.2)
        assert shift > 0

    @pytest.mark.parametrize("count", [1, 2, 6, 12])
    @pytest.mark.parametrize("ticks", [1, 3, 9])
    def test_points_of_a_tick_stand_apart_and_nearer_to_it_than_to_the_next(self, count, ticks):
        members = [line(index, *[0.5] * ticks) for index in range(count)]
        drawing = lines.line_chart(chart(*members, ticks=tuple(map(str, range(ticks)))), SUBJECTS)
        shown = ElementTree.fromstring(drawing)
        places = [list(marks(group).values()) for group in shown if re.fullmatch(r"s\d", group.get("class") or "")]
        by_tick = [[place[tick][0] for place in places] for tick in range(ticks)]
        for xs in by_tick:
            assert xs == sorted(xs)
            assert len(set(xs)) == count
        for one, other in pairwise(by_tick):
            assert max(one) < min(other)
        assert all(40 < x < 480 for xs in by_tick for x in xs)

    @pytest.mark.parametrize(
        "ticks", [("1",), tuple(map(str, range(60))), ("a very long value",) * 5, ("0.000123",) * 20]
    )
    def test_labels_of_ticks_neither_touch_nor_leave_the_paper(self, ticks):
        (axis,) = (
            group for group in parsed(line(0, 0.5), ticks=ticks) if group.get("class") == "m" and group.tag == "g"
        )
        spans = [
            (float(node.get("x")) - 3 * len(node.text), float(node.get("x")) + 3 * len(node.text)) for node in axis
        ]
        assert spans[0][0] >= 0
        assert spans[-1][1] <= 480
        assert all(end < start for (_, end), (start, _) in pairwise(spans))


class TestSubjects:
    def looks(self, subject):
        sample = ElementTree.fromstring(lines.sample(subject))
        outline = re.sub(r"^M\S+ -?[\d.]+", "", sample[1].get("d") or "circle")
        return sample.get("class"), sample[0].get("stroke-dasharray"), outline

    def test_twelve_look_different_and_six_differ_in_shape_alone(self):
        assert len({self.looks(index) for index in range(12)}) == 12
        assert len({self.looks(index)[2] for index in range(SERIES)}) == SERIES

    def test_a_subject_looks_the_same_in_the_key_and_in_every_chart(self):
        for subject in range(6):
            drawing = groups(parsed(line(subject, 0.1, 0.2)))
            colour, dashes, outline = self.looks(subject)
            group = drawing[colour]
            assert group[0].get("stroke-dasharray") == dashes
            mark = next(inner[1] for inner in group.iter("g") if inner is not group)
            assert re.sub(r"^M\S+ -?[\d.]+", "", mark.get("d") or "circle") == outline

    def test_every_colour_is_in_both_themes_and_the_sheet_applies_it(self):
        for index in range(SERIES):
            assert f".s{index}{{color:var(--series-{index})}}" in stylesheet()
        for palette in (LIGHT, DARK):
            assert len({palette[f"series-{index}"] for index in range(SERIES)}) == SERIES
            assert not {palette[f"series-{index}"] for index in range(SERIES)} & {
                palette[tone] for tone in ("good", "bad", "doubt")
            }

    def test_what_is_seen_is_said(self):
        drawing = parsed(line(0, 0.1, 0.4), line(2, 0.2))
        assert drawing.find("title").text == "L1 pruning"
        assert drawing.find("desc").text == ("scheme 0: 0.100 at tick 0, 0.400 at tick 1; scheme 2: 0.200 at tick 0")


class TestOnAPage:
    def page(self, *charts):
        part = LineCharts("what is left", ("Uchida", "<b>full</b>", "absent"), charts, "how to read it")
        return Page("evaluation", "t", "", Headline("W", "t"), (Section("Robustness", (part,)),), "c")

    def test_the_key_names_what_is_drawn_and_nothing_else(self):
        html = to_html(self.page(chart(line(0, 0.1)), chart(line(1, 0.1))))
        (key,) = re.findall(r'<ul class="key">(.*?)</ul>', html)
        assert re.findall(r"</svg>(.*?)</li>", key) == ["Uchida", "&lt;b&gt;full&lt;/b&gt;"]
        assert html.count('role="img"') == 2

    def test_text_leaves_charts_to_their_tables(self):
        markdown = to_markdown(self.page(chart(line(0, 0.1))))
        assert "Robustness" in markdown
        assert "what is left" not in markdown

    @pytest.mark.parametrize("members", [(), (Line(0, ()),), (line(0, 1e308, -1e308, half=1e300),)])
    def test_nothing_and_too_much_can_be_drawn(self, members):
        html = to_html(self.page(chart(*members, top=1e308, bottom=-1e308), chart(*members, ticks=())))
        assert not re.search(r'[ "MHVL](nan|-?inf)', html)
