"""The charts: what they draw is where the numbers say, and verdicts differ in shape."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from onnxmark.report import svg
from onnxmark.report.page import (
    Bar,
    BitMap,
    CurvePoint,
    Curves,
    Histogram,
    Panel,
    Plane,
    PlanePoint,
    Series,
    Tone,
)
from onnxmark.report.stylesheet import stylesheet


def parsed(drawing):
    return ElementTree.fromstring(drawing)


def texts(drawing):
    return [node.text for node in parsed(drawing).iter("text")]


def points(drawing):
    """Title -> (shape's element, position) of every mark with a title."""
    found = {}
    for group in parsed(drawing).iter("g"):
        if group.get("class"):
            continue
        title, mark = group
        if mark.tag == "circle":
            place = (float(mark.get("cx")), float(mark.get("cy")))
        else:
            place = tuple(map(float, re.match(r"M(\S+) (\S+?)l", mark.get("d")).groups()))
        found[title.text] = (mark.tag, mark.get("class").split()[0], place)
    return found


def ticks_below(drawing):
    """Position and words of the labels of the horizontal axis."""
    (axis,) = (group for group in parsed(drawing).iter("g") if group.get("class") == "m")
    return [(float(node.get("x")), node.text) for node in axis]


def curves(*series, boundary=6.0, ticks=("10", "50", "90")):
    panel = Panel("L1 pruning", "strength (%)", ticks, series)
    return panel, Curves("title", (panel,), "evidence", boundary, "note")


def curve(*heights, tone=Tone.GOOD, best=None):
    return tuple(
        CurvePoint(index, height, best or height, tone, f"point {index}") for index, height in enumerate(heights)
    )


class TestBar:
    @pytest.mark.parametrize(("length", "width"), [(0.0, 0), (0.5, 40), (1.0, 80), (7.0, 80), (-1.0, 0)])
    def test_length(self, length, width):
        drawing = parsed(svg.bar(Bar(length, 0.25), Tone.GOOD))
        assert float(drawing.find("rect").get("width")) == width
        assert drawing.find("path").get("d").startswith("M20 ")
        assert drawing.find("rect").get("class") == "good"

    def test_the_style_sheet_leaves_room_for_a_full_bar_and_its_boundary(self):
        (width,) = re.findall(r"\.bar svg\{width:(\d+)px", stylesheet())
        assert int(width) == svg.BAR + 1


class TestHistogram:
    def test_bars_are_as_high_as_their_counts_and_lie_on_their_side(self):
        chart = Histogram("title", (-2.0, -1.0, 0.0, 1.0, 2.0), (0, 5, 10, 20), "axis", "wrong", "right", "summary")
        drawing = parsed(svg.histogram(chart))
        bars = drawing.findall("rect")
        heights = [float(bar.get("height")) for bar in bars]
        assert [height / heights[-1] for height in heights] == pytest.approx([0.25, 0.5, 1], abs=0.01)
        assert [bar.get("class").split()[1] for bar in bars] == ["bad", "good", "good"]
        assert {"← wrong", "right →", "axis"} <= set(texts(svg.histogram(chart)))
        assert drawing.find("desc").text == "summary"

    def test_no_counts(self):
        assert parsed(svg.histogram(Histogram("t", (-1.0, 1.0), (0,), "a", "b", "c", "d"))).findall("rect") == []


class TestBitMap:
    def shapes(self, margins):
        drawing = parsed(svg.bit_map(BitMap("title", tuple(margins), "summary")))
        return {path.get("class"): path.get("d").count("M") for path in drawing.findall("path")}

    def test_a_shape_a_bit(self):
        assert self.shapes([1.0, -1.0, 0.5, -0.1, 0.0]) == {"full good": 2, "cross bad": 3}
        assert self.shapes([1.0] * 4096) == {"full good": 4096}
        assert self.shapes([-1.0]) == {"cross bad": 1}

    def test_surer_bits_are_larger(self):
        drawing = svg.bit_map(BitMap("title", (4.0, 2.9, 1.9, 0.1), "summary"))
        sides = [float(side) for side in re.findall(r"h([\d.]+)v", drawing)]
        assert sides == sorted(sides, reverse=True)
        assert len(set(sides)) == 4

    def test_cells_do_not_overlap_and_stay_on_the_paper(self):
        drawing = svg.bit_map(BitMap("title", (1.0,) * 600, "summary"))
        corners = {(float(x), float(y)) for x, y in re.findall(r"M(\S+) (\S+?)h", drawing)}
        assert len(corners) == 600
        width, height = (float(parsed(drawing).get(name)) for name in ("width", "height"))
        assert all(0 <= x < width - 6 and 0 <= y < height - 6 for x, y in corners)

    def test_beyond_the_limit_it_says_so(self):
        drawing = svg.bit_map(BitMap("title", (1.0,) * (svg.MAX_BITS + 1), "summary"))
        assert parsed(drawing).find("desc").text == "summary. The first 4096 are shown."


class TestPanel:
    def test_heights_are_square_roots_of_the_evidence(self):
        panel, chart = curves(Series("plain", curve(100.0, 25.0, 0.0)))
        (_, _, (left, top)), (_, _, (middle, half)), (_, _, (right, ground)) = points(svg.panel(panel, chart)).values()
        assert left < middle < right
        assert (ground - half) / (ground - top) == pytest.approx(0.5, abs=0.01)

    def test_the_boundary_parts_matches_from_the_rest(self):
        panel, chart = curves(Series("plain", (*curve(7.0), CurvePoint(1, 5.0, 5.0, Tone.BAD, "lost"))))
        drawing = svg.panel(panel, chart)
        limit = float(re.search(r'class="limit" d="M\S+ (\S+?)H', drawing).group(1))
        found = points(drawing)
        assert found["point 0"][2][1] < limit < found["lost"][2][1] + 4
        assert svg.BOUNDARY in texts(drawing)

    def test_shapes_tell_verdicts_apart(self):
        tones = (Tone.GOOD, Tone.BAD, Tone.DOUBT)
        members = tuple(CurvePoint(index, 9.0, 9.0, tone, str(tone)) for index, tone in enumerate(tones))
        panel, chart = curves(Series("plain", members))
        assert {title: shape[:2] for title, shape in points(svg.panel(panel, chart)).items()} == {
            "good": ("circle", "good"),
            "bad": ("path", "cross"),
            "doubt": ("path", "open"),
        }

    def test_dashes_tell_series_apart(self):
        panel, chart = curves(*(Series(str(index), curve(9.0, 8.0)) for index in range(4)))
        lines = [path for path in parsed(svg.panel(panel, chart)).iter("path") if path.get("class") == "curve"]
        assert len({path.get("stroke-dasharray") for path in lines}) == 4

    def test_whiskers_only_where_draws_differ(self):
        for best, whiskers in ((None, 0), (60.0, 1)):
            panel, chart = curves(Series("plain", curve(20.0, best=best)))
            assert svg.panel(panel, chart).count("whisker") == whiskers

    @pytest.mark.parametrize(
        "ticks",
        [
            tuple(f"{index}" for index in range(40)),
            ("float16", "bfloat16", "float8_e4m3", "float8_e5m2"),
            tuple(f"a long strength {index}" for index in range(9)),
            ("one of them",),
        ],
    )
    def test_labels_of_ticks_neither_touch_nor_leave_the_paper(self, ticks):
        panel, chart = curves(Series("plain", curve(9.0)), ticks=ticks)
        labels = ticks_below(svg.panel(panel, chart))
        spans = [(x - 3 * len(words), x + 3 * len(words)) for x, words in labels]
        assert spans[0][0] >= 0
        assert spans[-1][1] <= 300
        assert all(end < start for (_, end), (start, _) in pairwise(spans))

    def test_labels_that_fit_are_whole(self):
        ticks = ("float16", "bfloat16", "float8_e4m3", "float8_e5m2")
        panel, chart = curves(Series("plain", curve(9.0)), ticks=ticks)
        assert tuple(words for _, words in ticks_below(svg.panel(panel, chart))) == ticks

    def test_no_boundary_no_evidence(self):
        panel, chart = curves(Series("plain", curve(0.0)), boundary=0.0)
        parsed(svg.panel(panel, chart))


class TestPlane:
    def drawn(self, *members):
        return svg.plane(Plane("title", members, "loss", "evidence", 6.0, percent=True, note="note"))

    def test_losses_go_right_and_evidence_up(self):
        found = points(
            self.drawn(
                PlanePoint(1, 0.0, 80.0, Tone.GOOD, "kept"),
                PlanePoint(2, 0.8, 20.0, Tone.GOOD, "costly"),
                PlanePoint(3, 0.8, 0.0, Tone.BAD, "gone"),
            )
        )
        kept, costly, gone = (found[title][2] for title in ("1. kept", "2. costly", "3. gone"))
        assert kept[0] < costly[0]
        assert kept[1] < costly[1] < gone[1] + 4

    def test_points_are_numbered_as_long_as_there_is_room(self):
        alone = self.drawn(PlanePoint(7, 0.5, 50.0, Tone.GOOD, "x"))
        assert "7" in texts(alone)
        crowd = self.drawn(*(PlanePoint(number, 0.5, 50.0, Tone.GOOD, "x") for number in range(100, 150)))
        numbers = [text for text in texts(crowd) if text.isdigit() and int(text) >= 100]
        assert 1 <= len(numbers) < 50
        assert len(points(crowd)) == 50

    def test_numbers_cover_neither_points_nor_each_other(self):
        members = [PlanePoint(n, (n * 7 % 40) / 40, (n * 13 % 60) + 1.0, Tone.GOOD, "x") for n in range(1, 61)]
        drawing = self.drawn(*members)
        labels = [node for node in parsed(drawing).iter("text") if node.get("class") == "on" and node.text.isdigit()]
        boxes = [(float(one.get("x")), float(one.get("y")), 7 * len(one.text)) for one in labels]
        for index, (x, y, wide) in enumerate(boxes):
            for left, down, breadth in boxes[index + 1 :]:
                assert x + wide <= left + 0.2 or left + breadth <= x + 0.2 or abs(y - down) >= 10.8

    def words(self, drawing, said):
        """What words of the boundary cover: left, top, right, bottom."""
        (node,) = (node for node in parsed(drawing).iter("text") if node.text == said)
        x, y = float(node.get("x")), float(node.get("y"))
        return x, y - 10, x + 6 * len(said), y + 1

    @pytest.mark.parametrize("crowded", [(0.0,), (0.9,), (0.751,), (0.0, 0.9), (0.0, 0.4, 0.5, 0.9), ()])
    def test_the_boundary_is_named_where_nothing_lies_on_its_words(self, crowded):
        heights = [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
        members = [PlanePoint(1, 0.9, 60.0, Tone.GOOD, "far right"), PlanePoint(2, 0.0, 60.0, Tone.GOOD, "far left")]
        members += [
            PlanePoint(3, loss, height, Tone.GOOD, f"{loss} {height}") for loss in crowded for height in heights
        ]
        drawing = self.drawn(*members)
        for said in (svg.BOUNDARY, "mark gone"):
            left, top, right, bottom = self.words(drawing, said)
            for _, _, (x, y) in points(drawing).values():
                assert not (left < x + 4 and x - 4 < right and top < y + 4 and y - 4 < bottom), (said, x, y)
            for node in parsed(drawing).iter("text"):
                if node.text.isdigit() and node.get("class") == "on":
                    x, y = float(node.get("x")), float(node.get("y"))
                    assert not (left < x + 7 and x < right and top < y and y - 9 < bottom), (said, node.text)

    def test_the_boundary_is_named_at_the_right_end_where_that_is_free(self):
        drawing = self.drawn(PlanePoint(1, 0.5, 60.0, Tone.GOOD, "x"))
        assert self.words(drawing, svg.BOUNDARY)[2] == pytest.approx(744)

    def test_a_gain_lies_left_of_zero(self):
        found = points(
            self.drawn(PlanePoint(1, -0.1, 9.0, Tone.GOOD, "gain"), PlanePoint(2, 0.0, 9.0, Tone.GOOD, "none"))
        )
        assert found["1. gain"][2][0] < found["2. none"][2][0]

    @pytest.mark.parametrize("loss", [1e308, -1e308, 0.0])
    def test_any_loss_stays_on_the_paper(self, loss):
        ((_, _, (x, y)),) = points(self.drawn(PlanePoint(1, loss, 1.0, Tone.GOOD, "x"))).values()
        assert 0 <= x <= 760
        assert 0 <= y <= 440
