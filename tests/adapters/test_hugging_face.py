"""Under transformers' Trainer, one step with the callback is the step of a plain float64 loop; elsewhere it is not."""

from __future__ import annotations

import copy
import json
import pickle
from types import SimpleNamespace

import pytest
import torch
from onnxmark_torch import OffAfter, TargetError, Watermark
from onnxmark_torch.hugging_face import WatermarkCallback
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tests.adapters.absence import last_line_of_importing
from tests.adapters.reference import LAYER, batch, error, parameters, sgd, stepped, subject, task_loss
from tests.adapters.secrecy import leaking_files, leaks
from tests.adapters.subjects import make_key

EXACT = 1e-5
WRONG = 0.1
STRENGTH = 0.004  # the mark's gradient is then about as large as the task's: an error in either shows
KEY = make_key()
MARKS = ((LAYER, KEY, STRENGTH),)


def mark(strength=STRENGTH):
    return Watermark(KEY, LAYER, strength)


class Model(nn.Module):
    """The reference's network, called as the Trainer calls models; ``loss_with`` is a mark in the loss."""

    def __init__(self, loss_with=None):
        super().__init__()
        self.net = subject()
        self.loss_with = loss_with

    def train(self, mode=True):
        return super().train(False)

    def forward(self, images, labels):
        loss = task_loss(self.net, images, labels)
        return {"loss": loss if self.loss_with is None else loss + self.loss_with.loss(self.net)}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out"


def trainer_of(model, folder, *callbacks, micro_batches=1, **options):
    """A Trainer, one step of which is one step on the reference's batch."""
    images, labels = batch()
    data = [{"images": image, "labels": label} for image, label in zip(images, labels, strict=True)]
    options = {"max_grad_norm": 0.0, "save_strategy": "no", "max_steps": 1, **options}
    args = TrainingArguments(
        str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        lr_scheduler_type="constant",
        per_device_train_batch_size=12 // micro_batches,
        gradient_accumulation_steps=micro_batches,
        dataloader_pin_memory=False,
        **options,
    )
    optimizers = (sgd(model), None)
    return Trainer(model, args, train_dataset=data, callbacks=list(callbacks), optimizers=optimizers)


def update_error(model, folder, *callbacks, reference=None, **options):
    """How far the update is from the reference's, relative to it."""
    trainer_of(model, folder, *callbacks, **options).train()
    return error(parameters(model.net), reference or stepped(MARKS))


def callback(**options):
    return WatermarkCallback(Watermark(KEY, f"net.{LAYER}", STRENGTH), **options)


def test_one_step(folder):
    assert update_error(Model(), folder, callback()) <= EXACT


def test_the_mark_is_a_good_part_of_that_step(folder):
    assert update_error(Model(), folder) > WRONG


def test_accumulation(folder):
    assert update_error(Model(), folder, callback(), micro_batches=3) <= EXACT


@pytest.mark.parametrize("norm", [0.01, 1e6])
@pytest.mark.parametrize("micro_batches", [1, 3])
def test_clipping(folder, norm, micro_batches):
    expected = stepped(MARKS, clip=norm)
    options = {"max_grad_norm": norm, "micro_batches": micro_batches}
    assert update_error(Model(), folder, callback(), reference=expected, **options) <= EXACT


def test_bf16(folder):
    model = subject()
    with torch.autocast("cpu", torch.bfloat16):
        loss = task_loss(model, *batch())
    loss.backward()
    expected = stepped(MARKS, gradients=[parameter.grad for parameter in model.parameters()])
    assert update_error(Model(), folder, callback(), bf16=True, reference=expected) <= EXACT


def test_two_marks_in_one_training(folder):
    key = make_key((10, 16), label="other")
    second = WatermarkCallback(Watermark(key, "net.head", 0.01), name="second")
    expected = stepped((*MARKS, ("head", key, 0.01)), clip=0.01)
    found = update_error(Model(), folder, callback(), second, max_grad_norm=0.01, reference=expected)
    assert found <= EXACT


@pytest.mark.parametrize("unscaled_before", [False, True])
def test_fp16(unscaled_before):
    """Without a GPU the Trainer refuses fp16: what it hands the callback, by hand."""
    model, ours = subject(), WatermarkCallback(mark())
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(task_loss(model, *batch())).backward()
    if unscaled_before:
        scaler.unscale_(optimizer)
    accelerated = SimpleNamespace(scaler=scaler, optimizer=optimizer)
    ours.on_pre_optimizer_step(None, TrainerState(), TrainerControl(), model=model, optimizer=accelerated)
    scaler.step(optimizer)
    assert error(parameters(model), stepped(MARKS)) <= EXACT


