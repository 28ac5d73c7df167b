"""What a report says: the same facts as its document, in the agreed words, whatever the document."""

import pytest

from onnxmark.attacks.floats import FloatRounding
from onnxmark.errors import ReportError
from onnxmark.report.page import (
    BitMap,
    Cell,
    Column,
    Curves,
    Facts,
    Histogram,
    Notes,
    Page,
    Plane,
    Table,
    Tone,
)
from onnxmark.report.pages import page_of
from tests.report.documents import SITUATIONS, audit, of_schema, real_documents
from tests.report.open_strings import hostile_documents
from tests.report.sweeps import entry, fidelity, pruning, swept, trial, with_margins


def sections(page):
    """All sections, at any depth."""
    todo = list(page.sections)
    while todo:
        section = todo.pop(0)
        yield section
        todo = [*section.sections, *todo]


def parts(page, kind):
    return [part for section in sections(page) for part in section.parts if isinstance(part, kind)]


def section(page, title):
    (found,) = (one for one in sections(page) if one.title == title)
    return found


def facts(page):
    return {fact.name: fact.text for part in parts(page, Facts) for fact in part.rows}


def table(page, caption):
    (found,) = (part for part in parts(page, Table) if part.caption == caption)
    return found


def column(part, title):
    (index,) = (index for index, column in enumerate(part.columns) if column.title == title)
    return [row[index] for row in part.rows]


def sentences(page):
    return [sentence for part in parts(page, Notes) for sentence in part.sentences]


def about_robustness(page):
    robustness = section(page, "Robustness under simulated attacks")
    return list(next(part for part in robustness.parts if isinstance(part, Notes)).sentences)


def survival(page):
    (found,) = (part for part in parts(page, Table) if part.caption.startswith("How far the mark lasts"))
    return found


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_document_has_a_page(situation):
    page = page_of(real_documents()[situation])
    assert isinstance(page, Page)
    assert page.headline.word
    assert page.colophon.endswith(real_documents()[situation]["schema"])


def test_pages_are_pure():
    document, untouched = audit(), audit()
    assert page_of(document) == page_of(document)
    assert document == untouched


@pytest.mark.parametrize("document", [{}, {"schema": None}, {"schema": ["onnxmark/audit/v1"]}, {"schema": "x/y/v9"}])
def test_no_page_for_an_unknown_schema(document):
    with pytest.raises(ReportError, match="no report for a document of schema"):
        page_of(document)


