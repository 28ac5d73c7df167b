from __future__ import annotations

import json

import pytest
from onnxmark_tf.trusting import look_through

from tests.adapters_tf.nets import keras, layers

LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "x"}, "registered_name": None}
FOREIGN = {"module": "mine.layers", "class_name": "Mine", "config": {}, "registered_name": "mine>Mine"}


def config_of(model):
    return json.loads(json.dumps(keras.saving.serialize_keras_object(model)))


def test_models_of_keras_layers_are_clean(every_kind, plain):
    for model in (every_kind, plain):
        findings = look_through(config_of(model))
        assert (findings.dangers, findings.custom) == ((), ())


def test_models_with_functions_and_initializers_of_keras_are_clean():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3, activation=keras.activations.gelu, kernel_initializer=keras.initializers.he_normal),
            layers.Dense(3, activation="swish", kernel_regularizer=keras.regularizers.l2(0.1)),
            layers.Activation(keras.ops.tanh),
        ]
    )
    assert look_through(config_of(model)) == look_through({})


def test_a_lambda_is_found_wherever_keras_puts_it():
    inner = keras.Sequential([keras.Input((4,)), layers.Lambda(lambda x: x + 1)])
    x = keras.Input((4,))
    config = config_of(keras.Model(x, layers.TimeDistributed(inner)(layers.RepeatVector(2)(x))))
    (danger, bytecode) = sorted(look_through(config).dangers)
    assert danger == "a Lambda layer, which runs a function that the file chooses"
    assert bytecode == "a Python function, kept in the file as bytecode"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (LAMBDA, "a Lambda layer"),
        ({"class_name": "TFSMLayer", "config": {}}, "runs a SavedModel"),
        ({"class_name": "TorchModuleWrapper", "config": {}}, "as a pickle"),
        (
            {"class_name": "function", "config": "get_file", "module": "keras.utils"},
            "the function keras.utils.get_file",
        ),
        ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, "reads the file '/etc/passwd'"),
    ],
)
def test_what_acts_is_named(part, words):
    nested = {"config": {"layers": [{"class_name": "Dense", "config": {"units": 3}}, [part]]}}
    (danger,) = look_through(nested).dangers
    assert words in danger


def test_what_is_not_keras_is_custom_and_named_once():
    function = {"class_name": "function", "config": "system", "module": "os", "registered_name": "system"}
    findings = look_through([FOREIGN, FOREIGN, function])
    assert findings.dangers == ()
    assert sorted(findings.custom) == ["mine>Mine", "system"]


def test_a_registered_name_alone_is_custom():
    findings = look_through({"class_name": "Mine", "config": {}, "module": None, "registered_name": "pack>Mine"})
    assert findings.custom == ("pack>Mine",)


def test_nesting_deeper_than_python_goes_is_no_trouble():
    config = [LAMBDA]
    for _ in range(100_000):
        config = [config]
    assert len(look_through(config).dangers) == 1
