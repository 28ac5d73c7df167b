"""Two processes, one update: DistributedDataParallel and FSDP2 over gloo equal one process on the whole batch."""

from __future__ import annotations

import pytest
import torch
from onnxmark_torch import Watermark
from torch import distributed, multiprocessing

from tests.adapters.processes import KEY, MEAN_KEY, N_PROCESSES, STRENGTH, work
from tests.adapters.reference import LAYER, error, mark_gradient, stepped, subject
from tests.adapters.subjects import make_key

pytestmark = pytest.mark.skipif(
    not (distributed.is_available() and distributed.is_gloo_available()), reason="this torch was built without gloo"
)
EXACT = 1e-5
WRONG = 100 * EXACT
MARKS = ((LAYER, KEY, STRENGTH),)
MEAN_MARKS = ((LAYER, MEAN_KEY, STRENGTH),)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By rank and case; both processes run once for all tests, most of whose time is their start."""
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(work, args=(str(folder),), nprocs=N_PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(N_PROCESSES)]


@pytest.mark.parametrize(
    ("case", "marks", "width"),
    [
        ("ddp_attached", MARKS, 16),
        ("ddp_loss", MARKS, 16),
        ("fsdp_attached", MARKS, 16),
        ("fsdp_loss", MARKS, 16),
        ("fsdp_mean", MEAN_MARKS, 16),
        ("fsdp_uneven", ((LAYER, make_key((15, 8, 3, 3)), STRENGTH),), 15),
    ],
)
def test_right(results, case, marks, width):
    expected = stepped(marks, width=width)
    for found in results:
        assert error(found[case], expected, width) <= EXACT
    first, second = (found[case] for found in results)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("case", "marks"),
    [("ddp_first_rank_only", MARKS), ("ddp_loss_on_first_rank", MARKS), ("fsdp_local_part", MEAN_MARKS)],
)
def test_wrong(results, case, marks):
    assert max(error(found[case], stepped(marks)) for found in results) > WRONG


def test_a_cap_compares_norms_of_whole_gradients(results):
    values = subject().body.weight.detach().double().numpy()
    mark = torch.from_numpy(mark_gradient(KEY, values, STRENGTH)).norm()
    for found in results:
        task, total = (found["fsdp_capped"][name].double() for name in ("task", "sum"))
        assert mark > task.norm()
        assert float((total - task).norm() / task.norm()) == pytest.approx(0.5, rel=1e-5)


def test_a_report_reads_the_whole_layer(results):
    expected = Watermark(KEY, LAYER).report(subject())
    for found in results:
        assert found["fsdp_reported"]["margin"].item() == pytest.approx(expected.min_margin, rel=1e-6)
        assert found["fsdp_reported"]["errors"].item() == pytest.approx(expected.bit_error_rate)


def test_a_stop_comes_on_every_rank_at_once(results):
    first, second = (found["fsdp_stopped"] for found in results)
    assert 1 < first["steps"] < 100
    assert first == second
    assert first["margin"] >= 0.5


def test_sharding_after_attaching_is_refused(results):
    for found in results:
        message = found["fsdp_sharded_after_attaching"]["message"]
        assert message.startswith("the optimizer does not train layer 'body'; give it the layer's parameters, after")