class TestAudit:
    def test_a_match_is_consistent_with_a_key_and_says_what_it_does_not_prove(self):
        document = audit()
        page = page_of(document)
        finding = document["findings"][0]
        assert (page.headline.word, page.headline.tone) == ("MATCH", Tone.GOOD)
        assert page.headline.text.startswith(f"consistent with key {finding['key']['commitment'][:16]}…, p ≤ 1.8e-77")
        assert "layers: 4 found / 1 audited / 3 skipped (no key fits their shape) / 0 failed" in page.headline.notes
        assert section(page, "What this does not prove").parts == (Notes(tuple(finding["does_not_prove"])),)
        assert facts(page)["carrier"] == "conv3.weight"
        assert facts(page)["bits"] == "256 bits, 0 wrong: BER 0.000"
        assert facts(page)["key"] == f"sha256 {finding['key']['commitment']}"

    @pytest.mark.parametrize("situation", of_schema("audit"))
    def test_nobody_is_called_an_owner_or_a_thief(self, situation):
        words = repr(page_of(real_documents()[situation])).lower()
        assert "stolen" not in words
        assert "owner is" not in words

    def test_no_match_has_no_robustness(self):
        page = page_of(audit("no match"))
        assert (page.headline.word, page.headline.tone) == ("NO MATCH", Tone.BAD)
        assert "not detected" in page.headline.text
        assert not [one for one in sections(page) if one.title.startswith("Robustness")]

    def test_a_failed_audit_says_why(self):
        document = audit("model unreadable")
        page = page_of(document)
        assert (page.headline.word, page.headline.tone) == ("INCONCLUSIVE", Tone.DOUBT)
        assert page.headline.text == document["problem"]
        assert page.sections == ()

    def test_several_keys_are_counted_and_each_has_its_section(self):
        page = page_of(audit("several keys"))
        assert page.headline.text == "of 2 keys: consistent with 1, not detected 1"
        assert [one.badge.text for one in page.sections if one.badge] == ["MATCH", "NO MATCH"]
        results = [fact.text for part in parts(page, Facts) for fact in part.rows if fact.name == "result"]
        assert ["consistent with" in result for result in results] == [True, False]

    def test_a_match_is_not_green_without_full_coverage(self):
        document = audit()
        document["status"] = "partial"
        document["coverage"]["failed"] = [{"name": "fc.weight", "problem": "data missing"}]
        page = page_of(document)
        assert (page.headline.word, page.headline.tone) == ("MATCH", Tone.DOUBT)
        (row,) = table(page, "Layers that a key fits and that could not be read").rows
        assert [cell.text for cell in row] == ["fc.weight", "data missing"]

    def test_a_match_of_a_bare_matrix_is_not_green(self):
        document = audit()
        document["findings"][0] |= {"standing": "free-form", "clears_seed_search": None}
        page = page_of(document)
        assert page.headline.tone is Tone.DOUBT
        assert "free-form: a bare matrix, never evidence of ownership" in page.headline.notes

    def test_no_findings(self):
        document = audit()
        document["findings"], document["verdict"] = [], "inconclusive"
        assert page_of(document).headline.text == "of 0 keys: none was tried"

    def test_margins_give_a_histogram_and_every_bit(self):
        document = audit()
        margins = document["findings"][0]["margins"]
        page = page_of(document)
        (histogram,), (bits,) = parts(page, Histogram), parts(page, BitMap)
        assert sum(histogram.counts) == 256
        assert bits.margins == tuple(margins["values"])
        assert bits.summary == "0 of 256 bits wrong"

    def test_documents_of_earlier_versions_lack_some_fields(self):
        document = audit()
        del document["simulation"], document["model"]["sha256"], document["findings"][0]["margins"]["values"]
        for told in document["findings"][0]["robustness"]:
            for name in ("bit_error_rate_interval", "log10_p_values", "relative_change", "fidelity", "problem"):
                del told[name]
        page = page_of(document)
        assert parts(page, BitMap) == []
        assert len(table(page, "Trials").rows) == len(document["findings"][0]["robustness"])

    def test_a_histogram_that_contradicts_itself_is_refused(self):
        document = audit()
        document["findings"][0]["margins"]["histogram"]["edges"].pop()
        with pytest.raises(ReportError, match="24 bins and 24 edges, expected one edge more"):
            page_of(document)

    def test_readings_tried_are_folded_away(self):
        readings = section(page_of(audit()), "Readings tried")
        assert readings.detail
        assert len(readings.parts[0].rows) == len(audit()["findings"][0]["candidates"])

    def test_the_digest_of_the_model_is_told_where_it_was_asked_for(self):
        document = audit("match, answers measured")
        assert facts(page_of(document))["model"] == f"sha256 {document['model']['sha256']}"
        assert "model" not in facts(page_of(audit()))


