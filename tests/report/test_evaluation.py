"""The page of an evaluation: the standard's tables, every figure where it belongs, and what they do not show."""

import copy
import io

import pytest
from rich.console import Console

from onnxmark.report.charts import LineCharts
from onnxmark.report.html import to_html
from onnxmark.report.markdown import to_markdown
from onnxmark.report.page import Facts, Notes, Table, Tone
from onnxmark.report.pages import page_of
from onnxmark.report.schema import validate
from onnxmark.report.terminal import print_page
from tests.report.synthetic_evaluations import (
    MODIFICATIONS,
    SCHEMES,
    architecture,
    evaluation,
    inapplicable,
    mean,
    partial,
    scheme,
    small,
)


def sections(page):
    waiting = list(page.sections)
    while waiting:
        section = waiting.pop(0)
        yield section
        waiting = [*section.sections, *waiting]


def section(page, title):
    (found,) = (one for one in sections(page) if one.title == title)
    return found


def parts(one, kind):
    return [part for part in one.parts if isinstance(part, kind)]


def table(page, title, index=0):
    return parts(section(page, title), Table)[index]


def cells(found):
    """A dictionary a row, by the titles of its columns, with the later of two same titles numbered."""
    titles = []
    for column in found.columns:
        titles.append(f"{column.title} 2" if column.title in titles else column.title)
    return [dict(zip(titles, row, strict=True)) for row in found.rows]


def texts(found):
    return [{title: cell.text for title, cell in row.items()} for row in cells(found)]


def facts(page, title):
    return {fact.name: fact for part in parts(section(page, title), Facts) for fact in part.rows}


def signed(text):
    return float(text.replace("−", "-"))


def printed(document, width):
    file = io.StringIO()
    print_page(page_of(document), Console(file=file, width=width, highlight=False))
    return file.getvalue()


class TestHeadline:
    def test_a_complete_evaluation(self):
        headline = page_of(evaluation()).headline
        assert (headline.word, headline.tone) == ("EVALUATED", Tone.NEUTRAL)
        assert headline.text == "6 schemes on 3 networks × 4 payloads, 7 modifications; no false positive at any point"

    def test_a_violated_data_rule_is_stated_and_one_that_is_met_is_not(self):
        (note,) = page_of(evaluation()).headline.notes
        assert note.startswith("convnet: the standard asks for ten times as many examples as parameters, 289,380; ")
        assert note.endswith("has 60,000, which violates the rule")
        document = small()
        document["plan"]["architectures"] = [architecture("tiny", 100)]
        assert page_of(document).headline.notes == ()

    def test_a_partial_one_says_so_and_names_who_raised_false_alarms(self):
        headline = page_of(partial()).headline
        assert (headline.word, headline.tone) == ("PARTLY EVALUATED", Tone.DOUBT)
        assert headline.text.endswith("2 modifications; false positives (Uchida, mean: 2)")
        assert any("not everything that was planned" in note for note in headline.notes)
        assert "1 scheme does not apply: see below why" in headline.notes

    def test_a_broken_decoder_is_told_first_and_its_scheme_is_marked(self):
        document = partial()
        page = page_of(document)
        assert page.headline.notes[0] == document["schemes"][0]["doubts"][0]
        rows = cells(table(page, "At a glance"))
        assert [row["scheme"].tone for row in rows] == [Tone.DOUBT, Tone.NEUTRAL]
        document = small()
        document["schemes"][0]["doubts"] = ["the decoder is broken"]
        assert page_of(document).headline.tone is Tone.DOUBT
        document["schemes"][0]["doubts"] = []
        assert page_of(document).headline.tone is Tone.NEUTRAL

    def test_false_positives_are_a_doubt_even_if_all_is_complete(self):
        document = small()
        document["schemes"][1]["robustness"][2]["points"][3]["false_positives"] = 1
        headline = page_of(document).headline
        assert headline.tone is Tone.DOUBT
        assert "false positives (full carrier: 1)" in headline.text

    def test_no_scheme_that_applies(self):
        document = small()
        document["schemes"] = [inapplicable("ingrain", "needs questions"), inapplicable("structural", "no carriers")]
        page = page_of(document)
        assert (page.headline.word, page.headline.tone) == ("EVALUATED", Tone.DOUBT)
        assert page.headline.text.endswith("nothing was measured")
        assert {one.title for one in page.sections} == {
            "At a glance", "What was evaluated", "What this does not show", "How it was done"
        }  # fmt: skip


