"""What a key may say, and what is refused with a cure."""

import math
import time

import pytest

from onnxmark.errors import KeyFileError
from onnxmark.keys import Carrier
from onnxmark.schemes.constant_weight.code import ConstantWeightCode
from onnxmark.schemes.constant_weight.parameters import (
    MAX_LENGTH,
    MAX_WEIGHTS,
    Options,
    Parameters,
    check_room,
    checked_rate,
    chosen_code,
    parameters_of,
)
from tests.schemes.constant_weight.words import key


def test_by_default_the_shortest_word_with_a_tenth_of_ones():
    assert chosen_code(256, Options()) == ConstantWeightCode(560, 56)


def test_a_length_takes_as_few_ones_as_carry_the_message():
    code = chosen_code(256, Options(length=1850))
    assert math.comb(1850, code.weight) >= 2**256 > math.comb(1850, code.weight - 1)


def test_a_weight_takes_as_few_symbols_as_carry_the_message():
    code = chosen_code(256, Options(weight=37))
    assert math.comb(code.length, 37) >= 2**256 > math.comb(code.length - 1, 37)


def test_both_are_taken_as_they_are():
    assert chosen_code(64, Options(length=1850, weight=37)) == ConstantWeightCode(1850, 37)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            Options(length=560, weight=20),
            f"carry {math.floor(math.log2(math.comb(560, 20)))} bits and the message has 256",
        ),
        (Options(length=200), "carry 195 bits and the message has 256; take length 2"),
        (Options(length=100, weight=100), "no words of length 100 and weight 100 to be had"),
        (Options(weight=0), "weight 0 to be had"),
        (Options(length=1), "no words of length 1 "),
        (Options(length=MAX_LENGTH + 1, weight=9), "a length is at most 262,144"),
    ],
)
def test_words_that_do_not_carry_the_message(options, words):
    with pytest.raises(KeyFileError, match=words):
        chosen_code(256, options)


def test_the_cure_cures():
    with pytest.raises(KeyFileError, match="length 560 and weight 56, or fewer bits"):
        chosen_code(256, Options(length=540, weight=54))
    assert chosen_code(256, Options(length=560, weight=56)).capacity >= 256


def test_a_key_gives_its_parameters():
    assert parameters_of(key(rate=0.9)) == Parameters(ConstantWeightCode(150, 15), 0.9)


def test_parameters_come_back_from_a_key():
    parameters = Parameters(ConstantWeightCode(160, 16), 0.5)
    assert parameters_of(key(**parameters.stored())) == parameters


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"length": "150"}, "states its length, weight and rate, this one has '150', 15 and 0.9"),
        ({"weight": 15.0}, "this one has 150, 15.0"),
        ({"rate": "0.9"}, "and '0.9'"),
        ({"length": -1}, "no words of length -1"),
        ({"weight": 150}, "weight 150 to be had"),
        ({"length": MAX_LENGTH, "weight": MAX_LENGTH // 2}, "carry more than the 65,536 bits a message may have"),
        ({"length": 10**12, "weight": 10**11}, "a length is at most"),
        ({"weight": 3}, "carry 19 bits and the message has 64"),
        ({"length": 5000, "weight": 15}, "at least as many weights .* and there are 4,608"),
        ({"rate": 1.0}, "from 0 to below 1, not 1.0"),
        ({"rate": -0.1}, "from 0 to below 1, not -0.1"),
        ({"rate": math.nan}, "from 0 to below 1, not nan"),
        ({"rate": 0.999}, "pruning 99.9 % of 4,608 weights leaves fewer than the 15"),
    ],
)
def test_keys_that_make_no_sense(found, words):
    with pytest.raises(KeyFileError, match=words):
        parameters_of(key(**found))


def test_hostile_words_are_refused_at_once():
    started = time.process_time()
    with pytest.raises(KeyFileError, match="take a smaller length or weight"):
        parameters_of(key(length=MAX_LENGTH, weight=MAX_LENGTH // 2))
    assert time.process_time() - started < 1


def test_the_longest_message_has_a_code():
    code = chosen_code(65_536, Options())
    assert (code.length, code.weight) == (139_760, 13_976)
    assert chosen_code(65_536, Options(code.length, code.weight)) == code


def test_a_key_without_parameters():
    bare = key()
    bare.__dict__["parameters"] = {}
    with pytest.raises(KeyFileError, match="this one has None, None and None"):
        parameters_of(bare)


def test_layers_beyond_what_a_choice_may_take():
    carrier = Carrier((MAX_WEIGHTS // 2, 1))
    check_room([carrier, carrier], Parameters(ConstantWeightCode(150, 15), 0.9))
    with pytest.raises(KeyFileError, match="at most 67,108,864, and there are 67,108,865"):
        check_room([carrier, carrier, Carrier((1, 1))], Parameters(ConstantWeightCode(150, 15), 0.9))


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.999])
def test_rates_in_range(rate):
    assert checked_rate(rate) == rate
