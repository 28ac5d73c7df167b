"""The Keras regularizer is Uchida's loss with an exact gradient, counted once a step in every set-up of ``fit``."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import keras
from onnxmark_tf.carriers import LAYOUTS, canonical, canonical_shape
from onnxmark_tf.marks import report
from onnxmark_tf.orders import canonical as stored_to_canonical
from onnxmark_tf.regularizer import WatermarkRegularizer

from onnxmark.errors import CarrierError, KeyFileError
from onnxmark.keys import Carrier, ForeignKey, Key, Secret
from tests.adapters_tf.regularizer_subjects import (
    CASES,
    CONV_SHAPE,
    KERNELS,
    batch,
    body,
    case_key,
    case_regularizer,
    case_values,
    compiled,
    in_canonical_order,
    loss_and_gradient,
    make_key,
    pull,
    reference,
    small_net,
    trained,
)

ORDERS = {"plain": "HWIO", "depthwise": "HWCM", "transposed": "HWOI"}
STRENGTH = 0.5


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_loss_and_gradient_are_those_of_the_reference(case):
    values, layout = case_values(case[0]), KERNELS[case[0]][1]
    found, gradient = loss_and_gradient(case_regularizer(case, 0.3), values)
    loss, expected, _ = reference(case_key(*case), in_canonical_order(values, layout))
    assert found == pytest.approx(0.3 * loss, rel=1e-5)
    np.testing.assert_allclose(
        in_canonical_order(gradient, layout), 0.3 * expected, atol=2e-6 * float(np.abs(expected).max())
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_read_in_canonical_order(kernel):
    values, (shape, layout, wanted) = case_values(kernel), KERNELS[kernel]
    expected = in_canonical_order(values, layout)
    assert expected.shape == canonical_shape(shape, layout) == wanted
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(canonical(values, layout)), expected)
    np.testing.assert_array_equal(stored_to_canonical(values, ORDERS[layout]), expected)


def test_a_grouped_kernel_needs_no_layout_of_its_own():
    layer = keras.layers.Conv2D(16, 3, groups=2)
    layer.build((None, 6, 6, 8))
    key = make_key((16, 4, 3, 3))
    values = keras.ops.convert_to_numpy(layer.kernel)
    expected, *_ = reference(key, in_canonical_order(values, "plain"))
    assert float(WatermarkRegularizer(key, 1.0)(layer.kernel)) == pytest.approx(expected, rel=1e-5)


def test_gradient_equals_finite_differences():
    case = ("uneven conv2d", "mean-hwi", "rademacher")
    key, values = case_key(*case), case_values(case[0]).astype(np.float64)
    _, gradient = loss_and_gradient(case_regularizer(case, 1.0), values.astype(np.float32))
    direction = np.random.default_rng(1).standard_normal(values.shape)
    ahead, behind = (
        reference(key, in_canonical_order(values + step * direction, "plain"))[0] for step in (1e-5, -1e-5)
    )
    assert np.sum(gradient * direction) == pytest.approx((ahead - behind) / 2e-5, rel=1e-4)


def test_bits_embedded_very_well_still_have_an_exact_gradient():
    key = make_key(n_bits=1)
    change = pull(key)
    values = np.moveaxis(20 * change / np.sum(change * change), (0, 1), (-1, -2)).astype(np.float32)
    loss, expected, _ = reference(key, in_canonical_order(values, "plain"))
    assert loss < 1e-8, "in float32 sigmoid(score) - 1 is 0 from a score of 17 on"
    found, gradient = loss_and_gradient(WatermarkRegularizer(key, 1.0), values)
    assert found == pytest.approx(loss, rel=1e-4, abs=0)
    np.testing.assert_allclose(in_canonical_order(gradient, "plain"), expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_weights_are_read_in_float32(dtype):
    key, regularizer = make_key(), WatermarkRegularizer(make_key(), 1.0)
    kernel = keras.ops.cast(case_values("conv2d"), dtype)
    exact = keras.ops.convert_to_numpy(keras.ops.cast(kernel, "float32"))
    loss = regularizer(kernel)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert float(loss) == pytest.approx(reference(key, in_canonical_order(exact, "plain"))[0], rel=1e-5)


def mark_alone(kernel, strength=STRENGTH, rate=0.1):
    """What the mark adds to a step of plain gradient descent."""
    _, gradient, _ = reference(make_key(), in_canonical_order(kernel, "plain"))
    return -rate * strength * np.moveaxis(gradient, (0, 1), (-1, -2))


def stepped(model, *batches):
    for images, labels in batches:
        model.train_on_batch(images, labels)
    return body(model)


SET_UPS = {
    "traced": {},
    "eager": {"run_eagerly": True},
    "compiled": {"jit_compile": True},
    "mixed float16, with loss scaling": {"dtype": "mixed_float16"},
    "mixed bfloat16": {"dtype": "mixed_bfloat16"},
}


@pytest.mark.parametrize("set_up", SET_UPS)
def test_a_step_is_the_tasks_and_once_the_marks(set_up):
    def net(regularizer=None):
        options = dict(SET_UPS[set_up])
        optimizer = keras.optimizers.SGD(0.1)
        if "scaling" in set_up:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1024.0)
        return small_net(regularizer, optimizer=optimizer, **options)

    marked, plain = net(WatermarkRegularizer(make_key(), STRENGTH)), net()
    expected = mark_alone(body(plain))
    difference = stepped(marked, batch()) - stepped(plain, batch())
    # Float32 rounding of the weights themselves, which are below 1.
    np.testing.assert_allclose(difference, expected, atol=3e-7)
    assert np.abs(expected).max() > 1e-2


def test_accumulated_batches_count_the_mark_once():
    def net(regularizer=None):
        return small_net(regularizer, optimizer=keras.optimizers.SGD(0.1, gradient_accumulation_steps=3))

    marked, plain = net(WatermarkRegularizer(make_key(), STRENGTH)), net()
    expected = mark_alone(body(plain))
    batches = [batch(seed=seed) for seed in range(3)]
    np.testing.assert_allclose(stepped(marked, *batches) - stepped(plain, *batches), expected, atol=3e-7)


def test_the_loss_that_keras_shows_is_the_tasks_plus_the_marks():
    marked, plain = small_net(WatermarkRegularizer(make_key(), STRENGTH)), small_net()
    loss, *_ = reference(make_key(), in_canonical_order(body(plain), "plain"))
    shown = marked.test_on_batch(*batch()) - plain.test_on_batch(*batch())
    assert float(shown) == pytest.approx(STRENGTH * loss, rel=1e-5)


class Composite(keras.layers.Layer):
    """A layer with parts, as users write them; Keras's public ``layers`` does not show those."""

    def __init__(self, regularizer):
        super().__init__(name="composite")
        self.inner = keras.layers.Conv2D(16, 3, padding="same", kernel_regularizer=regularizer, name="inner")

    def build(self, shape):
        self.inner.build(shape)

    def call(self, inputs):
        return self.inner(inputs)


