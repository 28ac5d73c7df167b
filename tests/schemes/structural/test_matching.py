"""Layers are found again by an exhaustive search's answer, and in models that somebody made hard to compare."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxmark.keys import Carrier
from onnxmark.schemes.structural.matching import alignments, match_layers


@dataclass(frozen=True)
class Layer:
    """A suspect's layer."""

    name: str
    shape: tuple[int, ...]
    position: int = 0
    nodes: tuple[str, ...] = ()
    op: str = "Conv"


# A residual network: in each block the first convolution can be pruned, the second cannot.
TRUNK = ((32, 3, 3, 3), *((32, 32, 3, 3),) * 6, (10, 32))
CARRIERS = tuple(Carrier(TRUNK[place], f"w{place}", f"n{place}", "Conv", place) for place in (1, 3, 5))


def network(*widths: int) -> list[Layer]:
    """The network, its prunable layers of given widths."""
    shapes = list(TRUNK)
    for place, width in zip((1, 3, 5), widths, strict=True):
        shapes[place], shapes[place + 1] = (width, 32, 3, 3), (32, width, 3, 3)
    return [Layer(f"w{place}", shape, place, (f"n{place}",)) for place, shape in enumerate(shapes)]


MARKED = network(20, 25, 17)


def renamed(suspects: list[Layer], names=None) -> list[Layer]:
    names = names or [f"other{place}" for place in range(len(suspects))]
    return [replace(layer, name=name, nodes=()) for layer, name in zip(suspects, names, strict=True)]


def inserted(suspects: list[Layer], place: int, shape: tuple[int, ...]) -> list[Layer]:
    grown = [*suspects[:place], Layer("new", shape), *suspects[place:]]
    return [replace(layer, position=position) for position, layer in enumerate(grown)]


def found(suspects: list[Layer]) -> list[tuple[int | None, ...]]:
    """The widths that each alignment reads."""
    return [
        tuple(None if index is None else suspects[index].shape[0] for index in each)
        for each in alignments(CARRIERS, suspects)
    ]


def test_a_marked_network_is_one_hypothesis():
    assert alignments(CARRIERS, MARKED) == ((1, 3, 5),)
    assert match_layers(CARRIERS, MARKED) == (1, 3, 5)


def test_an_unmarked_network_is_read_where_its_names_are():
    assert match_layers(CARRIERS, network(32, 32, 32)) == (1, 3, 5)


@pytest.mark.parametrize(
    "suspects",
    [
        pytest.param(renamed(MARKED), id="renamed"),
        pytest.param(inserted(MARKED, 0, (3, 3, 1, 1)), id="a layer before all"),
        pytest.param(inserted(MARKED, 4, (32, 32, 3, 3)), id="a layer of the same kind between"),
        pytest.param([replace(layer, nodes=()) for layer in MARKED], id="nodes renamed"),
        pytest.param([replace(layer, name="x", op="FusedConv") for layer in MARKED], id="tensors renamed, fused"),
        pytest.param(MARKED[1:], id="the first layer folded away"),
        pytest.param([replace(layer, position=0) for layer in MARKED], id="positions unknown"),
    ],
)
def test_found_at_once(suspects):
    assert found(suspects)[0] == (20, 25, 17)


@pytest.mark.parametrize(
    "suspects",
    [
        pytest.param(renamed(MARKED, ["w0", "w2", "w1", "w4", "w3", "w6", "w5", "w7"]), id="names swapped"),
        pytest.param(renamed(MARKED, ["w7", "w0", "w1", "w2", "w3", "w4", "w5", "w6"]), id="names shifted"),
        pytest.param(inserted(renamed(MARKED), 0, (3, 3, 1, 1)), id="renamed, and a layer before all"),
        pytest.param(
            inserted(renamed(MARKED, ["w7", "w0", "w1", "w2", "w3", "w4", "w5", "w6"]), 0, (3, 3, 1, 1)),
            id="names shifted, and a layer before all",
        ),
    ],
)
def test_found_by_one_of_three_hypotheses(suspects):
    readings = found(suspects)
    assert (20, 25, 17) in readings
    assert len(readings) <= 3


