"""Settings of the whole suite."""

import hashlib
import os
import signal

import pytest
from hypothesis import settings

# Networks as small as a test's gain nothing by threads, and two workers' threads wait for each other: before torch and
# NumPy read it, and for the processes that tests start.
for library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# A shell ignores Ctrl-C on behalf of what it runs in the background, and so would every process that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two shared cores and several workers: a deadline would measure the machine, not the code.
settings.register_profile("onnxmark", deadline=None)
settings.load_profile("onnxmark")


@pytest.fixture
def cheap_stretching(monkeypatch):
    """Thousands of keys, each without scrypt's tenth of a second: its cost is not what these tests are about."""
    from onnxmark.keys import Secret

    monkeypatch.setattr(
        "onnxmark.keys.key.master_secret",
        lambda seed, salt, context: Secret(hashlib.sha256(seed.reveal() + salt + context.encode()).digest()),
    )