class TestSurvival:
    def rows(self, trials):
        part = survival(page_of(swept(trials)))
        return [tuple(cell.text for cell in row) for row in part.rows]

    def test_what_is_survived_and_what_is_not_with_the_model_at_either(self):
        part = survival(page_of(swept(pruning([70, 30, 2], [0.9, 0.31, 0.1]))))
        assert part.caption.endswith("what is left of the model there (accuracy before: 0.9000)")
        assert [column.title for column in part.columns] == ["attack", "survives", "accuracy", "lost at", "accuracy"]
        assert part.rows == (
            (
                Cell("L1 pruning"),
                Cell("up to 20 %", Tone.GOOD),
                Cell("0.310"),
                Cell("not detected at 30 %", Tone.BAD),
                Cell("0.100"),
            ),
        )

    @pytest.mark.parametrize(
        ("measured", "title", "said"),
        [
            (fidelity(), "decisions changed", "20 of 200"),
            (fidelity(decisions_changed=None), "outputs moved", "25.00%"),
            (fidelity(decisions_changed=None, relative_change=None), "outputs moved", "beyond measure"),
        ],
    )
    def test_without_accuracy_decisions_speak_and_then_outputs(self, measured, title, said):
        part = survival(page_of(swept([trial(fidelity=measured)])))
        assert part.caption == "How far the mark lasts, and what is left of the model there"
        assert [column.title for column in part.columns] == ["attack", "survives", title, "lost at", title]
        assert [cell.text for cell in part.rows[0]] == ["L1 pruning", "50 %", said, "–", "–"]

    def test_a_column_compares_like_with_like(self):
        accurate = fidelity(accuracy_before=0.9, accuracy_after=0.5)
        mixed = [trial(fidelity=accurate), trial(attack="noise", label="noise 1 σ", fidelity=fidelity())]
        assert [row[2] for row in self.rows(mixed)] == ["20 of 200", "20 of 200"]

    def test_a_trial_that_nobody_measured_has_no_figure(self):
        trials = pruning([70, 30, 2], [0.9, 0.31, 0.1])
        trials[1]["fidelity"] = None
        assert self.rows(trials) == [("L1 pruning", "up to 20 %", "–", "not detected at 30 %", "0.100")]

    def test_baselines_that_differ_are_both_told(self):
        first, second = (fidelity(accuracy_before=before, accuracy_after=0.5) for before in (0.9, 0.8))
        part = survival(page_of(swept([trial(fidelity=first), trial(fidelity=second)])))
        assert part.caption.endswith("(accuracy before: 0.8000 to 0.9000)")

    @pytest.mark.parametrize(
        ("evidence", "survived", "lost"),
        [
            ([70, 30, 20], "up to 30 %", "–"),
            ([70, 3, 20], "up to 10 %", "not detected at 20 %, match again at 30 %"),
            ([70, 3, 20, 30, 1], "up to 10 %", "not detected at 20 %, match again at 40 %"),
            ([3, 2, 1], "–", "not detected at 10 %"),
            ([3], "–", "not detected at 50 %"),
            ([30], "50 %", "–"),
        ],
    )
    def test_without_fidelity_the_table_is_about_the_mark_alone(self, evidence, survived, lost):
        trials = pruning(evidence) if len(evidence) > 1 else [trial(evidence=evidence[0])]
        assert self.rows(trials) == [("L1 pruning", survived, lost)]
        assert survival(page_of(swept(trials))).caption == "How far the mark lasts"

    def test_an_attack_without_strengths(self):
        for evidence, row in ((70, ("onnxsim", "yes", "–")), (1, ("onnxsim", "–", "not detected"))):
            only = trial("onnxsim", "Simplification()", "onnxsim", 1.0, evidence=evidence)
            assert self.rows([only]) == [row]

    def test_falling_parameters_go_down_and_variants_are_named(self):
        recipe, label = "UniformQuantisation(bits={}, per_channel=True)", "quantisation {} bit, per channel"
        trials = [
            trial(
                label=label.format(bits), recipe=recipe.format(bits), attack="quantize", parameter=bits, evidence=left
            )
            for bits, left in ((8, 70), (4, 30), (2, 1))
        ]
        assert self.rows(trials) == [("quantisation, per channel", "down to 4 bit", "not detected at 2 bit")]

    def test_an_inconclusive_trial_is_not_survived(self):
        trials = pruning([70, 0])
        trials[1] |= {"verdict": "inconclusive", "reason": "all weights are equal"}
        page = page_of(swept(trials))
        assert survival(page).rows[0][1:] == (
            Cell("up to 10 %", Tone.GOOD),
            Cell("inconclusive at 20 %", Tone.DOUBT),
        )
        assert about_robustness(page)[0] == "Inconclusive after L1 pruning 20 %: all weights are equal."

    def test_a_reason_is_told_once(self):
        lost = {"verdict": "inconclusive", "reason": "all weights are equal"}
        trials = [trial(f"{name} pruning 99 %", f"{name}(x=1)", name) | lost for name in ("row", "column")]
        said = about_robustness(page_of(swept(trials)))
        assert said[0] == "Inconclusive after row pruning 99 %; column pruning 99 %: all weights are equal."
        assert len(said) == 2

    def test_what_could_not_be_tried_is_no_survival(self):
        untried = trial(bit_error_rate=None, verdict="inconclusive", evidence=0, problem="onnxslim is not installed")
        page = page_of(swept([untried]))
        assert not [part for part in parts(page, Table) if part.caption.startswith("How far")]
        assert about_robustness(page)[0] == "Could not try L1 pruning: onnxslim is not installed"
        assert "Trial 1, L1 pruning 50 %: onnxslim is not installed" in sentences(page)
        assert column(table(page, "Trials"), "BER") == [Cell("–")]
        assert parts(page, Curves)[0].panels == ()

    def test_a_strength_that_could_not_be_tried_counts_neither_way(self):
        trials = pruning([70, 0, 30])
        trials[1] |= {"bit_error_rate": None, "verdict": "inconclusive", "problem": "out of memory"}
        assert self.rows(trials) == [("L1 pruning", "up to 30 %", "–")]

    def test_conditions(self):
        measured = [trial(fidelity=fidelity())]
        spread = {"attacks": "full", "seed": 0, "n_draws": 5, "spread": True}
        assert "every layer attacked alike" in about_robustness(page_of(swept(measured, spread)))[-1]
        assert "the carrier alone attacked" in about_robustness(page_of(swept(measured)))[-1]
        assert "was not measured" in about_robustness(page_of(swept([trial()])))[-1]
        skipped = spread | {"skipped": [{"attack": "soup", "reason": "needs a reference"}]}
        assert about_robustness(page_of(swept(measured, skipped)))[-1] == "Left out: soup: needs a reference"

    def test_the_answer_comes_first_and_every_figure_last(self):
        page = page_of(swept(pruning([70, 30, 2], [0.9, 0.31, 0.1])))
        order = [type(part) for part in section(page, "Robustness under simulated attacks").parts]
        assert order == [Table, Notes, Plane, Curves, Table]


