"""Fixtures of the scheme tests."""

import hashlib

import pytest

from onnxmark.keys import Secret


@pytest.fixture
def cheap_stretching(monkeypatch):
    """Thousands of keys, each without scrypt's tenth of a second: its cost is not what these tests are about."""
    monkeypatch.setattr(
        "onnxmark.keys.key.master_secret",
        lambda seed, salt, context: Secret(hashlib.sha256(seed.reveal() + salt + context.encode()).digest()),
    )
