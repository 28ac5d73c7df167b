"""The short cut for usual messages says what the general walk says, or nothing."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from onnxmark.errors import ModelError
from onnxmark.model import elements, open_model, usual
from onnxmark.model.decode import Decoder
from onnxmark.model.expression import Leaf
from onnxmark.model.plan import Planner
from onnxmark.model.source import Source
from onnxmark.model.wire import Wire
from tests.model.models import block, constant, conv, model, number, save, tensor, varint, weights

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


def decoder_of(path: Path) -> Decoder:
    return Decoder(Wire(Source(path)))


def outcome(work, *arguments):
    try:
        return work(*arguments)
    except ModelError as error:
        return type(error), str(error)


def spent(wire: Wire, work, *arguments):
    before = wire._budget
    return outcome(work, *arguments), before - wire._budget


def assert_same_message(path: Path, start: int, end: int, *, node: bool, known: bool | None = None) -> None:
    decoder = decoder_of(path)
    wire = decoder.wire
    if node:
        quick, quick_fields = spent(wire, usual.node, wire, start, end)
        general, fields = spent(wire, decoder._any_node, start, end)
    else:
        quick, quick_fields = spent(wire, usual.tensor, wire, start, end)
        general, fields = spent(wire, elements.tensor, wire, ((start, end),))
    wire.source.close()
    if known is not None:
        assert (quick is not None) is known
    if quick is None:
        assert quick_fields == 0
    else:
        assert quick == general
        assert quick_fields == fields


def messages(path: Path):
    """Extents of all nodes and tensors of the main graph."""
    decoder = decoder_of(path)
    for start, end in decoder.header().graph:
        for tag, a, b in decoder.wire.stream(start, end):
            if tag in (0x0A, 0x2A):
                yield a, b, tag == 0x0A
    decoder.wire.source.close()


def test_all_of_onnx_own_models() -> None:
    for path in sorted(DATA.rglob("*.onnx")):
        for start, end, node in messages(path):
            assert_same_message(path, start, end, node=node)


def test_real_models_are_usual(wheel_models: dict[str, Path]) -> None:
    """Without the short cut nothing would be wrong, so only this shows that it is taken."""
    taken = total = 0
    for path in wheel_models.values():
        decoder = decoder_of(path)
        for start, end, node in messages(path):
            found = (usual.node if node else usual.tensor)(decoder.wire, start, end)
            taken, total = taken + (found is not None), total + 1
        decoder.wire.source.close()
    assert taken > 0.8 * total > 0


TEXT = st.one_of(st.sampled_from([b"", b"w", b"Conv", b"\xff\x00", "größe".encode()]), st.binary(max_size=140))
SIZES = st.one_of(
    st.sampled_from([0, 1, 3, 127, 128, 16384, 2**35 - 1, 2**35, 2**63, 2**64 - 1]), st.integers(0, 2**64)
)


def padded(value: int) -> bytes:
    """A varint of one byte more than it needs, which is allowed."""
    plain = varint(value)
    return plain[:-1] + bytes([plain[-1] | 0x80, 0])


FIELD = st.one_of(
    st.builds(block, st.integers(1, 16), TEXT),
    st.builds(lambda tag, text: varint(tag << 3 | 2) + padded(len(text)) + text, st.integers(1, 9), TEXT),
    st.builds(number, st.integers(1, 3), SIZES),
    st.just(varint(100 << 3 | 3) + number(5, 7) + varint(100 << 3 | 4)),
    st.binary(max_size=12),
)
NODE = st.builds(
    lambda inputs, rest, odd: b"".join(block(1, name) for name in inputs) + b"".join(rest) + b"".join(odd),
    st.lists(TEXT, max_size=4),
    st.tuples(*(st.one_of(st.just(b""), st.builds(block, st.just(tag), TEXT)) for tag in range(2, 10))),
    st.lists(FIELD, max_size=2),
)
TENSOR = st.builds(
    lambda dims, code, name, raw, odd: (
        b"".join(number(1, size) for size in dims) + number(2, code) + block(8, name) + block(9, raw) + odd
    ),
    st.lists(SIZES, max_size=6), st.integers(0, 200), TEXT, st.binary(max_size=300), st.one_of(st.just(b""), FIELD),
)  # fmt: skip


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.one_of(NODE, TENSOR, st.lists(FIELD, max_size=6).map(b"".join)), cut=st.integers(0, 3), more=TEXT)
@example(message=number(1, 1) * 65 + number(2, 1) + block(8, b"w") + block(9, b""), cut=0, more=b"")
@example(message=number(2, 1) + block(8, b"w") + varint(9 << 3 | 2) + b"\xff" * 10, cut=0, more=b"\xff")
def test_any_message(tmp_path: Path, message: bytes, cut: int, more: bytes) -> None:
    """Also damaged ones, with whatever comes after them, up to the end of the file."""
    path = tmp_path / "m.onnx"
    path.write_bytes(b"before" + message + more)
    end = 6 + max(len(message) - cut, 0)
    for node in (True, False):
        assert_same_message(path, 6, end, node=node)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes(tmp_path: Path, data: st.DataObject) -> None:
    nodes = [conv("w", strides=[1, 1], pads=[1] * 4), constant("c", weights(2, 2)), conv("c", domain="com.microsoft")]
    path = save(model(nodes, [tensor("w", weights(4, 3, 3, 3)), tensor("e", weights(0, 200))]), tmp_path / "m.onnx")
    found = list(messages(path))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(found[0][0], len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    for start, end, node in found:
        assert_same_message(path, start, end, node=node)


def test_what_exporters_write_is_usual(tmp_path: Path) -> None:
    nodes = [conv("w", strides=[1, 1], group=1), conv("w", domain="com.microsoft"), constant("c", weights(60, 60))]
    nodes[0].doc_string = "made by a test " * 40
    path = save(model(nodes, [tensor("w", weights(300, 30, 3, 3)), tensor("s", weights())]), tmp_path / "m.onnx")
    for start, end, node in messages(path):
        assert_same_message(path, start, end, node=node, known=True)


def test_attributes_that_repeat_are_read_once_and_those_with_places_are_not_mixed_up(tmp_path: Path) -> None:
    nodes = [conv("w", group=1, name=f"n{i}") for i in range(3)]
    nodes += [constant(f"c{i}", weights(2, 2, seed=i)) for i in range(2)]
    with open_model(save(model(nodes, [tensor("w", weights(2, 2, 1, 1))]), tmp_path / "m.onnx")) as opened:
        decoder, found = opened.graph.decoder, opened.graph.root.nodes
        first, second, _ = (decoder.attributes(node) for node in found[:3])
        assert first is second
        one, other = (decoder.attributes(node)["value"].tensor for node in found[3:])
        assert one is not None
        assert other is not None
        assert one.start != other.start


@pytest.mark.parametrize("count", [1023, 1024, 1500])
def test_more_kinds_of_attributes_than_are_remembered(tmp_path: Path, count: int) -> None:
    nodes = [conv("w", group=1, odd=index, name="n") for index in range(count)]
    with open_model(save(model(nodes, [tensor("w", weights(2, 2, 1, 1))]), tmp_path / "m.onnx")) as opened:
        for index, node in enumerate(opened.graph.root.nodes):
            assert opened.graph.decoder.attributes(node)["odd"].integer == index


def assert_same_plans(path: Path) -> None:
    with open_model(path) as opened:
        root = opened.graph.root
        for stored in root.body.graph.initializers:
            if not stored.name:
                continue
            found, definition = Planner(opened.payloads).plan(root, stored.name), root.lookup(stored.name)
            assert definition is not None
            if definition.kind == "initializer":
                assert isinstance(found, Leaf)
                assert tuple(found) == tuple(Planner(opened.payloads)._advance(definition))
            else:
                assert not isinstance(found, Leaf) or found.origin != "initializer"


def test_the_short_way_to_an_initializer_leads_where_the_long_one_does(wheel_models: dict[str, Path]) -> None:
    for path in [*sorted(DATA.rglob("*.onnx")), *wheel_models.values()]:
        assert_same_plans(path)


def test_an_initializer_comes_before_a_node_that_makes_what_it_is_called(tmp_path: Path) -> None:
    nodes = [constant("w", weights(3, 2, 1, 1)), conv("w")]
    path = save(model(nodes, [tensor("w", weights(2, 2, 1, 1)), tensor("v", weights(2))]), tmp_path / "m.onnx")
    assert_same_plans(path)
    with open_model(path) as opened:
        assert opened.sites()[0].shape == (2, 2, 1, 1)