class TestTrials:
    def test_a_row_has_ber_interval_verdict_evidence_and_the_model(self):
        entry = trial(
            n_draws=5, n_survived=4, verdict="no-match", evidence=5.0, bit_error_rate_interval=[0.1, 0.15],
            coded_ratio=12.5, fidelity=fidelity(accuracy_before=0.9033, accuracy_after=0.512),
        )  # fmt: skip
        part = table(page_of(swept([entry])), "Trials")
        row = {column.title: cell.text for column, cell in zip(part.columns, part.rows[0], strict=True)}
        assert row == {
            "#": "1",
            "attack": "L1 pruning 50 %",
            "evidence left": "5.0",
            "BER": "0.125",
            "95 % interval": "0.100–0.150",
            "verdict": "no-match 4/5",
            "accuracy": "0.9033 → 0.5120",
            "decisions changed": "20 of 200",
            "outputs moved": "25.00%",
            "weights moved": "50.0%",
            "coded size": "1/12.5",
        }
        assert column(part, "verdict")[0].tone is Tone.BAD

    def test_columns_that_nobody_fills_are_left_out(self):
        titles = [column.title for column in table(page_of(swept([trial(relative_change=None)])), "Trials").columns]
        assert titles == ["#", "attack", "evidence left", "BER", "verdict"]

    def test_bars_are_to_scale_with_the_unattacked_mark(self):
        document = swept([trial(evidence=38.0)])
        document["findings"][0]["log10_p_value"] = -76.0
        (cell,) = column(table(page_of(document), "Trials"), "evidence left")
        assert cell.bar.length == pytest.approx(0.5)
        assert cell.bar.boundary == pytest.approx(6 / 76)

    def test_no_trials_no_section(self):
        assert not [one for one in sections(page_of(swept([]))) if one.title.startswith("Robustness")]

    def test_evidence_of_impossible_documents_stays_on_the_paper(self):
        page = page_of(swept([trial(evidence=1e308), trial(evidence=-1e308)]))
        for cell in column(table(page, "Trials"), "evidence left"):
            assert 0 <= cell.bar.length <= 1


