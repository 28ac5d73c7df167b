"""A mark in a Lightning training: one callback that knows the right moment and tells nobody the key.

    Trainer(callbacks=[WatermarkCallback(Watermark(load_key("key.npy")))])

Lightning runs backward inside ``optimizer.step(closure)``. A hook on the optimizer fires before that, so that its
gradient is lost, and a term of the loss is counted once a micro-batch. ``on_before_optimizer_step`` comes after
accumulation, averaging over ranks and unscaling; but before clipping, which is therefore done here, earlier.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import Optimizer

from onnxmark.errors import MissingExtra
from onnxmark_torch.layers import HostLayer
from onnxmark_torch.monitoring import (
    SealedMark,
    check_cadence,
    figures,
    marked_layers,
    reaches,
    require_none,
    trains,
)
from onnxmark_torch.problems import Problem
from onnxmark_torch.watermark import Watermark

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.strategies import DeepSpeedStrategy
except ModuleNotFoundError as _error:
    if _error.name != "lightning":
        raise
    raise MissingExtra("lightning", "lightning", "the Lightning callback") from None


class WatermarkCallback(Callback):
    """Trains a mark into a LightningModule, under automatic or manual optimization.

    Logs ``<name>/bit_error_rate``, ``<name>/min_margin`` and ``<name>/log10_p``, for ``ModelCheckpoint(monitor=...)``
    and the like. A checkpoint keeps the mark's ``state_dict()``, never the key. With several optimizers the mark goes
    with the one that trains its layers. Gradients are clipped before the mark's is added, see
    :meth:`Watermark.add_grad_`; under manual optimization that is as the module does it.

    Args:
        mark: The mark. Its layers are named as in the network.
        network: Name of the submodule that is the network, ``"net"`` for ``self.net``; "" is the whole LightningModule.
        name: Prefix of what is logged; several marks of one training need different ones.
        every_n_steps: Read the mark after every so many optimizer steps, at least 1, and with the last batch of an
            epoch; None takes the trainer's ``log_every_n_steps``. A reading takes as long as an audit of the layer.
        end_at_margin: End the training once the smallest margin read is at least this, in units of a random key's
            standard deviation, above 0; None never does. To go on without the mark, give the mark a ``MarginStop``.
        strict: Raise where :meth:`Watermark.validate` finds a problem; False warns, and fails later only where the mark
            cannot be trained.
    """

    def __init__(
        self,
        mark: Watermark,
        network: str = "",
        *,
        name: str = "watermark",
        every_n_steps: int | None = None,
        end_at_margin: float | None = None,
        strict: bool = True,
    ) -> None:
        check_cadence(every_n_steps, end_at_margin)
        self.network = network
        self.name = name
        self.every_n_steps = every_n_steps
        self.end_at_margin = end_at_margin
        self.strict = strict
        self._sealed = SealedMark(mark)
        self._layers: tuple[HostLayer, ...] = ()
        self._clipping: _Clipping | None = None
        self._last_read = 0

    @property
    def mark(self) -> Watermark:
        """The mark."""
        return self._sealed.mark

    @property
    def state_key(self) -> str:
        """Under which a checkpoint keeps the state."""
        return self._generate_state_key(name=self.name)

    def __repr__(self) -> str:
        return f"WatermarkCallback({self.mark}, network={self.network!r}, name={self.name!r})"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse what would spoil the mark.

        Raises:
            TargetError: The model or its optimizers cannot carry the mark; with ``strict`` off, only where there is
                nothing to mark.
            ValueError: In this set-up no callback sees the gradients as the optimizer will use them.
        """
        network = self._network(pl_module)
        require_none(self.mark.validate(network), strict=self.strict)
        self._layers = marked_layers(self.mark, network)
        bearers = [optimizer for optimizer in trainer.optimizers if trains(optimizer, self._layers)]
        if not bearers:
            require_none([_UNTRAINED], strict=self.strict)
        _check_gradients(trainer, bearers)
        self._last_read = self.mark.step
        self._clipping = _Clipping.taken_from(trainer)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Add the mark's gradient, where it is the mark's optimizer that steps."""
        if self._clipping is not None:
            self._clipping.clip(pl_module, optimizer)
        if trains(optimizer, self._layers):
            self.mark.add_grad_(self._network(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Read the mark, log its figures and perhaps end the training."""
        if not self._is_due(trainer):
            return
        self._last_read = self.mark.step
        report = self.mark.report(self._network(pl_module))
        pl_module.log_dict(figures(report, f"{self.name}/"), on_step=True, on_epoch=False)
        trainer.should_stop = trainer.should_stop or reaches(report, self.end_at_margin)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the trainer as it was."""
        self._give_back(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the trainer as it was."""
        self._give_back(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the mark's step and the layers it leaves alone."""
        return self.mark.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.mark.load_state_dict(state_dict)

    def _network(self, pl_module: LightningModule) -> nn.Module:
        return pl_module.get_submodule(self.network)

    def _is_due(self, trainer: Trainer) -> bool:
        # Counted in the mark's own steps: several batches may end at one of them, and the trainer's steps are those
        # of all optimizers.
        if self.mark.step == self._last_read:
            return False
        every = self.every_n_steps or trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by its connector
        return trainer.is_last_batch or (every > 0 and self.mark.step % every == 0)

    def _give_back(self, trainer: Trainer) -> None:
        if self._clipping is not None:
            self._clipping.give_back(trainer)
            self._clipping = None


@dataclass(frozen=True, slots=True)
class _Clipping:
    """What the trainer was told to clip: it would clip the mark, too, so it is told nothing while it trains.

    Args:
        value: Largest norm or element.
        algorithm: ``norm`` or ``value``; None is Lightning's default.
    """

    value: int | float
    algorithm: str | None

    @classmethod
    def taken_from(cls, trainer: Trainer) -> _Clipping | None:
        """The trainer's clipping, None where it does none; the first of several callbacks gets it."""
        value, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        return cls(value, trainer.gradient_clip_algorithm) if value else None

    def give_back(self, trainer: Trainer) -> None:
        """Let the trainer clip again."""
        trainer.gradient_clip_val = self.value

    def clip(self, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Clip as the trainer would have."""
        pl_module.configure_gradient_clipping(optimizer, self.value, self.algorithm)


_UNTRAINED = Problem(
    "no optimizer of the LightningModule trains the marked layers",
    "give configure_optimizers() their parameters",
)


def _check_gradients(trainer: Trainer, optimizers: list[Optimizer]) -> None:
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        raise ValueError(
            "DeepSpeed keeps gradients to itself; add mark.loss(network) to the loss in training_step, "
            "divided by the number of micro-batches"
        )
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if scaled and any(getattr(optimizer, "_step_supports_amp_scaling", False) for optimizer in optimizers):
        raise ValueError(
            "a fused optimizer takes the scale of precision 16-mixed out of the gradients inside its step; "
            "make it with fused=False, or train with bf16-mixed"
        )
