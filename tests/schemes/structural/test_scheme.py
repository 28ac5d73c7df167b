"""Keys that are made, refused, written to files and read from hostile ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnxmark.errors import KeyFileError
from onnxmark.keys import Carrier, load_key, save_key
from onnxmark.schemes.scheme import Layer, Reads, WidthScheme
from onnxmark.schemes.structural.parameters import WIDEST, Options, parameters_of
from onnxmark.schemes.structural.scheme import StructuralScheme

from .keys import CHANNELS, SCHEME, bits, key, layers

VGG_16 = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


def test_it_is_a_scheme_of_widths():
    scheme: WidthScheme = StructuralScheme()
    assert (scheme.name, scheme.reads, scheme.signs_tested) == ("structural", Reads.WIDTHS, 1)


def test_vgg_16_takes_64_bits_where_nobody_says_how_many():
    made = SCHEME.make_key(layers(*VGG_16), None, Options())
    assert made.n_bits == 64
    assert not made.payload.any()
    assert SCHEME.facts(made)["capacity"] == "86 bits, 16 of them a checksum"


def test_a_small_network_takes_what_it_holds():
    made = SCHEME.make_key(layers(*CHANNELS), None, Options())
    assert made.n_bits == parameters_of(made).capacity - 16
    assert made.carriers == tuple(layer.carrier for layer in layers(*CHANNELS))


def test_fresh_keys_expect_different_widths():
    one, other = (SCHEME.make_key(layers(*VGG_16), None, Options()) for _ in range(2))
    assert SCHEME.widths(one) != SCHEME.widths(other)


def test_the_seed_decides_the_widths(tmp_path):
    made = save_key(SCHEME.make_key(layers(*CHANNELS), bits(5, 3), Options(least=0.4)), tmp_path / "key.npy")
    loaded = load_key(tmp_path / "key.npy")
    assert SCHEME.widths(loaded) == SCHEME.widths(made)
    assert SCHEME.facts(loaded) == SCHEME.facts(made)
    assert SCHEME.widths(replace(loaded, salt=bytes(32))) != SCHEME.widths(made)


def test_layers_with_fewer_than_two_widths_are_left_out():
    made = SCHEME.make_key(layers(2, *CHANNELS, 1, 3), None, Options())
    assert [carrier.shape[0] for carrier in made.carriers] == list(CHANNELS)


def test_too_little_to_prove_anything():
    with pytest.raises(KeyFileError, match=r"2 layers hold 9\.4 bits, and 24 are needed.*least below 0\.5"):
        SCHEME.make_key(layers(64, 64), None, Options())


def test_no_layers_at_all():
    with pytest.raises(KeyFileError, match="the widths of 0 layers hold 0"):
        SCHEME.make_key([], None, Options())


def test_coarse_steps_are_named_as_a_cure():
    with pytest.raises(KeyFileError, match="steps of fewer than 16 channels"):
        SCHEME.make_key(layers(64, 64, 64), None, Options(step=16))


def test_a_message_that_is_too_long():
    with pytest.raises(KeyFileError, match=r"65 bits and a checksum of 16 are more than the 33 bits .* at most 17"):
        SCHEME.make_key(layers(32, 32, 64, 64, 128, 128, 128), bits(0, 65), Options())


def test_a_checksum_that_leaves_nothing():
    with pytest.raises(KeyFileError, match=r"a checksum of 32 are more than the 28 bits .* take at most 0 bits"):
        SCHEME.make_key(layers(32, 32, 64, 64, 128, 128), None, Options(checksum=32))


def test_a_longer_checksum():
    made = SCHEME.make_key(layers(*VGG_16), bits(9, 54), Options(checksum=32))
    assert SCHEME.extract(made, SCHEME.widths(made)).bit_error_rate == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Options(least=0.9, most=0.5), "0 < least <= most < 1"),
        (Options(step=0), "at least 1 channel"),
        (Options(checksum=8), "16 or 32 bits, not 8"),
    ],
    ids=["parts", "step", "checksum"],
)
def test_options_out_of_range(options, said):
    with pytest.raises(KeyFileError, match=said):
        SCHEME.make_key(layers(*VGG_16), None, options)


HOSTILE = {
    "no least": ({"least": None}, "states the least and the most"),
    "words": ({"most": "all"}, "states the least and the most"),
    "broken steps": ({"step": 1.5}, "states the least and the most"),
    "not a number": ({"least": float("nan")}, "0 < least <= most < 1"),
    "other checksum": ({"checksum": 7}, "16 or 32 bits, not 7"),
    "no checksum": ({"checksum": None}, "16 or 32 bits, not None"),
    "coarse": ({"step": 1000}, "two widths or more each"),
    "one width": ({"least": 0.5, "most": 0.5}, "two widths or more each"),
    "narrow": ({"least": 0.9}, "two widths or more each"),
    "full": ({"checksum": 32}, "a checksum of 32 are more than the 30 bits"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_key_file_that_makes_no_sense(name):
    changes, said = HOSTILE[name]
    made = key(1)
    parameters = {**made.parameters, **changes}
    broken = replace(made, parameters={name: value for name, value in parameters.items() if value is not None})
    for use in (SCHEME.facts, SCHEME.widths, lambda each: SCHEME.extract(each, CHANNELS)):
        with pytest.raises(KeyFileError, match=said):
            use(broken)


def test_layers_of_a_key_file_that_nobody_trains():
    huge = Carrier((WIDEST + 1, 3, 3, 3), "huge")
    with pytest.raises(KeyFileError, match="layer 'huge' has 1,048,577 channels"):
        SCHEME.widths(replace(key(1), carriers=(huge,)))
    with pytest.raises(KeyFileError, match="layer 'huge' has 1,048,577 channels"):
        SCHEME.make_key([Layer(huge)] * 3, None, Options())


def test_a_key_without_layers():
    with pytest.raises(KeyFileError, match="the 0 layers of a structural key"):
        SCHEME.widths(replace(key(1), carriers=()))


def test_facts_give_no_width_away():
    made = key(3)
    assert SCHEME.facts(made) == {
        "capacity": "30 bits, 16 of them a checksum",
        "widths": "0.5 to 0.9 of the channels in steps of 1",
    }


def test_whole_numbers_of_numpy_serve_as_payload():
    made = SCHEME.make_key(layers(*CHANNELS), np.ones(5, np.uint8), Options())
    assert made.n_bits == 5