class TestCurves:
    def test_variants_share_a_panel_and_its_ticks(self):
        plain = [(8, 70), (4, 30)]
        channel = [(8, 72), (3, 35), (1, 1)]
        trials = [
            trial(
                label=f"quantisation {bits} bit{', per channel' if per else ''}", attack="quantize", parameter=bits,
                recipe=f"UniformQuantisation(bits={bits}, per_channel={per})", evidence=left,
            )
            for per, members in ((False, plain), (True, channel))
            for bits, left in members
        ]  # fmt: skip
        (panel,) = parts(page_of(swept(trials)), Curves)[0].panels
        assert (panel.title, panel.axis, panel.ticks) == ("quantisation", "strength (bit)", ("8", "4", "3", "1"))
        assert [series.label for series in panel.series] == ["plain", "per channel"]
        assert [[point.tick for point in series.points] for series in panel.series] == [[0, 1], [0, 2, 3]]
        assert [point.tone for point in panel.series[1].points] == [Tone.GOOD, Tone.GOOD, Tone.BAD]

    def test_strengths_of_one_parameter_stand_side_by_side(self):
        trials = [entry(FloatRounding(kind)) for kind in FloatRounding.strengths]
        (panel,) = parts(page_of(swept(trials)), Curves)[0].panels
        assert panel.ticks == FloatRounding.strengths
        assert [point.tick for point in panel.series[0].points] == [0, 1, 2, 3]

    def test_trials_that_nothing_tells_apart_have_places_of_their_own(self):
        (panel,) = parts(page_of(swept([trial(), trial()])), Curves)[0].panels
        assert [point.tick for point in panel.series[0].points] == [0, 1]

    def test_a_lone_variant_gives_the_panel_its_name(self):
        lone = [trial("quantisation 8 bit, per channel", "Q(bits=8, per_channel=True)", "quantize", 8)]
        (panel,) = parts(page_of(swept(lone)), Curves)[0].panels
        assert panel.title == "quantisation, per channel"

    def test_whiskers_reach_from_the_worst_draw_to_the_best(self):
        draws = trial(evidence=20.0, log10_p_values=[-30.0, -20.0, -25.0], n_draws=3)
        (point,) = parts(page_of(swept([draws])), Curves)[0].panels[0].series[0].points
        assert (point.worst, point.best) == (20, 30)

    @pytest.mark.parametrize("parameters", [["weak", "strong"], [None, None], [True, 2]])
    def test_strengths_that_are_no_numbers_keep_their_order(self, parameters):
        trials = [
            trial(label=f"soup {word}", recipe=f"Soup(name={word})", attack="soup", parameter=parameter)
            for word, parameter in zip(("thick", "clear"), parameters, strict=True)
        ]
        (panel,) = parts(page_of(swept(trials)), Curves)[0].panels
        assert len(panel.series[0].points) == 2


class TestPlane:
    def plane(self, *measured):
        return parts(page_of(swept([trial(fidelity=one) for one in measured])), Plane)

    def test_the_strictest_measure_that_there_is(self):
        (accuracy,) = self.plane(fidelity(accuracy_before=0.9, accuracy_after=0.7), fidelity(), None)
        assert accuracy.loss_axis == "accuracy lost (percentage points)"
        assert [(point.number, pytest.approx(0.2)) for point in accuracy.points] == [(1, accuracy.points[0].loss)]
        (decisions,) = self.plane(fidelity(), fidelity(decisions_changed=None))
        assert decisions.loss_axis == "decisions changed (% of inputs)"
        assert [point.loss for point in decisions.points] == [0.1]
        (outputs,) = self.plane(None, fidelity(decisions_changed=None))
        assert outputs.loss_axis == "change of the outputs (% of their norm)"
        assert [(point.number, point.loss) for point in outputs.points] == [(2, 0.25)]

    def test_no_fidelity_no_plane(self):
        assert self.plane(None, None) == []
        assert self.plane(fidelity(decisions_changed=None, relative_change=None)) == []
        assert self.plane(fidelity(n_inputs=0, decisions_changed=0))[0].points[0].loss == 0


