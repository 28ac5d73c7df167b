"""What is said of a mark during training, and what is refused before it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tensorflow")
pytest.importorskip("keras")

import keras
from onnxmark_tf.marks import marked_kernels, report
from onnxmark_tf.monitor import FIGURES, WatermarkMonitor
from onnxmark_tf.regularizer import WatermarkRegularizer

from onnxmark.errors import CarrierError
from tests.adapters_tf.regularizer_subjects import (
    batch,
    body,
    compiled,
    in_canonical_order,
    make_key,
    reference,
    small_net,
)


def marked_net(**options):
    return small_net(WatermarkRegularizer(make_key(), 0.05, **options))


def test_a_report_says_what_the_reference_reads():
    model = marked_net()
    loss, _, margin = reference(make_key(), in_canonical_order(body(model), "plain"))
    found = report(model)
    assert list(found.kernels) == ["body/kernel"]
    assert found.min_margin == pytest.approx(margin)
    evidence = found.kernels["body/kernel"]
    assert evidence.embedding_loss == pytest.approx(loss / 16)
    assert found.bit_error_rate == np.mean(evidence.margins <= 0)
    assert found.log10_p == evidence.log10_p
    assert str(found) == (
        f"BER {found.bit_error_rate:.3f}, margin {margin:.2f} at least, log10 p {found.log10_p:.1f} in body/kernel"
    )


def test_figures_are_those_of_the_worst_kernel():
    layers = keras.layers
    keys = {label: make_key((8, 8, 1, 1), label=label, n_bits=8) for label in "ab"}
    model = keras.Sequential(
        [
            layers.Input((4, 4, 8)),
            *(layers.Conv2D(8, 1, name=label, kernel_regularizer=WatermarkRegularizer(keys[label])) for label in "ab"),
        ]
    )
    found = report(model)
    assert found.min_margin == min(evidence.margins.min() for evidence in found.kernels.values())
    assert found.bit_error_rate == max(evidence.bit_error_rate for evidence in found.kernels.values())
    assert found.log10_p == max(evidence.log10_p for evidence in found.kernels.values())
    assert len({evidence.log10_p for evidence in found.kernels.values()}) == 2


def test_figures_reach_history_and_later_callbacks():
    model = marked_net()
    seen = []
    later = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs.get("bit_error_rate")))
    history = model.fit(*batch(), epochs=4, verbose=0, callbacks=[WatermarkMonitor(every_n_epochs=2), later]).history
    assert {name: len(history[name]) for name in FIGURES} == dict.fromkeys(FIGURES, 2)
    assert seen[0] is None
    assert seen[1] == history["bit_error_rate"][0]
    assert history["min_margin"][-1] == pytest.approx(report(model).min_margin)


def test_training_can_end_when_the_mark_is_there():
    model = small_net(WatermarkRegularizer(make_key(), 0.05), optimizer=keras.optimizers.Adam(0.01))
    stop = keras.callbacks.EarlyStopping("bit_error_rate", mode="min", patience=1)
    rates = model.fit(*batch(), epochs=30, verbose=0, callbacks=[WatermarkMonitor(), stop]).history["bit_error_rate"]
    assert rates[0] > 0
    assert rates[-2:] == [0, 0]
    assert len(rates) < 30


def test_a_model_without_a_mark_is_refused_before_training():
    with pytest.raises(CarrierError, match="no layer of model 'net' has a watermark regularizer; give one its"):
        small_net().fit(*batch(), verbose=0, callbacks=[WatermarkMonitor()])


def test_a_layer_that_does_not_fit_the_key_is_refused():
    model = small_net()
    model.get_layer("stem").kernel.regularizer = WatermarkRegularizer(make_key())
    with pytest.raises(CarrierError, match="plain kernel of shape 3 x 3 x 1 x 8 does not fit the key"):
        report(model)
    (kernel,) = marked_kernels(model)
    with pytest.raises(CarrierError, match="does not fit the key"):
        kernel.check()


def test_weights_that_no_audit_looks_for_are_refused():
    layer = keras.layers.EinsumDense(
        "ab,bc->ac", 16, kernel_regularizer=WatermarkRegularizer(make_key((16, 8))), name="einsum"
    )
    model = keras.Sequential([keras.layers.Input((8,)), layer])
    with pytest.raises(CarrierError, match="einsum/kernel' has a watermark regularizer and is no kernel of a conv"):
        report(model)


def transposed_net(layout):
    layer = keras.layers.Conv2DTranspose(
        8, 3, name="up", kernel_regularizer=WatermarkRegularizer(make_key((8, 8, 3, 3)), layout=layout)
    )
    return keras.Sequential([keras.layers.Input((4, 4, 8)), layer, keras.layers.GlobalAveragePooling2D()])


def test_a_square_kernel_read_in_the_wrong_order_is_refused():
    # As many inputs as outputs: the shape does not tell.
    with pytest.raises(CarrierError, match=r"'up/kernel' is a transposed kernel .* say .*layout='transposed'"):
        compiled(transposed_net("plain")).fit(
            np.zeros((2, 4, 4, 8)), np.zeros(2), verbose=0, callbacks=[WatermarkMonitor()]
        )
    (kernel,) = marked_kernels(transposed_net("transposed"))
    kernel.check()


def test_a_frozen_kernel_is_refused():
    model = marked_net()
    model.get_layer("body").trainable = False
    assert report(compiled(model)).min_margin, "it can be read all the same"
    with pytest.raises(CarrierError, match="'body/kernel' is frozen, and Keras leaves"):
        model.fit(*batch(), verbose=0, callbacks=[WatermarkMonitor()])


def test_readings_are_at_least_an_epoch_apart():
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1, not 0"):
        WatermarkMonitor(every_n_epochs=0)
