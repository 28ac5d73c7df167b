"""Under Lightning, one step with the callback is the step of a plain float64 loop; at other moments it is not."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DeepSpeedStrategy
from onnxmark_torch import OffAfter, TargetError, Watermark
from onnxmark_torch.lightning import WatermarkCallback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.adapters.absence import last_line_of_importing, run_python
from tests.adapters.reference import LAYER, batch, error, parameters, sgd, stepped, subject, task_loss
from tests.adapters.secrecy import leaking_files, leaks
from tests.adapters.subjects import make_key

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found . module.* in eval mode"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec:FutureWarning"),
]
EXACT = 1e-5
WRONG = 0.1
STRENGTH = 0.004  # the mark's gradient is then about as large as the task's: an error in either shows
KEY = make_key()
MARKS = ((LAYER, KEY, STRENGTH),)


def mark(strength=STRENGTH):
    return Watermark(KEY, LAYER, strength)


class Lit(pl.LightningModule):
    """The reference's network and loss."""

    def __init__(self):
        super().__init__()
        self.net = subject()

    def train(self, mode=True):
        return super().train(False)

    def training_step(self, piece, index):
        return task_loss(self.net, *piece)

    def configure_optimizers(self):
        return sgd(self.net)


class MarkedLoss(Lit):
    """Wrong under accumulation: the whole mark in every micro-batch."""

    def training_step(self, piece, index):
        return super().training_step(piece, index) + mark().loss(self.net)


class Manual(Lit):
    """Its own loop, with two optimizers that share the network between them, and its own clipping."""

    def __init__(self, clip=None):
        super().__init__()
        self.automatic_optimization = False
        self.clip = clip

    def training_step(self, piece, index):
        optimizers = self.optimizers()
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(super().training_step(piece, index))
        if self.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        for optimizer in optimizers:
            optimizer.step()

    def configure_optimizers(self):
        rest = [module for name, module in self.net.named_children() if name != LAYER]
        return [sgd(nn.ModuleList(rest)), sgd(self.net.get_submodule(LAYER))]