class TestGlance:
    def test_a_row_a_scheme_that_applies_with_what_it_is_when_nobody_modifies_it(self):
        document = evaluation()
        rows = cells(table(page_of(document), "At a glance"))
        assert [row["scheme"].text for row in rows] == list(SCHEMES)
        for row, one in zip(rows, document["schemes"], strict=True):
            found = one["imperceptibility"]["difference"]
            first, low, high = (signed(word.strip("[],")) for word in row["change of accuracy"].text.split())
            assert (first, low, high) == pytest.approx((found["mean"], found["low"], found["high"]), abs=5e-5)
            assert (row["false positives"].text, row["false positives"].tone) == ("0/15", Tone.GOOD)
            plain = one["robustness"][0]["points"][0]
            assert float(row["symbol error rate"].text.split()[0]) == pytest.approx(
                plain["symbol_error_rate"]["mean"], abs=5e-4
            )

    def test_the_highest_symbol_error_rate_of_every_modification(self):
        document = evaluation()
        rows = {row["modification"].text: row for row in cells(table(page_of(document), "At a glance", 1))}
        assert len(rows) == len(MODIFICATIONS)
        for one in document["schemes"]:
            for entry in one["robustness"][1:]:
                worst = max(point["symbol_error_rate"]["mean"] for point in entry["points"])
                title = entry["words"][0].upper() + entry["words"][1:]
                assert float(rows[title][one["name"]].text) == pytest.approx(worst, abs=5e-4)

    def test_guessing_is_told_for_each_scheme_where_it_differs(self):
        document = small()
        assert "; 0.5 is guessing. " in table(page_of(document), "At a glance", 1).note
        document["schemes"][1]["guessing"] = 0.9
        page = page_of(document)
        assert "; guessing is 0.5 (Uchida, mean), 0.9 (full carrier). " in table(page, "At a glance", 1).note
        charts = [chart for one in sections(page) for part in parts(one, LineCharts) for chart in part.charts]
        assert {chart.level for chart in charts if chart.quantity == "symbol error rate"} == {None}

    def test_the_longer_list_goes_down_the_page(self):
        modifications, names = ("noise", "quantize"), ("ingrain", "structural", "full carrier")
        turned, upright = (
            table(page_of(evaluation(some, modifications)), "At a glance", 1) for some in (names[:1], names)
        )
        assert [column.title for column in turned.columns] == ["modification", "ingrain"]
        assert [column.title for column in upright.columns] == ["scheme", "Gaussian noise", "Quantizing"]
        assert [row[0].text for row in upright.rows] == list(names)
        assert [row[1].text for row in turned.rows] == [cell.text for cell in upright.rows[0][1:]]

    @pytest.mark.parametrize(("lost", "tone"), [((0, 0, 0), Tone.GOOD), ((0, 1, 0), Tone.DOUBT), ((0, 4, 0), Tone.BAD)])
    def test_a_sign_says_whether_marks_were_still_detected(self, lost, tone):
        document = small()
        for point, count in zip(document["schemes"][0]["robustness"][1]["points"], lost, strict=True):
            point["false_negatives"] = count
        row = cells(table(page_of(document), "At a glance", 1))[0]
        assert row["modification"].text == "Gaussian noise"
        assert row[document["schemes"][0]["name"]].tone is tone

    def test_errors_where_nobody_modified_anything_are_bad(self):
        document = small()
        point = document["schemes"][0]["robustness"][0]["points"][0]
        point |= {"false_positives": 1, "false_negatives": 2}
        row = cells(table(page_of(document), "At a glance"))[0]
        assert (row["false positives"].text, row["false positives"].tone) == ("1/6", Tone.BAD)
        assert (row["false negatives"].text, row["false negatives"].tone) == ("2/6", Tone.BAD)

    def test_what_does_not_apply_is_named_with_the_reason(self):
        page = page_of(partial())
        (note,) = parts(section(page, "At a glance"), Notes)
        assert note.sentences == ("structural does not apply: its 3 carriers hold 16 bits, the plan asks for 64",)
        assert "structural" not in [row["scheme"] for row in texts(table(page, "At a glance"))]

    def test_a_modification_that_one_scheme_lacks(self):
        document = small()
        del document["schemes"][0]["robustness"][2]
        lacking, having = (one["name"] for one in document["schemes"])
        (row,) = [
            row for row in texts(table(page_of(document), "At a glance", 1)) if row["modification"] == "Quantizing"
        ]
        assert (row[lacking], row[having] != "–") == ("–", True)

    def test_no_modification_no_table_of_them(self):
        document = small()
        for one in document["schemes"]:
            del one["robustness"][1:]
        page = page_of(document)
        assert len(parts(section(page, "At a glance"), Table)) == 1
        assert page.headline.text.startswith("2 schemes on 2 networks × 2 payloads, 0 modifications")


