"""The metric says what the report says, keeps the worst, and is a metric as torchmetrics means it."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from onnxmark_torch import TargetError, Watermark
from onnxmark_torch.metric import WatermarkMetric
from torch import nn
from torchmetrics import Metric, MetricCollection

from tests.adapters.absence import last_line_of_importing
from tests.adapters.secrecy import leaks
from tests.adapters.subjects import CARRIERS, foreign_key, make_key, tiny_net

KEY = make_key()


@pytest.fixture
def mark():
    return Watermark(KEY, "body", strength=0.1)


def trained(mark, steps):
    """A network that the mark alone has pulled at."""
    model = tiny_net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        mark.add_grad_(model)
        optimizer.step()
    return model


def expected(report):
    return {
        "bit_error_rate": report.bit_error_rate,
        "min_margin": report.min_margin,
        "log10_p": report.log10_p,
    }


def numbers(computed):
    return {name: value.item() for name, value in computed.items()}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_it_says_what_the_report_says(carrier):
    mark, model = Watermark(make_key(carrier=carrier), "body"), tiny_net()
    metric = WatermarkMetric(mark)
    metric.update(model)
    found = metric.compute()
    assert numbers(found) == pytest.approx(expected(mark.report(model)), rel=1e-6)
    assert all(value.shape == () and value.dtype == torch.float32 for value in found.values())


def test_a_foreign_matrix_is_read_too():
    mark, model = Watermark(foreign_key(20, 72), "body"), tiny_net()
    assert numbers(WatermarkMetric(mark)(model)) == pytest.approx(expected(mark.report(model)), rel=1e-6)


@pytest.mark.parametrize("order", [(0, 30), (30, 0)])
def test_it_keeps_the_worst(mark, order):
    reports = {steps: mark.report(trained(mark, steps)) for steps in order}
    assert reports[30].min_margin > reports[0].min_margin
    assert reports[30].log10_p < reports[0].log10_p
    metric = WatermarkMetric(mark)
    for steps in order:
        metric.update(trained(mark, steps))
    assert numbers(metric.compute()) == pytest.approx(expected(reports[0]), rel=1e-6)


def test_a_call_is_of_its_own_reading_and_also_counts(mark):
    metric, worse, better = WatermarkMetric(mark), tiny_net(), trained(mark, 30)
    first, second = numbers(metric(worse)), numbers(metric(better))
    assert second["min_margin"] > first["min_margin"]
    assert second == pytest.approx(expected(mark.report(better)), rel=1e-6)
    assert numbers(metric.compute()) == first


def test_reset_forgets(mark):
    metric = WatermarkMetric(mark)
    metric.update(tiny_net())
    metric.reset()
    metric.update(trained(mark, 30))
    assert metric.compute()["bit_error_rate"] == 0


def test_before_an_update_it_is_infinite_and_warns(mark):
    with pytest.warns(UserWarning, match="was called before the ``update`` method"):
        found = WatermarkMetric(mark).compute()
    assert all(value.isinf() for value in found.values())


def test_ranks_agree_on_the_worst(mark):
    ranks = [WatermarkMetric(mark, distributed_available_fn=lambda: True) for _ in range(2)]
    models = [tiny_net(), trained(mark, 30)]
    for metric, model in zip(ranks, models, strict=True):
        metric.update(model)
    for metric in ranks:
        metric.dist_sync_fn = _gather(ranks)
        assert numbers(metric.compute()) == pytest.approx(expected(mark.report(models[0])), rel=1e-6)
    assert ranks[1].min_margin > ranks[0].min_margin


def _gather(ranks):
    """In place of all_gather: torchmetrics asks for one state after the other, in the order they were added."""
    names = iter(["bit_error_rate", "min_margin", "log10_p"])

    def gather(state, group=None):
        name = next(names)
        return [getattr(rank, name) for rank in ranks]

    return gather


def test_it_joins_a_collection_under_a_prefix(mark):
    collection = MetricCollection({"mark": WatermarkMetric(mark)}).clone(prefix="val_")
    collection.update(tiny_net())
    found = collection.compute()
    assert {name.rsplit("_", 1)[0] if name.startswith("mark") else name for name in found} == {
        "val_bit_error_rate",
        "val_min_margin",
        "val_log10_p",
    }


def test_it_is_a_metric_that_counts_as_torchmetrics_says(mark):
    assert isinstance(WatermarkMetric(mark), Metric)
    assert not WatermarkMetric(mark, sync_on_compute=False).sync_on_compute
    with pytest.raises(ValueError, match="Unexpected keyword arguments: `nothing`"):
        WatermarkMetric(mark, nothing=1)


def test_a_model_that_does_not_fit_is_refused(mark):
    with pytest.raises(TargetError, match="the model has no linear or convolution layer 'body'"):
        WatermarkMetric(mark).update(nn.Sequential(nn.Conv2d(8, 16, 3)))


def test_a_module_that_owns_it_saves_no_more_for_it(mark):
    model = tiny_net()
    before = set(model.state_dict())
    model.metric = WatermarkMetric(mark)
    model.metric.update(model)
    assert set(model.state_dict()) == before
    model.metric.persistent(True)
    assert {name for name in model.state_dict() if name not in before} == {
        "metric.bit_error_rate",
        "metric.min_margin",
        "metric.log10_p",
    }
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    assert leaks(KEY, file.getvalue()) == []


@pytest.mark.parametrize("key", [KEY, foreign_key(20, 72)], ids=["key", "foreign"])
def test_copies_share_the_mark_and_pickles_are_refused(key):
    metric = WatermarkMetric(Watermark(key, "body"))
    metric.update(tiny_net())
    copied = copy.deepcopy(metric)
    assert copied.mark is metric.mark
    assert numbers(copied.compute()) == numbers(metric.compute())
    with pytest.raises(TypeError, match="a mark holds its key and cannot be pickled"):
        pickle.dumps(metric)
    with pytest.raises(TypeError, match="a mark holds its key and cannot be pickled"):
        torch.save(metric, io.BytesIO())


def test_repr_names_the_layer_and_no_key(mark):
    assert repr(WatermarkMetric(mark)) == "WatermarkMetric(Watermark(target_modules=('body',), strength=0.1))"


def test_without_torchmetrics_the_cure_is_named():
    last = last_line_of_importing("onnxmark_torch.metric", "torchmetrics")
    assert last.endswith("needs torchmetrics, which is not installed; run: pip install 'onnxmark[torchmetrics]'")
