"""What steps take: against steps whose memory and time are known."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import numpy as np
import pytest

from onnxmark.evaluation import measuring
from onnxmark.evaluation.measuring import measured

MEGABYTE = 1 << 20
on_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak can be reset on Linux only")


def filled(n_bytes):
    return int(np.ones(n_bytes, dtype=np.uint8).sum())


@on_linux
def test_the_peak_grows_by_what_a_step_takes():
    _, little = measured(lambda: filled(MEGABYTE))
    _, much = measured(lambda: filled(200 * MEGABYTE))
    assert 180 * MEGABYTE < much.memory_bytes - little.memory_bytes < 230 * MEGABYTE


@on_linux
def test_a_step_is_not_charged_with_the_one_before():
    _, much = measured(lambda: filled(200 * MEGABYTE))
    _, little = measured(lambda: filled(MEGABYTE))
    assert much.memory_bytes - little.memory_bytes > 150 * MEGABYTE


def test_time_is_wall_time():
    result, footprint = measured(lambda: time.sleep(0.05) or "done")
    assert result == "done"
    assert 0.05 <= footprint.seconds < 2


def test_elsewhere_it_is_the_peak_of_the_process(monkeypatch, tmp_path):
    monkeypatch.setattr(measuring, "_STATUS", tmp_path / "none")
    monkeypatch.setattr(measuring, "_CLEAR", tmp_path / "none" / "either")
    _, footprint = measured(lambda: None)
    assert footprint.memory_bytes == 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_what_a_step_raises_is_passed_on():
    with pytest.raises(KeyError, match="gone"):
        measured(lambda: {}["gone"])