class TestOthers:
    def test_inspection(self):
        document = of_schema("inspect")["inspect"]
        page = page_of(document)
        first, second = page.sections
        assert [cell.text for cell in column(first.parts[1], "weights")] == [
            layer["name"] for layer in document["models"][0]["layers"]
        ]
        assert second.title == document["models"][1]["path"]
        assert first.parts[1].columns[-1].title == "room for 256 bits"
        assert section(page_of(of_schema("inspect")["inspect, detail"]), "Layers in detail").detail is False
        assert first.sections[0].detail is True

    def test_inspection_of_what_cannot_be_read(self):
        page = page_of(of_schema("inspect")["inspect, one unreadable"])
        assert page.headline.tone is Tone.DOUBT
        assert "1 could not be read" in page.headline.text
        assert page.sections[0].badge == Cell("UNREADABLE", Tone.DOUBT)

    def test_key(self):
        for document in of_schema("key").values():
            page = page_of(document)
            assert facts(page)["commitment"] == f"sha256 {document['commitment']}"
            assert "keep it secret" in page.headline.text
            assert any("time-stamp" in sentence for sentence in sentences(page))

    def test_marking(self):
        measured, unmeasured = (of_schema("marking")[name] for name in ("marking, measured", "marking"))
        assert "not measured; give --calibration" in facts(page_of(unmeasured))["outputs"]
        assert "top-1 decisions changed" in repr(page_of(measured))
        assert page_of(measured).headline.word == "MARK EMBEDDED"

    def test_attack(self):
        document = of_schema("attack")["attack"]
        page = page_of(document)
        assert page.headline.text == " then ".join(step["label"] for step in document["steps"])
        assert len(parts(page, Table)) == len(document["steps"])
        assert facts(page)["recipe"] == document["recipe"][-1]
        document = of_schema("attack")["attack, measured"]
        assert "accuracy" in repr(page_of(document)) or "decisions" in repr(page_of(document))

    def test_attacks(self):
        document = of_schema("attacks")["attacks"]
        page = page_of(document)
        usable = [f"--{attack['name']}" for attack in document["attacks"] if attack["problem"] is None]
        assert [cell.text for cell in column(table(page, "Attacks"), "option")] == usable

    def test_an_attack_that_cannot_be_loaded_is_named(self):
        broken = of_schema("attacks")["attacks"] | {
            "attacks": [
                {
                    "name": "soup", "summary": "", "kind": "model", "random": False, "needs": [], "strengths": [],
                    "fields": [], "problem": "no module named spoon",
                }
            ]
        }  # fmt: skip
        assert sentences(page_of(broken)) == ["soup: no module named spoon"]


@pytest.mark.parametrize("values", [[0.5], [-0.5], [0.0], [(-1) ** bit * bit / 100 for bit in range(4096)]])
def test_messages_of_any_length(values):
    (bits,) = parts(page_of(with_margins(values)), BitMap)
    assert len(bits.margins) == len(values)


def test_hostile_documents_have_pages_of_bounded_text():
    for name, document in hostile_documents():
        page = page_of(document)
        assert page.kind, name
        assert len(page.title) <= 200, name


def test_parts_refuse_what_does_not_fit_together():
    with pytest.raises(ValueError, match="2 columns and a row of 1"):
        Table("t", (Column("a"), Column("b")), ((Cell("x"),),))
    with pytest.raises(ValueError, match="1 bins have 1 edges"):
        Histogram("t", (0.0,), (1,), "axis", "below", "above", "summary")