class TestSubject:
    def test_plan_task_and_rules(self):
        found = facts(page_of(evaluation()), "What was evaluated")
        assert found["task"].text == "fashion-mnist"
        assert "60,000 training and 10,000 test examples, 10 classes" in found["task"].note
        assert found["networks"].text == "3 networks × 4 payloads"
        assert found["training"].text == "epochs = 8, batch_size = 128, learning_rate = 0.05"
        assert found["false-positive rate"].text == "1e-06"

    def test_each_architecture_says_whether_there_is_enough_data(self):
        rows = [row for part in parts(section(page_of(evaluation()), "What was evaluated"), Facts) for row in part.rows]
        convnet, lenet = (row for row in rows if row.name == "architecture")
        assert (convnet.tone, lenet.tone) == (Tone.DOUBT, Tone.NEUTRAL)
        assert "violated, 60,000 of 289,380" in convnet.note
        assert "met, 60,000 of 52,140" in lenet.note

    def test_every_scheme_is_listed_even_one_that_does_not_apply(self):
        rows = texts(table(page_of(partial()), "What was evaluated"))
        assert [(row["name here"], row["payload"]) for row in rows] == [
            ("Uchida, mean", "64 bits"), ("structural", "16 bits"), ("full carrier", "64 bits")
        ]  # fmt: skip
        assert rows[0]["settings"] == "strength = 0.01, layers = conv3.weight, averaged = true"
        assert rows[1]["settings"] == "–"


class TestImperceptibility:
    def test_means_and_the_paired_change(self):
        document = evaluation()
        rows = texts(table(page_of(document), "Imperceptibility"))
        for row, one in zip(rows, document["schemes"], strict=True):
            found = one["imperceptibility"]
            for title, name in (("accuracy, unmarked", "unmarked"), ("accuracy, marked", "marked")):
                assert signed(row[title].split()[0]) == pytest.approx(found[name]["mean"], abs=5e-5)
            assert signed(row["change"].split()[0]) == pytest.approx(found["difference"]["mean"], abs=5e-5)
            assert row["pairs"] == "12"

    def test_every_pair_is_there_folded_away(self):
        document = evaluation()
        page = page_of(document)
        assert section(page, "Each network and payload").detail
        rows = texts(table(page, "Each network and payload"))
        assert len(rows) == 6 * 3 * 4
        pairs = [(one, pair) for one in document["schemes"] for pair in one["imperceptibility"]["cells"]]
        for row, (one, pair) in zip(rows, pairs, strict=True):
            assert (row["scheme"], row["network"], row["payload"]) == (
                one["name"], str(pair["network"]), str(pair["payload"])
            )  # fmt: skip
            assert signed(row["change"]) == pytest.approx(pair["marked"] - pair["unmarked"], abs=5e-5)

    def test_a_single_pair_has_no_limits(self):
        rows = texts(table(page_of(partial()), "Imperceptibility"))
        assert rows[1]["change"] == "−0.0020"


