"""The published schemas, and our reading of them against the ``jsonschema`` package's."""

import copy
import json
from importlib.resources import files

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.errors import ReportError
from onnxmark.report.formats import Kind
from onnxmark.report.schema import schema_of, schema_text, validate
from onnxmark.report.validation import NOTES, WORDS, first_problem
from tests.report.documents import SITUATIONS, audit, real_documents


def judge(kind):
    """The reference: draft 2020-12 as the jsonschema package reads it, but for 1.0, which is no integer to us."""
    checker = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=checker)(schema_of(kind))


def words_of(schema):
    """Every keyword of a schema, wherever a schema may stand in it."""
    for word, value in schema.items():
        yield word
        if word in ("properties", "$defs"):
            for inner in value.values():
                yield from words_of(inner)
        elif word in ("items", "if", "then", "else"):
            yield from words_of(value)


def places_of(value, path=()):
    """Every place in a document, the whole included."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, child in children:
        yield from places_of(child, (*path, name))


def at(document, path):
    for name in path:
        document = document[name]
    return document


class TestPublished:
    @pytest.mark.parametrize("kind", Kind)
    def test_every_kind_has_a_valid_schema(self, kind):
        schema = json.loads(schema_text(kind))
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema["properties"]["schema"] == {"const": kind.value}

    def test_there_is_no_other_file(self):
        found = {entry.name for entry in files("onnxmark.report").joinpath("schemas").iterdir()}
        assert found == {f"{kind.word}-v1.json" for kind in Kind}

    @pytest.mark.parametrize("kind", Kind)
    def test_only_words_that_we_read(self, kind):
        assert set(words_of(schema_of(kind))) <= WORDS | NOTES

    @pytest.mark.parametrize("kind", Kind)
    def test_every_definition_is_used_and_every_reference_defined(self, kind):
        text, definitions = schema_text(kind), schema_of(kind).get("$defs", {})
        references = {part.split('"')[0] for part in text.split('"#/$defs/')[1:]}
        assert references == set(definitions)

    @pytest.mark.parametrize("kind", Kind)
    def test_documents_of_every_kind_are_made_here(self, kind):
        assert any(document["schema"] == kind for document in real_documents().values())


class TestRealDocuments:
    @pytest.mark.parametrize("situation", SITUATIONS)
    def test_valid_to_both(self, situation):
        document = real_documents()[situation]
        judge(Kind(document["schema"])).validate(document)
        assert validate(document) == document["schema"]

    def test_the_situations_are_what_they_say(self):
        documents = real_documents()
        verdicts = {
            "match": "match",
            "no match": "no-match",
            "degenerate": "inconclusive",
            "layer unreadable": "inconclusive",
        }
        for situation, verdict in verdicts.items():
            assert documents[situation]["verdict"] == verdict
        assert documents["model unreadable"]["status"] == "failed"
        assert documents["layer unreadable"]["status"] == "partial"
        assert documents["match"]["findings"][0]["robustness"]
        assert documents["foreign key"]["findings"][0]["standing"] == "free-form"
        measured = documents["match, answers measured"]["findings"][0]["robustness"]
        assert all(trial["fidelity"] is not None for trial in measured)
        untried = documents["match, attacks that cannot be tried"]["findings"][0]["robustness"]
        assert any(trial["problem"] is not None and trial["bit_error_rate"] is None for trial in untried)
        assert documents["match"]["model"]["sha256"] is None
        assert documents["match, answers measured"]["model"]["sha256"] is not None

    @pytest.mark.parametrize("situation", SITUATIONS)
    def test_what_is_added_later_is_tolerated(self, situation):
        document = copy.deepcopy(real_documents()[situation])
        for path in list(places_of(document)):
            if isinstance(at(document, path), dict):
                at(document, path)["of a later version"] = {"any": ["thing", None]}
        judge(Kind(document["schema"])).validate(document)
        validate(document)

    @pytest.mark.parametrize("situation", SITUATIONS)
    def test_no_field_is_unknown_to_the_schema(self, situation):
        document = real_documents()[situation]
        closed = json.loads(schema_text(Kind(document["schema"])))
        close(closed, closed.get("$defs", {}))
        jsonschema.Draft202012Validator(closed).validate(document)


def close(schema, definitions):
    """Forbid what the schema does not name (conditions refine what is named beside them, and stay open)."""
    for inner in definitions.values():
        close(inner, {})
    if "properties" in schema:
        schema["additionalProperties"] = False
        for inner in schema["properties"].values():
            close(inner, {})
    if "items" in schema:
        close(schema["items"], {})


MUTATIONS = {
    "verdict of another word": (("verdict",), "guilty"),
    "status of another word": (("status",), "done"),
    "no findings": (("findings",), []),
    "findings no list": (("findings",), {}),
    "verdict an object": (("findings", 0, "verdict"), {}),
    "negative count": (("findings", 0, "n_errors"), -1),
    "a count that is no integer": (("findings", 0, "n_bits"), 256.0),
    "a count that is true": (("findings", 0, "n_bits"), True),
    "rate above one": (("findings", 0, "bit_error_rate"), 1.5),
    "p-value above one": (("findings", 0, "p_value"), 1.1),
    "positive logarithm": (("findings", 0, "log10_p_value"), 0.5),
    "p-value as text": (("findings", 0, "p_value"), "1e-9"),
    "commitment too short": (("findings", 0, "key", "commitment"), "ab"),
    "commitment in capitals": (("findings", 0, "key", "commitment"), "A" * 64),
    "match without tests": (("findings", 0, "tests"), []),
    "match without a reading": (("findings", 0, "margins"), None),
    "match without a carrier": (("findings", 0, "carrier"), None),
    "interval of three": (("findings", 0, "robustness", 0, "bit_error_rate_interval"), [0.0, 0.1, 0.2]),
    "trial without draws": (("findings", 0, "robustness", 0, "log10_p_values"), []),
    "histogram of few bins": (("findings", 0, "margins", "histogram", "counts"), [1, 2]),
    "test of another kind": (("findings", 0, "tests", 0, "kind"), "guess"),
    "negative alpha": (("policy", "alpha"), -0.1),
    "policy missing": (("policy",), None),
    "path no text": (("model", "path"), 7),
    "digest of the wrong length": (("model", "sha256"), "00"),
}


class TestRefused:
    @pytest.mark.parametrize("mutation", MUTATIONS)
    def test_mutated(self, mutation):
        path, value = MUTATIONS[mutation]
        document = audit("match")
        at(document, path[:-1])[path[-1]] = value
        assert not judge(Kind.AUDIT).is_valid(document)
        # What a match rests on is asked for where the verdict stands.
        place = "verdict" if mutation == "match without tests" else str(path[-1])
        with pytest.raises(ReportError, match=place):
            validate(document)

    @pytest.mark.parametrize("situation", SITUATIONS)
    def test_nothing_that_is_required_can_be_left_out(self, situation):
        whole = real_documents()[situation]
        reference = judge(Kind(whole["schema"]))
        refused = 0
        fields = [path for path in places_of(whole) if path not in ((), ("schema",)) and isinstance(path[-1], str)]
        for path in fields[:: 1 + len(fields) // 150]:
            document = copy.deepcopy(whole)
            del at(document, path[:-1])[path[-1]]
            expected = reference.is_valid(document)
            refused += not expected
            assert (first_problem(document, schema_of(Kind(whole["schema"]))) is None) == expected, path
        assert refused > 5

    def test_the_first_problem_is_named_with_its_place(self):
        document = audit("match")
        document["findings"][0]["robustness"][3]["verdict"] = "perhaps\x1b[31m"
        with pytest.raises(
            ReportError,
            match=r"audit/v1: findings\[0\]\.robustness\[3\]\.verdict is 'perhaps\\+x1b\[31m', expected one of 'match'",
        ):
            validate(document)

    @pytest.mark.parametrize(
        ("document", "words"),
        [
            ({}, "names no schema"),
            ({"schema": 1}, "names no schema"),
            ({"schema": ["onnxmark/audit/v1"]}, "names no schema"),
            ({"schema": "sarif"}, "names schema 'sarif', expected one of onnxmark/audit/v1"),
            ({"schema": "onnxmark/audit/v0x"}, "expected one of"),
            ({"schema": "onnxmark/audit/v2"}, "newer than this onnxmark reads; update onnxmark"),
            ({"schema": "onnxmark/audit/v" + "9" * 9999}, "newer than this onnxmark reads"),
            ({"schema": "onnxmark/audit/v1"}, "the document has no 'tool'"),
            ({"schema": "onnxmark/other/v1"}, "expected one of"),
        ],
    )
    def test_other_documents(self, document, words):
        with pytest.raises(ReportError, match=words):
            validate(document)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_we_agree_with_jsonschema_on_broken_documents(data):
    whole = real_documents()[data.draw(st.sampled_from(SITUATIONS))]
    kind = Kind(whole["schema"])
    path = data.draw(st.sampled_from([path for path in places_of(whole) if path and path != ("schema",)]))
    document = copy.deepcopy(whole)
    words = ["match", "no-match", "inconclusive", "complete", "partial", "failed", "free-form", "", None, 0, -1, [], {}]
    at(document, path[:-1])[path[-1]] = data.draw(json_values | st.sampled_from(words))
    assert (first_problem(document, schema_of(kind)) is None) == judge(kind).is_valid(document)
