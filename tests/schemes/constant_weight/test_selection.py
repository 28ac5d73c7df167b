"""Which weights: against a second implementation of the key's stream, and as a bijection between layers and symbols."""

import hashlib

import numpy as np
import pytest

from onnxmark.schemes.constant_weight.selection import selection_of
from tests.schemes.constant_weight.words import SHAPE, key, layer

SHAPES = ((8, 4, 3, 3), (10, 30), (6, 2, 5))


def layers(shapes=SHAPES):
    return [layer(shape, seed=index, name=f"layer{index}") for index, shape in enumerate(shapes)]


@pytest.mark.parametrize("length", [150, 648])
def test_the_places_a_key_has_always_chosen(length):
    """SHAKE-256(master, "perm", 0) as little-endian 64-bit words; the places of the smallest, smallest first."""
    own = key(shapes=SHAPES, length=length)
    size = sum(one.values.size for one in layers())
    stream = hashlib.shake_256(own.master.reveal() + b"perm" + bytes(4)).digest(8 * size)
    words = [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(size)]
    places = sorted(range(size), key=words.__getitem__)[:length]
    row = np.concatenate([one.values.reshape(-1) for one in layers()])
    assert np.array_equal(selection_of(own).take([one.values for one in layers()]), row[places])


def test_no_weight_holds_two_symbols():
    selection = selection_of(key(shapes=SHAPES))
    pairs = set(zip(selection.layers.tolist(), selection.positions.tolist(), strict=True))
    assert len(pairs) == 150
    assert {index for index, _ in pairs} == {0, 1, 2}
    assert all(position < selection.sizes[index] for index, position in pairs)


def test_what_is_put_is_taken():
    selection, symbols = selection_of(key(shapes=SHAPES)), np.arange(150, dtype=np.float32) + 1000
    changed = selection.put(layers(), symbols)
    assert np.array_equal(selection.take([one.values for one in changed]), symbols)
    moved = sum(int(np.sum(new.values != old.values)) for new, old in zip(changed, layers(), strict=True))
    assert moved == 150
    assert [one.shape for one in changed] == list(SHAPES)
    assert [one.name for one in changed] == ["layer0", "layer1", "layer2"]


def test_the_layers_put_into_stay_as_they_were():
    before, selection = layers(), selection_of(key(shapes=SHAPES))
    selection.put(before, np.zeros(150, dtype=np.float32))
    assert all(np.array_equal(one.values, again.values) for one, again in zip(before, layers(), strict=True))


def test_every_layer_says_which_symbols_it_holds():
    selection = selection_of(key(shapes=SHAPES))
    parts = [selection.within(index) for index in range(3)]
    assert np.array_equal(sum(here.astype(int) for here, _ in parts), np.ones(150))
    assert all(here.sum() == positions.size for here, positions in parts)


@pytest.mark.parametrize("changed", [{"length": 151}, {"weight": 16}, {"rate": 0.8}])
def test_another_parameter_chooses_other_weights(changed):
    one, other = selection_of(key()), selection_of(key(**changed))
    common = np.intersect1d(one.positions, other.positions).size
    # 150 of 4608 twice have about 5 in common.
    assert common < 20


def test_order_is_random():
    """Symbols next to each other in the word are nowhere near each other in the layer."""
    positions = selection_of(key()).positions
    assert abs(np.corrcoef(np.arange(150), positions)[0, 1]) < 0.3
    assert np.corrcoef(np.arange(150), np.sort(positions))[0, 1] > 0.99


@pytest.mark.parametrize("shapes", [(SHAPE,), (*SHAPES, (2, 2)), ((8, 4, 3, 3), (10, 30))])
def test_layers_of_other_sizes(shapes):
    selection, others = selection_of(key(shapes=SHAPES)), layers(shapes)
    with pytest.raises(ValueError, match=r"layers of \(288, 300, 60\) weights"):
        selection.take([one.values for one in others])
    with pytest.raises(ValueError, match=r"layers of \(288, 300, 60\) weights"):
        selection.put(others, np.zeros(150, dtype=np.float32))