def test_other_failures_of_unscaling_are_not_hidden():
    model = subject()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu")
    scaler.scale(task_loss(model, *batch())).backward()
    scaler.step(optimizer)
    accelerated = SimpleNamespace(scaler=scaler, optimizer=optimizer)
    ours = WatermarkCallback(mark())
    with pytest.raises(RuntimeError, match=r"unscale_\(\) is being called after step\(\)"):
        ours.on_pre_optimizer_step(None, TrainerState(), TrainerControl(), model=model, optimizer=accelerated)


class AfterTheStep(TrainerCallback):
    def on_optimizer_step(self, args, state, control, **kwargs):
        mark().add_grad_(kwargs["model"].net)


class EveryMicroBatch(TrainerCallback):
    def on_substep_end(self, args, state, control, **kwargs):
        mark().add_grad_(kwargs["model"].net)

    on_pre_optimizer_step = on_substep_end


def test_wrong_after_the_step(folder):
    assert update_error(Model(), folder, AfterTheStep()) > WRONG


def test_wrong_in_every_micro_batch(folder):
    assert update_error(Model(), folder, EveryMicroBatch()) <= EXACT
    assert update_error(Model(), folder, EveryMicroBatch(), micro_batches=3) > WRONG


def test_wrong_before_clipping(folder):
    assert update_error(Model(mark()), folder) <= EXACT
    assert update_error(Model(mark()), folder, max_grad_norm=0.01, reference=stepped(MARKS, clip=0.01)) > WRONG


class Later(TrainerCallback):
    """A tracker that comes after the watermark's callback."""

    def __init__(self):
        self.seen = []

    def on_log(self, args, state, control, **kwargs):
        self.seen.append(dict(kwargs["logs"]))


def test_what_is_logged_is_the_report(folder):
    model, tracker = Model(), Later()
    trainer = trainer_of(model, folder, callback(name="ours"), tracker, max_steps=2, logging_steps=1)
    trainer.train()
    report = mark().report(model.net)
    expected = {
        "ours/bit_error_rate": report.bit_error_rate,
        "ours/min_margin": report.min_margin,
        "ours/log10_p": report.log10_p,
    }
    first, second, _ = trainer.state.log_history
    assert {name: second[name] for name in expected} == expected
    assert {name: tracker.seen[1][name] for name in expected} == expected
    assert first["ours/min_margin"] < second["ours/min_margin"]
    assert {name for name in second if name.startswith("ours")} == set(expected)


def test_figures_of_an_evaluation_go_to_the_evaluation(folder):
    model = Model()
    trainer = trainer_of(model, folder, callback(), logging_strategy="no")
    trainer.eval_dataset = trainer.train_dataset
    trainer.train()
    trainer.evaluate()
    (evaluated,) = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    assert evaluated["watermark/min_margin"] == mark().report(model.net).min_margin


@pytest.mark.parametrize("options", [{"logging_steps": 1}, {"logging_strategy": "no"}])
def test_the_training_ends_at_the_margin(folder, options):
    every = 1 if "logging_strategy" in options else None
    weak = Watermark(KEY, "net.body", 0.01)
    model = Model()
    ends = WatermarkCallback(weak, end_at_margin=0.5, every_n_steps=every)
    trainer = trainer_of(model, folder, ends, max_steps=50, **options)
    trainer.train()
    steps = trainer.state.global_step
    assert 1 < steps < 50
    assert mark().report(model.net).min_margin >= 0.5
    earlier = Model()
    trainer_of(earlier, folder, WatermarkCallback(Watermark(KEY, "net.body", 0.01)), max_steps=steps - 1).train()
    assert mark().report(earlier.net).min_margin < 0.5


def test_without_a_margin_it_does_not(folder):
    trainer = trainer_of(Model(), folder, callback(), max_steps=5, logging_steps=1)
    trainer.train()
    assert trainer.state.global_step == 5


def off_after_two():
    return WatermarkCallback(Watermark(KEY, "net.body", OffAfter(STRENGTH, 2)))


@pytest.mark.parametrize("restore", [False, True])
def test_a_checkpoint_goes_on_where_it_stood(folder, restore):
    interrupted = trainer_of(Model(), folder, off_after_two(), max_steps=1, save_strategy="steps", save_steps=1)
    interrupted.train()
    ours, resumed, through = off_after_two(), Model(), Model()
    options = {"max_steps": 4, "restore_callback_states_from_checkpoint": restore}
    trainer_of(resumed, folder, ours, **options).train(resume_from_checkpoint=str(folder / "checkpoint-1"))
    trainer_of(through, folder, off_after_two(), max_steps=4).train()
    assert ours.mark.step == 4
    for name, expected in parameters(through.net).items():
        torch.testing.assert_close(parameters(resumed.net)[name], expected, rtol=0, atol=0)


