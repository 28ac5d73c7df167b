"""A Keras callback that watches a mark: checked before hours are lost, and in the logs after every epoch."""

from __future__ import annotations

from typing import Any, Final

import keras

from onnxmark_tf.marks import marked_kernels, report

FIGURES: Final = ("bit_error_rate", "min_margin", "log10_p")
"""The properties of a :class:`~onnxmark_tf.marks.Report` that go into the logs: no way leads from them to the key."""


class WatermarkMonitor(keras.callbacks.Callback):  # type: ignore[misc]
    """Puts how the marks stand at worst into the logs of an epoch.

    ``bit_error_rate`` in [0, 1], ``min_margin`` in units of a random key's standard deviation and ``log10_p`` before
    any correction reach ``History``, loggers and ``EarlyStopping("bit_error_rate", mode="min")``, if those come later
    in the list of callbacks.

    Args:
        every_n_epochs: Epochs between readings, at least 1.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        super().__init__()
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs must be at least 1, not {every_n_epochs}")
        self.every_n_epochs = every_n_epochs

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Refuse a model whose marks would not be trained.

        Raises:
            CarrierError: There are none, a key does not fit, or a kernel is frozen or read in the wrong order.
        """
        for kernel in marked_kernels(self.model):
            kernel.check()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Read the marks."""
        if logs is not None and (epoch + 1) % self.every_n_epochs == 0:
            reading = report(self.model)
            logs.update({name: float(getattr(reading, name)) for name in FIGURES})