def test_marks_of_several_layers_and_keys_are_trained_together():
    layers = keras.layers
    keys = {label: make_key(label=label) for label in ("first", "second")}
    depthwise = make_key((32, 1, 3, 3), label="depthwise")
    inner = keras.Sequential(
        [layers.Input((6, 6, 8)), Composite(WatermarkRegularizer(keys["second"], 0.05))], name="nested"
    )
    model = keras.Sequential(
        [
            layers.Input((6, 6, 8)),
            layers.Conv2D(
                16, 3, padding="same", name="outer", kernel_regularizer=WatermarkRegularizer(keys["first"], 0.05)
            ),
            layers.Conv2D(8, 1),
            inner,
            layers.Conv2D(8, 1),
            layers.DepthwiseConv2D(
                3,
                depth_multiplier=4,
                name="depth",
                depthwise_regularizer=WatermarkRegularizer(depthwise, 0.05, layout="depthwise"),
            ),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    compiled(model, keras.optimizers.Adam(0.01))
    images, labels = np.random.default_rng(0).random((480, 6, 6, 8), dtype=np.float32), batch(480)[1]
    before = report(model)
    model.fit(images, labels, batch_size=12, verbose=0)
    after = report(model)
    assert list(after.kernels) == ["outer/kernel", "nested/composite/inner/kernel", "depth/kernel"]
    assert before.bit_error_rate > 0.2
    assert after.bit_error_rate == 0
    for evidence in after.kernels.values():
        assert evidence.log10_p < -3


def test_a_finished_layer_is_marked_through_its_kernel():
    model = small_net()
    model.get_layer("body").kernel.regularizer = WatermarkRegularizer(make_key(), 0.05)
    assert report(trained(compiled(model))).bit_error_rate == 0


def test_a_kernel_with_enough_margin_is_left_alone():
    key = make_key(label="key 3")
    regularizer = WatermarkRegularizer(key, 0.05, stop_at_margin=0.5)
    model = small_net(regularizer, optimizer=keras.optimizers.Adam(0.01))
    assert [float(loss) for loss in model.losses] != [0]
    margin = report(trained(model, 60)).min_margin
    assert 0.4 < margin < 1
    free = small_net(WatermarkRegularizer(key, 0.05), optimizer=keras.optimizers.Adam(0.01))
    assert report(trained(free, 60)).min_margin > margin + 0.2


@pytest.mark.parametrize(("factor", "is_left"), [(0.999, True), (1.001, False)])
def test_the_margin_is_the_audits(factor, is_left):
    key = make_key(generator="gaussian", label="key 3")
    values = case_values("conv2d") + np.moveaxis(0.1 * pull(key), (0, 1), (-1, -2)).astype(np.float32)
    *_, margin = reference(key, in_canonical_order(values, "plain"))
    loss, gradient = loss_and_gradient(WatermarkRegularizer(key, 1.0, stop_at_margin=factor * margin), values)
    assert margin > 0
    assert (loss == 0) is is_left
    assert (not gradient.any()) is is_left


def test_another_strength_counts_from_the_next_compile():
    regularizer = WatermarkRegularizer(make_key(), STRENGTH)
    model, plain = small_net(regularizer), small_net()
    stepped(model, batch())
    model.set_weights(plain.get_weights())
    regularizer.strength = 2 * STRENGTH
    compiled(model)
    expected = mark_alone(body(plain), 2 * STRENGTH)
    np.testing.assert_allclose(stepped(model, batch()) - stepped(plain, batch()), expected, atol=3e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strength": -1}, "strength must be at least 0 and finite, not -1"),
        ({"strength": float("nan")}, "strength must be at least 0 and finite, not nan"),
        ({"layout": "HWIO"}, "layout must be one of plain, depthwise, transposed, not 'HWIO'"),
        ({"stop_at_margin": 0}, "stop_at_margin must be above 0 and finite, not 0"),
    ],
)
def test_senseless_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WatermarkRegularizer(make_key(), **options)


def test_only_projection_keys_of_ours_are_taken():
    foreign = ForeignKey(np.ones((4, 72)), None, "w.npy", "")
    other = Key("structural", Secret(bytes(32)), bytes(32), np.zeros(4, np.uint8), (Carrier(CONV_SHAPE),), {})
    for key, named in ((foreign, "'projection' from a matrix"), (other, "'structural' from a seed")):
        with pytest.raises(KeyFileError, match=f"takes a key of scheme 'projection' .* not one of scheme {named}"):
            WatermarkRegularizer(key)


def test_a_key_whose_parameters_make_no_sense_is_refused():
    with pytest.raises(KeyFileError, match="unknown generator 'sobol'"):
        WatermarkRegularizer(make_key(generator="sobol"))


def test_a_kernel_of_another_shape_is_refused_by_both_shapes():
    message = r"plain kernel of shape 3 x 3 x 8 x 17 .* made for out x in x spatial 16 x 8 x 3 x 3, carrier full; take"
    with pytest.raises(CarrierError, match=message):
        WatermarkRegularizer(make_key())(np.zeros((3, 3, 8, 17), np.float32))


@pytest.mark.parametrize(("shape", "layout"), [((3, 3, 16, 8), "transposed"), ((3, 3, 8, 4), "depthwise")])
def test_a_kernel_that_fits_in_another_order_is_refused_with_that_order(shape, layout):
    wanted = canonical_shape(shape, layout)
    with pytest.raises(CarrierError, match=f"say layout='{layout}' if that is what the layer is"):
        WatermarkRegularizer(make_key(wanted))(np.zeros(shape, np.float32))


@pytest.mark.parametrize("shape", [(16,), (3, 3, 8, 8), (4, 3, 8, 16)])
def test_a_bias_or_a_kernel_of_another_size_does_not_fit_in_any_order(shape):
    with pytest.raises(CarrierError, match="does not fit the key"):
        WatermarkRegularizer(make_key()).check(shape)


def test_a_mean_fits_any_number_of_filters():
    regularizer = WatermarkRegularizer(make_key(n_bits=4, carrier="mean-ihw"))
    regularizer.check((3, 3, 8, 99))
    with pytest.raises(CarrierError, match="does not fit the key"):
        regularizer.check((3, 3, 9, 16))


def test_layouts_have_a_shape_each():
    assert {layout: canonical_shape((3, 5, 8, 4), layout) for layout in LAYOUTS} == {
        "plain": (4, 8, 3, 5),
        "depthwise": (32, 1, 3, 5),
        "transposed": (8, 4, 3, 5),
    }