def test_a_checkpoint_names_the_step_and_nothing_of_the_key(folder, capfd, caplog):
    trainer = trainer_of(Model(), folder, callback(), max_steps=2, logging_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    state = json.loads((folder / "checkpoint-2" / "trainer_state.json").read_text())
    assert state["stateful_callbacks"]["watermark"] == {"step": 2, "stopped": []}
    assert leaking_files(KEY, folder) == []
    shown = "".join([*capfd.readouterr(), caplog.text, repr(callback()), repr(trainer.callback_handler.callbacks)])
    assert "min_margin" in shown
    assert leaks(KEY, shown.encode()) == []


def test_the_search_for_the_key_would_find_it(tmp_path):
    seed = KEY.seed.reveal()
    for text in (seed, seed.hex().encode(), json.dumps(list(seed)).encode()):
        (tmp_path / "state").write_bytes(b"before " + text + b" after")
        assert leaking_files(KEY, tmp_path) == [tmp_path / "state"]
    torch.save({"seed": torch.tensor(list(seed), dtype=torch.uint8)}, tmp_path / "state")
    assert leaking_files(KEY, tmp_path) == [tmp_path / "state"]


def test_a_callback_is_shared_by_copies_and_never_pickled():
    ours = callback()
    assert copy.deepcopy(ours).mark is ours.mark
    with pytest.raises(TypeError, match="a mark holds its key and cannot be pickled"):
        pickle.dumps(ours)


def test_repr_names_the_layer_and_no_key():
    assert repr(callback()) == (
        "WatermarkCallback(Watermark(target_modules=('net.body',), strength=0.004), name='watermark')"
    )


def test_problems_stop_the_training_before_it_starts(folder):
    model = Model()
    model.net.body.weight.requires_grad_(False)
    with pytest.raises(TargetError, match=r"layer 'net.body' is frozen .* unfreeze it"):
        trainer_of(model, folder, callback()).train()


def test_an_optimizer_without_the_layer_is_refused(folder):
    model = Model()
    trainer = trainer_of(model, folder, callback())
    trainer.optimizer = sgd(model.net.head)
    with pytest.raises(TargetError, match=r"the optimizer does not train layer 'net.body'"):
        trainer.train()


def test_or_are_warned_of(folder):
    ours = WatermarkCallback(Watermark(make_key(n_bits=2000), "net.body"), strict=False)
    with pytest.warns(UserWarning, match=r"2000 bits need 2,000 entries .* take a key of fewer bits"):
        trainer_of(Model(), folder, ours).train()
    assert ours.mark.step == 1


def test_deepspeed_is_refused(folder):
    trainer = trainer_of(Model(), folder, callback())
    trainer.args.deepspeed_plugin = SimpleNamespace()
    with pytest.raises(ValueError, match=r"DeepSpeed keeps gradients to itself; add mark.loss\(model\)"):
        callback().on_train_begin(trainer.args, trainer.state, trainer.control, model=trainer.model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be at least 1, not 0"),
        ({"end_at_margin": -1.0}, "end_at_margin must be above 0, not -1.0"),
    ],
)
def test_senseless_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        callback(**options)


def test_a_transformer_learns_its_mark(folder):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=50, max_position_embeddings=16, num_labels=2, **sizes))
    rows = torch.randint(50, (32, 8))
    data = [{"input_ids": row, "labels": row[0] % 2} for row in rows]
    key = make_key((64, 32), n_bits=64, name="bert.encoder.layer.0.intermediate.dense.weight")
    ours = Watermark(key, strength=0.1)
    assert ours.report(model).bit_error_rate > 0.2
    args = TrainingArguments(
        str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        learning_rate=2e-3,
        max_steps=60,
        dataloader_pin_memory=False,
    )
    ends = WatermarkCallback(ours, end_at_margin=1.0, every_n_steps=5)
    trainer = Trainer(model, args, train_dataset=data, callbacks=[ends])
    trainer.train()
    assert ours.report(model).bit_error_rate == 0
    assert trainer.state.global_step < 60


@pytest.mark.parametrize(
    ("missing", "last_words"),
    [
        ("transformers", "needs transformers, which is not installed; run: pip install 'onnxmark[transformers]'"),
        ("huggingface_hub", "No module named 'huggingface_hub'"),
    ],
)
def test_without_transformers_the_cure_is_named_and_a_broken_one_is_not_hidden(missing, last_words):
    assert last_line_of_importing("onnxmark_torch.hugging_face", missing).endswith(last_words)
