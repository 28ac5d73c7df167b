"""Fixtures of the adapter's tests."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded():
    """The same initial weights whichever tests ran before."""
    torch.manual_seed(0)