class TestRobustness:
    def test_a_subsection_a_modification_with_its_identity(self):
        found = [one.title for one in section(page_of(evaluation()), "Robustness").sections]
        assert found == [
            "Networks as they are", "Gaussian noise (modification 0)", "L1 pruning (modification 1)",
            "Random pruning (modification 2)", "Quantizing (modification 3)", "Fine-tuning (modification 4)",
            "Knowledge distillation (modification 5)", "Watermark overwriting (modification 6)",
        ]  # fmt: skip

    def test_a_row_a_scheme_and_value(self):
        document = evaluation()
        rows = texts(table(page_of(document), "L1 pruning (modification 1)"))
        points = [(one["name"], point) for one in document["schemes"] for point in one["robustness"][2]["points"]]
        assert len(rows) == len(points) == 36
        for row, (name, point) in zip(rows, points, strict=True):
            assert (row["scheme"], float(row["P"])) == (name, point["value"])
            assert row["false positives"] == "0/15"
            count = point["false_negatives"]
            assert row["false negatives"] == (f"{count}/15 ({count / 15:.3f})" if count else "0/15")
            for title, field in (
                ("symbol error rate", "symbol_error_rate"),
                ("of unmarked", "unmarked_symbol_error_rate"),
                ("accuracy", "score"),
                ("of unmarked 2", "unmarked_score"),
            ):
                first, low, high = (signed(word.strip("[],")) for word in row[title].split())
                expected = point[field]["mean"], point[field]["low"], point[field]["high"]
                assert (first, low, high) == pytest.approx(expected, abs=5.1e-4)

    def test_the_caption_says_what_the_parameter_counts(self):
        page = page_of(evaluation())
        assert table(page, "Gaussian noise (modification 0)").caption == (
            "Gaussian noise: S in standard deviations of the layer"
        )
        assert table(page, "Networks as they are").caption == "Networks as they are"
        assert "S" not in texts(table(page, "Networks as they are"))[0]

    def test_what_failed_is_left_out_of_the_count_and_told(self):
        page = page_of(partial())
        row = cells(table(page, "Gaussian noise (modification 0)"))[0]
        assert (row["false positives"].text, row["false positives"].tone) == ("2/5 (0.400)", Tone.BAD)
        assert (row["symbol error rate"].text, row["failed"].text) == ("–", "1")
        (notes,) = parts(section(page, "Gaussian noise (modification 0)"), Notes)
        assert notes.sentences == ("Uchida, mean at 0.1: network 1, payload 0: the worker ran out of memory",)

    def test_many_reasons_are_counted(self):
        document = small()
        points = document["schemes"][0]["robustness"][2]["points"]
        for point in points:
            point["problems"] = ["the same", *(f"reason {index}" for index in range(3)), "the same"]
        (notes,) = parts(section(page_of(document), "Quantizing (modification 3)"), Notes)
        assert len(notes.sentences) == 9
        assert notes.sentences[-1] == f"{len(points) * 4 - 8} more reasons: the JSON report has all"

    def test_a_modification_of_the_plan_that_has_no_identity(self):
        document = small()
        for one in document["schemes"]:
            one["robustness"][1] |= {"id": None, "words": "shuffled filters", "parameter": None, "unit": None}
        found = table(page_of(document), "Shuffled filters")
        assert found.caption == "Shuffled filters: value"


