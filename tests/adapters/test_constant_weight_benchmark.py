"""What the benchmark of the constant weight code stands on; it measures, these tests only look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnxmark_torch.networks import ConvNet

from benchmarks.constant_weight.bench import Figures, Left, Run, Sharp, host, with_host
from benchmarks.constant_weight.marks import MARKS, SHAPE, WORDS
from benchmarks.constant_weight.null import null_audits, null_tables
from benchmarks.constant_weight.tables import other_table, page, pruning_table
from onnxmark.report.html import to_html
from onnxmark.weights import Origin, WeightTensor


def normal() -> WeightTensor:
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    return WeightTensor("conv3.weight", values, Origin("conv3", "Conv", 2, "drawn"))


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.name)
def test_every_mark_is_read_where_it_was_put(mark):
    key = mark.key(0)
    assert mark.read(key, mark.embed(key, normal())).bit_error_rate == 0
    assert mark.read(mark.key(1), mark.embed(key, normal())).log10_p > -6


def test_a_host_layer_is_exchanged_in_a_copy():
    net = ConvNet()
    other = with_host(net, normal().values)
    assert np.array_equal(host(other).values, normal().values)
    assert not np.array_equal(host(net).values, normal().values)
    images = torch.zeros(1, 1, 28, 28)
    assert net.eval()(images).shape == other.eval()(images).shape


def test_null_audits_are_shared_out_and_uniform():
    found = null_audits(420, normal().values)
    assert {one.reported.size for one in found.values()} == {60}
    assert not found["signs"].reported.any()
    for one in found.values():
        assert (one.randomised <= one.reported + 1e-9).all()
    assert [table.row_count for table in null_tables(found)] == [8, 7]
    again = null_audits(420, normal().values)
    assert all(np.array_equal(found[name].randomised, again[name].randomised) for name in found)


def test_the_tables_and_the_page_show_every_mark():
    left = tuple(Left(0.0 if index < 4 else 0.5, 0.1, -77.0) for index in range(15))
    run = Run(0.9, 0.89, 0.07, left, Sharp(0.951, whole_at=True, broken_beyond=True))
    runs = {("closed form", word.name): [run, run] for word in WORDS}
    figures = Figures(runs, {WORDS[0].name: [left[0]]}, [(0.8,) * 8, (0.6,) * 8])
    assert pruning_table(figures).row_count == len(WORDS) + 2
    assert other_table(figures).row_count == len(WORDS)
    text = to_html(page(figures))
    assert all(word.name in text for word in WORDS)
    assert text.count("<svg") >= len(WORDS)
