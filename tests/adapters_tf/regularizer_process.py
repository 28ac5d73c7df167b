"""What a process of its own does on another backend of Keras; started by ``test_regularizer_backends``.

KERAS_BACKEND=torch python -m tests.adapters_tf.regularizer_process FOLDER
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
from onnxmark_tf.marks import report
from onnxmark_tf.monitor import WatermarkMonitor
from onnxmark_tf.regularizer import WatermarkRegularizer, keys_at_hand

from tests.adapters_tf.regularizer_subjects import (
    CASES,
    KERNELS,
    batch,
    body,
    case_key,
    case_regularizer,
    case_values,
    in_canonical_order,
    loss_and_gradient,
    make_key,
    small_net,
)

STRENGTH = 0.05


def cases():
    """Loss and gradient of every case, beside those of the PyTorch adapter where there is torch."""
    found = {}
    for number, case in enumerate(CASES):
        loss, gradient = loss_and_gradient(case_regularizer(case), case_values(case[0]))
        found |= {f"loss {number}": loss, f"gradient {number}": gradient}
        if keras.backend.backend() == "torch" and find_spec("onnxmark_torch"):
            loss, gradient = adapter(case)
            found |= {f"adapter loss {number}": loss, f"adapter gradient {number}": gradient}
    return found


def adapter(case):
    """The same from the PyTorch adapter; its gradient in canonical order."""
    import torch
    from onnxmark_torch.carrier_tensors import CarrierTensors

    from onnxmark.schemes.projection.projection import own_projection

    kernel, *_ = case
    values = in_canonical_order(case_values(kernel), KERNELS[kernel][1])
    tensors = CarrierTensors.on(torch.device("cpu"), own_projection(case_key(*case), values.shape))
    loss, gradient = tensors.loss_and_gradient(torch.from_numpy(np.ascontiguousarray(values)))
    return 0.3 * float(loss), 0.3 * gradient.numpy()


def trained(folder):
    """A mark trained by ``fit``, compiled where the backend compiles, saved, loaded and trained on."""
    key = make_key()
    jit = keras.backend.backend() == "jax"
    model = small_net(WatermarkRegularizer(key, STRENGTH), jit_compile=jit)
    kernel = body(model).copy()
    images, labels = batch()
    model.train_on_batch(images, labels)
    stepped = body(model).copy()
    plain = small_net(jit_compile=jit)
    plain.train_on_batch(images, labels)
    history = model.fit(images, labels, epochs=10, batch_size=12, verbose=0, callbacks=[WatermarkMonitor()]).history
    model.save(folder / "model.keras")
    with keys_at_hand(key):
        again = keras.models.load_model(folder / "model.keras")
    return {
        "kernel": kernel,
        "mark's step": body(plain) - stepped,
        "bit_error_rate": history["bit_error_rate"],
        "min_margin": history["min_margin"],
        "margin loaded": report(again).min_margin,
        "losses loaded": [float(loss) for loss in again.losses],
    }


def main():
    folder = Path(sys.argv[1])
    np.savez(folder / "found.npz", allow_pickle=False, **cases(), **trained(folder))


if __name__ == "__main__":
    main()