def test_several_readings_of_one_node_are_one_layer():
    """As the reader lists a file whose layout leaves open how wide its blocks are."""
    twice = [copy for layer in renamed(MARKED) for copy in (layer, replace(layer, name=f"{layer.name}#block8"))]
    named = [replace(layer, nodes=(f"conv{place // 2}",), position=place) for place, layer in enumerate(twice)]
    assert (20, 25, 17) in found(named)
    # Nodes without a name are not one node.
    assert found([replace(layer, nodes=("",)) for layer in MARKED])[0] == (20, 25, 17)


def test_kernels_and_inputs_may_grow():
    """Zeros round a kernel, and a neuron more in the trunk, change no function."""
    grown = [replace(layer, shape=(layer.shape[0], layer.shape[1] + 1, 5, 5)) for layer in MARKED[:-1]]
    assert found(grown)[0] == (20, 25, 17)


def test_what_fits_goes_before_what_has_grown():
    suspects = [Layer("a", (20, 40, 3, 3)), Layer("b", (21, 32, 5, 5)), Layer("c", (22, 32, 3, 3))]
    assert match_layers(CARRIERS[:1], suspects) == (2,)


def test_kernels_that_shrank_and_other_ranks_are_other_layers():
    assert match_layers(CARRIERS, [Layer("w1", (20, 32, 1, 3)), Layer("w3", (20, 32)), Layer("w5", ())]) == (None,) * 3


def test_layers_that_are_gone_stay_away():
    assert match_layers(CARRIERS, [MARKED[3]]) == (None, 0, None)
    assert match_layers(CARRIERS, []) == (None, None, None)
    assert alignments((), MARKED) == ((),)


def test_empty_names_are_no_names():
    nameless = tuple(replace(carrier, name="", node="") for carrier in CARRIERS[:1])
    suspects = [Layer("", (31, 32, 3, 3), 5, ("",)), Layer("x", (31, 32, 3, 3), 1)]
    assert match_layers(nameless, suspects) == (1,)


SHAPES = st.sampled_from([(8, 4, 3, 3), (6, 4, 3, 3), (8, 5, 3, 3), (8, 4, 1, 1), (9, 4, 5, 5)])
NAMES = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=200)
@given(
    st.lists(st.builds(Carrier, SHAPES, NAMES, position=st.integers(0, 3)), min_size=1, max_size=3),
    st.lists(st.builds(Layer, NAMES, SHAPES, st.integers(0, 3)), min_size=1, max_size=5),
)
def test_no_pairing_in_order_has_better_signs(carriers, suspects):
    def signs(alignment) -> tuple[int, ...]:
        pairs = [(carriers[place], suspects[index]) for place, index in enumerate(alignment) if index is not None]
        fitting = [found.shape[2:] == key.shape[2:] and found.shape[1] <= key.shape[1] for key, found in pairs]
        named = [found.name == key.name for key, found in pairs]
        placed = [found.position == key.position for key, found in pairs]
        narrowed = [found.shape[0] < key.shape[0] for key, found in pairs]
        return len(pairs), sum(fitting), sum(named), sum(placed), sum(narrowed)

    best = max(signs(alignment) for alignment in orderly(carriers, suspects))
    assert signs(match_layers(carriers, suspects)) == best


def orderly(carriers, suspects):
    """Every pairing that keeps the order and pairs nothing with a smaller kernel."""
    for choice in itertools.product([None, *range(len(suspects))], repeat=len(carriers)):
        taken = [index for index in choice if index is not None]
        pairs = [(carriers[place], suspects[index]) for place, index in enumerate(choice) if index is not None]
        if taken == sorted(set(taken)) and all(layer.shape[2] >= carrier.shape[2] for carrier, layer in pairs):
            yield choice


def test_a_narrow_decoy_among_renamed_layers_goes_unnoticed():
    """What signs cannot tell, they do not: a limit, and the reason why a reading counts what it has tried."""
    assert (20, 25, 17) not in found(inserted(renamed(MARKED), 0, (3, 3, 3, 3)))


def test_hundreds_of_layers():
    carriers = tuple(Carrier((64, 64, 3, 3), f"w{place}", position=place) for place in range(300))
    suspects = [Layer("x", (40, 64, 3, 3), -1) for place in range(400)]
    assert match_layers(carriers, suspects) == tuple(range(300))