def fit(module, *callbacks, micro_batches=1, epochs=1, ckpt_path=None, **options):
    """Train; one epoch is one optimizer step on the reference's batch."""
    options = {"logger": False, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=1 if isinstance(module, Manual) else micro_batches,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **options,
    )
    data = DataLoader(TensorDataset(*batch()), batch_size=12 // micro_batches)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def update_error(module, *callbacks, reference=None, **options):
    """How far the update is from the reference's, relative to it."""
    fit(module, *callbacks, **options)
    return error(parameters(module.net), reference or stepped(MARKS))


def callback(**options):
    return WatermarkCallback(mark(), "net", **options)


def low_precision_gradients(dtype, scale=1.0):
    """The task's gradients under autocast, by hand."""
    model = subject()
    with torch.autocast("cpu", dtype):
        loss = task_loss(model, *batch())
    (loss * scale).backward()
    return [parameter.grad / scale for parameter in model.parameters()]


def scaled_precision():
    """16-mixed as on a GPU: Lightning itself falls back to bf16 on a CPU."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))


def test_one_step():
    assert update_error(Lit(), callback()) <= EXACT


def test_the_mark_is_a_good_part_of_that_step():
    assert update_error(Lit()) > WRONG


def test_accumulation():
    assert update_error(Lit(), callback(), micro_batches=3) <= EXACT


@pytest.mark.parametrize("norm", [0.01, 1e6])
def test_clipping_by_norm(norm):
    assert update_error(Lit(), callback(), gradient_clip_val=norm, reference=stepped(MARKS, clip=norm)) <= EXACT


def test_clipping_by_value():
    model = subject()
    task_loss(model, *batch()).backward()
    nn.utils.clip_grad_value_(model.parameters(), 0.003)
    expected = stepped(MARKS, gradients=[parameter.grad for parameter in model.parameters()])
    options = {"gradient_clip_val": 0.003, "gradient_clip_algorithm": "value", "micro_batches": 3}
    assert update_error(Lit(), callback(), reference=expected, **options) <= EXACT


def test_bf16_mixed():
    expected = stepped(MARKS, gradients=low_precision_gradients(torch.bfloat16))
    assert update_error(Lit(), callback(), precision="bf16-mixed", reference=expected) <= EXACT


@pytest.mark.parametrize("clip", [None, 0.01])
def test_16_mixed(clip):
    expected = stepped(MARKS, gradients=low_precision_gradients(torch.float16, 1024.0), clip=clip)
    found = update_error(Lit(), callback(), plugins=[scaled_precision()], gradient_clip_val=clip, reference=expected)
    assert found <= EXACT


@pytest.mark.parametrize("clip", [None, 0.01])
def test_manual_optimization_with_two_optimizers(clip):
    assert update_error(Manual(clip), callback(), reference=stepped(MARKS, clip=clip)) <= EXACT


def test_two_marks_in_one_training():
    other, key = ("head", make_key((10, 16), label="other"))
    second = WatermarkCallback(Watermark(key, other, 0.01), "net", name="second")
    expected = stepped((*MARKS, (other, key, 0.01)), clip=0.01)
    assert update_error(Lit(), callback(), second, gradient_clip_val=0.01, reference=expected) <= EXACT


def test_two_processes(tmp_path):
    subprocess.run([sys.executable, "-m", "tests.adapters.lightning_processes", str(tmp_path)], check=True, timeout=120)
    found = torch.load(tmp_path / "parameters.pt")
    assert error(found, stepped(MARKS)) <= EXACT


class BeforeTheClosure(pl.Callback):
    def on_train_start(self, trainer, pl_module):
        (optimizer,) = trainer.optimizers
        optimizer.register_step_pre_hook(lambda *_: mark().add_grad_(pl_module.net))


class IntoTheNumberOnly(pl.Callback):
    def on_before_backward(self, trainer, pl_module, loss):
        loss.data += mark().loss(pl_module.net).detach()


class AfterBackward(pl.Callback):
    def on_after_backward(self, trainer, pl_module):
        mark().add_grad_(pl_module.net)


class BeforeClipping(pl.Callback):
    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        mark().add_grad_(pl_module.net)


@pytest.mark.parametrize("moment", [BeforeTheClosure, IntoTheNumberOnly])
def test_wrong_moments(moment):
    assert update_error(Lit(), moment()) > WRONG


def test_wrong_under_accumulation():
    assert update_error(MarkedLoss()) <= EXACT
    assert update_error(MarkedLoss(), micro_batches=3) <= EXACT  # Lightning divides every micro-batch's loss
    assert update_error(Lit(), AfterBackward(), micro_batches=3) > WRONG


def test_wrong_while_scaled():
    expected = stepped(MARKS, gradients=low_precision_gradients(torch.float16, 1024.0))
    assert update_error(Lit(), AfterBackward(), plugins=[scaled_precision()], reference=expected) > WRONG


def test_wrong_before_clipping():
    expected = stepped(MARKS, clip=0.01)
    assert update_error(Lit(), BeforeClipping(), gradient_clip_val=0.01, reference=expected) > WRONG


def test_the_wrong_hook_refuses_itself():
    class Attached(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            mark().attach(trainer.optimizers[0], pl_module.net)

    with pytest.raises(ValueError, match="computes its gradients after this hook"):
        fit(Lit(), Attached())


def test_clipping_is_given_back():
    assert fit(Lit(), callback(), gradient_clip_val=0.5).gradient_clip_val == 0.5


def test_clipping_is_given_back_after_a_failure():
    class Failing(Lit):
        def training_step(self, piece, index):
            raise RuntimeError("no luck")

    seen = []

    class Looking(pl.Callback):
        def on_exception(self, trainer, pl_module, exception):
            seen.append(trainer.gradient_clip_val)

    with pytest.raises(RuntimeError, match="no luck"):
        fit(Failing(), callback(), Looking(), gradient_clip_val=0.5)
    assert seen == [0.5]


def test_what_is_logged_is_the_report():
    module = Lit()
    logged = fit(module, callback(name="ours"), epochs=3).callback_metrics
    report = mark().report(module.net)
    assert {name: value.item() for name, value in logged.items()} == pytest.approx(
        {
            "ours/bit_error_rate": report.bit_error_rate,
            "ours/min_margin": report.min_margin,
            "ours/log10_p": report.log10_p,
        },
        rel=1e-6,
    )


class Read(Watermark):
    """A mark that notes at which of its steps it was read."""

    def __init__(self):
        super().__init__(KEY, LAYER, STRENGTH)
        self.read_at = []

    def report(self, model):
        self.read_at.append(self.step)
        return super().report(model)


@pytest.mark.parametrize(
    ("every", "trainer_logs", "expected"),
    [
        (1, None, [1, 2, 3, 4, 5, 6]),
        (2, None, [2, 3, 4, 6]),
        (10, None, [3, 6]),
        (None, 2, [2, 3, 4, 6]),
        (None, 0, [3, 6]),
    ],
)
def test_reading_every_n_steps_and_at_the_end_of_an_epoch(every, trainer_logs, expected):
    ours = Read()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        accumulate_grad_batches=2,
        log_every_n_steps=trainer_logs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[WatermarkCallback(ours, "net", every_n_steps=every)],
    )
    trainer.fit(Lit(), DataLoader(TensorDataset(*batch()), batch_size=2))
    assert ours.read_at == expected


def test_the_training_ends_at_the_margin():
    module = Lit()
    ends = WatermarkCallback(mark(0.01), "net", end_at_margin=0.5, every_n_steps=1)
    steps = fit(module, ends, epochs=50).global_step
    assert 1 < steps < 50
    assert mark().report(module.net).min_margin >= 0.5
    earlier = Lit()
    fit(earlier, WatermarkCallback(mark(0.01), "net"), epochs=steps - 1)
    assert mark().report(earlier.net).min_margin < 0.5


def test_without_a_margin_it_does_not():
    assert fit(Lit(), callback(every_n_steps=1), epochs=5).global_step == 5


def test_a_checkpoint_goes_on_where_it_stood(tmp_path):
    first, second = (WatermarkCallback(mark(OffAfter(STRENGTH, 2)), "net") for _ in range(2))
    interrupted = Lit()
    fit(interrupted, first, epochs=1).save_checkpoint(tmp_path / "last.ckpt")
    resumed, through = Lit(), Lit()
    fit(resumed, second, epochs=4, ckpt_path=tmp_path / "last.ckpt")
    fit(through, WatermarkCallback(mark(OffAfter(STRENGTH, 2)), "net"), epochs=4)
    assert second.mark.step == 4
    for name, expected in parameters(through.net).items():
        torch.testing.assert_close(parameters(resumed.net)[name], expected, rtol=0, atol=0)


def test_nothing_of_the_key_is_left_behind(tmp_path, capfd, caplog):
    module = Lit()
    trainer = fit(
        module,
        callback(every_n_steps=1),
        epochs=2,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=True,
        log_every_n_steps=1,
    )
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert leaking_files(KEY, tmp_path) == []
    assert {path.suffix for path in tmp_path.rglob("*")} >= {".ckpt", ".csv"}
    shown = "".join([*capfd.readouterr(), caplog.text, repr(callback()), str(trainer.callback_metrics)])
    assert leaks(KEY, shown.encode()) == []


def test_a_callback_is_shared_by_copies_and_never_pickled():
    ours = callback()
    assert copy.deepcopy(ours).mark is ours.mark
    with pytest.raises(TypeError, match="a mark holds its key and cannot be pickled"):
        pickle.dumps(ours)


def test_repr_names_the_layer_and_no_key():
    assert repr(callback()) == (
        "WatermarkCallback(Watermark(target_modules=('body',), strength=0.004), network='net', name='watermark')"
    )


def test_problems_stop_the_training_before_it_starts():
    module = Lit()
    module.net.body.weight.requires_grad_(False)
    with pytest.raises(TargetError, match="2000 bits need 2,000 entries") as caught:
        fit(module, WatermarkCallback(Watermark(make_key(n_bits=2000), LAYER), "net"))
    (note,) = caught.value.__notes__
    assert note.startswith("layer 'body' is frozen")


def test_or_are_warned_of():
    ours = WatermarkCallback(Watermark(make_key(n_bits=2000), LAYER), "net", strict=False)
    with pytest.warns(UserWarning, match="2000 bits need 2,000 entries .* take a key of fewer bits"):
        fit(Lit(), ours)
    assert ours.mark.step == 1


class HeadOnly(Lit):
    def configure_optimizers(self):
        return sgd(self.net.head)


def test_an_optimizer_without_the_layer_is_refused():
    with pytest.raises(TargetError, match="no optimizer of the LightningModule trains the marked layers; give"):
        fit(HeadOnly(), callback())


def test_or_trained_without_the_mark():
    ours, module = callback(strict=False), HeadOnly()
    with pytest.warns(UserWarning, match="no optimizer of the LightningModule trains the marked layers"):
        fit(module, ours)
    assert ours.mark.step == 0
    assert module.net.body.weight.equal(subject().body.weight)


def test_one_mark_for_two_optimizers_is_refused():
    module = Manual()
    module.net.other = nn.Conv2d(8, 16, 3)
    with pytest.raises(TargetError, match="the layers of one mark are trained by different optimizers; make one"):
        fit(module, WatermarkCallback(Watermark(KEY, ["body", "other"]), "net"))


def test_a_fused_optimizer_under_16_mixed_is_refused():
    class Fused(Lit):
        def configure_optimizers(self):
            return torch.optim.SGD(self.net.parameters(), lr=0.1, fused=True)

    with pytest.raises(ValueError, match=r"takes the scale of precision 16-mixed out .* make it with fused=False"):
        fit(Fused(), callback(), plugins=[scaled_precision()])
    assert update_error(Fused(), callback()) <= EXACT


def test_deepspeed_is_refused():
    module = Lit()
    trainer = SimpleNamespace(strategy=object.__new__(DeepSpeedStrategy), optimizers=[sgd(module.net)])
    with pytest.raises(ValueError, match=r"DeepSpeed keeps gradients to itself; add mark.loss\(network\)"):
        callback().on_train_start(trainer, module)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, not 0"),
        ({"end_at_margin": 0.0}, "end_at_margin must be above 0, not 0.0"),
        ({"end_at_margin": float("nan")}, "end_at_margin must be above 0, not nan"),
    ],
)
def test_senseless_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        callback(**options)


@pytest.mark.parametrize(
    ("missing", "last_words"),
    [
        ("lightning", "needs lightning, which is not installed; run: pip install 'onnxmark[lightning]'"),
        ("torchmetrics", "No module named 'torchmetrics'"),
    ],
)
def test_without_lightning_the_cure_is_named_and_a_broken_one_is_not_hidden(missing, last_words):
    assert last_line_of_importing("onnxmark_torch.lightning", missing).endswith(last_words)


def test_the_adapter_itself_imports_no_framework():
    frameworks = "{'lightning', 'pytorch_lightning', 'transformers', 'accelerate', 'torchmetrics'}"
    result = run_python(f"import sys, onnxmark_torch; print(sorted({frameworks} & set(sys.modules)))")
    assert result.stdout.strip() == "[]", result.stderr
