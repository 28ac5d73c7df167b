"""A mark in a training by transformers' Trainer: one callback that knows the right moment and tells nobody the key.

    Trainer(..., callbacks=[WatermarkCallback(Watermark(load_key("key.npy")))])

``on_pre_optimizer_step`` comes once an update, after accumulation, averaging over ranks and clipping. (Not named
``transformers`` like the package, lest a reader take one for the other.)
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer

from onnxmark.errors import MissingExtra
from onnxmark_torch.monitoring import SealedMark, check_cadence, figures, reaches, require_none
from onnxmark_torch.report import Report
from onnxmark_torch.watermark import Watermark

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ModuleNotFoundError as _error:
    if _error.name != "transformers":
        raise
    raise MissingExtra("transformers", "transformers", "the callback for transformers' Trainer") from None


class WatermarkCallback(TrainerCallback):
    """Trains a mark into the model of a ``transformers.Trainer``.

    Whatever the Trainer logs gets ``<name>/bit_error_rate``, ``<name>/min_margin`` and ``<name>/log10_p`` beside it.
    Trackers see them if they come after this callback: ``report_to="none"`` and
    ``callbacks=[WatermarkCallback(mark), TensorBoardCallback()]``. A checkpoint's ``trainer_state.json`` keeps the
    mark's ``state_dict()``, never the key.

    Args:
        mark: The mark.
        name: Prefix of what is logged; several marks of one training need different ones.
        every_n_steps: Read the mark after every so many optimizer steps, at least 1, and for every log; None reads it
            for logs only. A reading takes as long as an audit of the layer.
        end_at_margin: End the training once the smallest margin read is at least this, in units of a random key's
            standard deviation, above 0; None never does. To go on without the mark, give the mark a ``MarginStop``.
        strict: Raise where :meth:`Watermark.validate` finds a problem; False warns, and fails later only where the mark
            cannot be trained.
    """

    def __init__(
        self,
        mark: Watermark,
        *,
        name: str = "watermark",
        every_n_steps: int | None = None,
        end_at_margin: float | None = None,
        strict: bool = True,
    ) -> None:
        check_cadence(every_n_steps, end_at_margin)
        self.name = name
        self.every_n_steps = every_n_steps
        self.end_at_margin = end_at_margin
        self.strict = strict
        self._sealed = SealedMark(mark)

    @property
    def mark(self) -> Watermark:
        """The mark."""
        return self._sealed.mark

    def __repr__(self) -> str:
        return f"WatermarkCallback({self.mark}, name={self.name!r})"

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse what would spoil the mark; go on from the checkpoint where there is one.

        Raises:
            TargetError: The model or its optimizer cannot carry the mark; with ``strict`` off only a warning.
            ValueError: Under DeepSpeed no callback sees the gradients.
        """
        if args.deepspeed_plugin is not None:
            raise ValueError(
                "DeepSpeed keeps gradients to itself; add mark.loss(model) to the loss in compute_loss, "
                "divided by gradient_accumulation_steps"
            )
        require_none(self.mark.validate(kwargs["model"], kwargs["optimizer"]), strict=self.strict)
        if self.name in _states(state):
            self.mark.load_state_dict(_states(state)[self.name])

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the mark's gradient."""
        _unscale_(kwargs["optimizer"])
        self.mark.add_grad_(kwargs["model"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave the state for a checkpoint; perhaps read the mark and end the training."""
        _states(state)[self.name] = self.mark.state_dict()
        if self.every_n_steps is not None and state.global_step % self.every_n_steps == 0:
            self._read(kwargs["model"], control)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Read the mark, put its figures beside what is logged, and perhaps end the training."""
        found = figures(self._read(kwargs["model"], control), f"{self.name}/")
        kwargs["logs"].update(found)
        # The Trainer has copied the entry into its history before it asks its callbacks.
        state.log_history[-1].update(found)

    def _read(self, model: nn.Module, control: TrainerControl) -> Report:
        report = self.mark.report(model)
        control.should_training_stop = control.should_training_stop or reaches(report, self.end_at_margin)
        return report


def _states(state: TrainerState) -> dict[str, Any]:
    """The part of ``trainer_state.json`` that is for callbacks; the Trainer gives it back when it resumes."""
    states: dict[str, Any] = state.stateful_callbacks  # type: ignore[assignment]  # a list only as an argument
    return states


def _unscale_(optimizer: Optimizer) -> None:
    """Take fp16's loss scale out of the gradients: without clipping, transformers 5.0 leaves that to the step."""
    scaler = getattr(optimizer, "scaler", None)
    if scaler is None:
        return
    try:
        scaler.unscale_(getattr(optimizer, "optimizer", optimizer))
    except RuntimeError as error:
        # There is no public question to a GradScaler whether it has done so; it refuses to do it twice.
        if "already been called" not in str(error):
            raise