class TestCharts:
    def charts(self, document, title="Quantizing (modification 3)"):
        (found,) = parts(section(page_of(document), title), LineCharts)
        return found

    def test_mark_and_network_to_one_axis(self):
        document = evaluation()
        found = self.charts(document)
        of_mark, of_network = found.charts
        assert found.subjects == tuple(SCHEMES)
        assert of_mark.ticks == of_network.ticks == ("16", "8", "4", "2")
        assert (of_mark.quantity, of_network.quantity) == ("symbol error rate", "accuracy of the marked networks")
        for chart, field in ((of_mark, "symbol_error_rate"), (of_network, "score")):
            for drawn, one in zip(chart.lines, document["schemes"], strict=True):
                points = one["robustness"][4]["points"]
                assert [estimate.tick for estimate in drawn.estimates] == [0, 1, 2, 3]
                assert [(e.mean, e.low, e.high) for e in drawn.estimates] == [
                    tuple(point[field][name] for name in ("mean", "low", "high")) for point in points
                ]

    def test_guessing_is_a_level(self):
        of_mark, of_network = self.charts(evaluation()).charts
        assert (of_mark.level.height, of_network.level.height) == (0.5, 0.1)
        document = evaluation()
        document["plan"]["task"]["metric"] = "mean average precision"
        of_mark, of_network = self.charts(document).charts
        assert (of_mark.level.height, of_network.level) == (0.5, None)

    def test_rates_above_guessing_get_the_whole_scale(self):
        document = small()
        assert self.charts(document).charts[0].top == 0.6
        document["schemes"][0]["robustness"][2]["points"][0]["symbol_error_rate"] = mean(1.0)
        assert self.charts(document).charts[0].top == 1.0
        document["schemes"][0]["robustness"][2]["points"][0]["symbol_error_rate"] = mean(0.4, 0.3)
        assert self.charts(document).charts[0].top == 1.0

    def test_a_metric_without_a_bound_gets_a_scale_of_its_own(self):
        document = small()
        points = [point for one in document["schemes"] for point in one["robustness"][2]["points"]]
        for count, point in enumerate(points):
            point["score"] = mean(count * 10.0 - 20)
        _, of_network = self.charts(document).charts
        assert (of_network.bottom, of_network.top) == (-20.0, 10.0 * (len(points) - 1) - 20)

    def test_a_gap_in_the_first_scheme_does_not_move_the_others(self):
        found = self.charts(partial(), "Gaussian noise (modification 0)").charts[0]
        assert found.ticks == ("0.1", "0.2", "0.3")
        assert [[estimate.tick for estimate in drawn.estimates] for drawn in found.lines] == [[1, 2], [0, 1, 2]]

    def test_a_grid_that_one_scheme_has_shorter(self):
        document = small()
        del document["schemes"][0]["robustness"][2]["points"][:2]
        assert self.charts(document).charts[0].ticks == ("16", "8", "4", "2")

    def test_no_chart_without_symbols_and_none_of_networks_as_they_are(self):
        document = small()
        for one in document["schemes"]:
            for point in one["robustness"][2]["points"]:
                point["symbol_error_rate"] = None
        page = page_of(document)
        assert parts(section(page, "Quantizing (modification 3)"), LineCharts) == []
        assert parts(section(page, "Networks as they are"), LineCharts) == []

    def test_a_subject_keeps_its_look_when_another_was_not_measured(self):
        document = small()
        document["schemes"][0]["robustness"][2]["points"] = []
        (drawn,) = self.charts(document).charts[0].lines
        assert drawn.subject == 1


class TestCosts:
    def test_injection_detection_and_decoding(self):
        page = page_of(evaluation())
        injection, reading = (table(page, "Computational cost", index) for index in (0, 1))
        trained, closed = texts(injection)[0], texts(injection)[2]
        assert trained["memory"] == "555 MB [551, 559]"
        assert trained["time a batch"].startswith("12.7 ms [")
        assert (trained["batches an epoch"], trained["epochs"]) == ("469", "8 [8, 8]")
        assert trained["time in all"] == "46.2 s [44.5, 47.9]"
        assert (closed["time a batch"], closed["batches an epoch"], closed["epochs"]) == ("–", "–", "0")
        first = texts(reading)[0]
        assert first["detection: memory"] == "210 MB [209, 211]"
        assert (first["time"], first["time 2"]) == ("34.5 ms [33.5, 35.5]", "800 µs [700, 900]")
        assert "2 workers of 1 thread" in reading.note

    def test_what_was_not_measured_is_a_dash(self):
        page = page_of(partial())
        assert texts(table(page, "Computational cost"))[1]["memory"] == "–"
        assert texts(table(page, "Computational cost", 1))[1]["decoding: memory"] == "–"


class TestEnd:
    def test_limits_are_told_word_by_word(self):
        document = evaluation()
        (notes,) = section(page_of(document), "What this does not show").parts
        assert list(notes.sentences) == document["limits"]

    def test_no_limits_no_section(self):
        document = small()
        document["limits"] = []
        assert "What this does not show" not in [one.title for one in page_of(document).sections]

    def test_what_another_party_needs(self):
        found = facts(page_of(evaluation()), "How it was done")
        assert found["plan"].text == f"sha256 {'5f' * 32}"
        assert found["seed"].text == "7"
        assert found["machine"].text == "a processor of 2.4 GHz, 2 cores, 8.0 GB of memory"
        assert found["packages"].text == "numpy 2.1.0, torch 2.5.1"
        assert found["keys"].text == "not registered"
        assert found["parts for NNT"].text.startswith("2 payloads, 2 parameters, 1 datasets, ")
        assert "memory" not in facts(page_of(partial()), "How it was done")["machine"].text

    def test_where_it_went_on_is_told_with_the_figures_and_with_the_rest(self):
        page = page_of(partial())
        words = facts(page, "How it was done")["went on"].text
        assert words == (
            "another processor, 2 cores · 8 workers, 1 thread each · Python 3.11.9, onnxmark 0.4.0 · numpy 2.1.0, "
            "torch 2.5.1"
        )
        assert "went on under 1 other condition" in table(page, "Computational cost", 1).note
        whole = page_of(evaluation())
        assert "went on" not in facts(whole, "How it was done")
        assert "went on" not in table(whole, "Computational cost", 1).note

    def test_nobody_is_certified(self):
        words = repr(page_of(evaluation())).lower()
        assert "certif" not in words
        assert "complian" not in words


def test_the_page_is_pure():
    document = partial()
    before = copy.deepcopy(document)
    assert page_of(document) == page_of(document)
    assert document == before


@pytest.mark.parametrize("width", [40, 80, 110])
def test_at_a_terminal_the_comparison_comes_first(width):
    text = printed(evaluation(), width)
    assert text.index("At a glance") < text.index("What was evaluated") < text.index("Imperceptibility")
    assert "Each network and payload" not in text


def test_at_110_columns_figures_are_not_broken():
    lines = printed(evaluation(), 110).splitlines()
    assert any("Uchida, mean" in line and "−0.0021 [−0.0025, −0.0017]" in line for line in lines)
    assert sum("0/15" in line and "constant weight" in line for line in lines) >= 20


@pytest.mark.parametrize("form", [to_html, to_markdown])
def test_every_table_is_in_every_form(form):
    text = form(page_of(evaluation()))
    for words in ("Highest symbol error rate under each modification", "Putting a mark in", "Finding and reading it"):
        assert words in text
    for _, words, *_ in MODIFICATIONS.values():
        assert words[1:] in text


def test_a_full_evaluation_is_of_modest_size_and_valid():
    document = evaluation(networks=5, payloads=8)
    validate(document)
    assert len(to_html(page_of(document)).encode()) < 220_000


@pytest.mark.parametrize("count", [1, 15])
def test_few_and_many_schemes(count):
    document = small()
    document["schemes"] = [scheme("ingrain", ("noise",)) | {"name": f"scheme {index}"} for index in range(count)]
    html = to_html(page_of(document))
    assert html.count('class="key"') == 1
    assert f"scheme {count - 1}" in html
