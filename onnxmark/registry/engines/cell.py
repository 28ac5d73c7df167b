"""One worker process, seen from outside: it is asked, and may die, hang or leave; that is an answer, too.

Processes are started afresh, never forked: a fork of a program with threads inherits their locks. What a worker starts
itself (conversions run in processes of their own) and its temporary files end with it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from tempfile import TemporaryDirectory
from typing import Final

from onnxmark.errors import EngineError
from onnxmark.registry.engines.worker import READY

_START_LIMIT: Final = 120.0
"""Seconds that a worker may take to start; importing from a slow network disk takes some."""
_LARGEST_ANSWER: Final = 1 << 28
_ONE_THREAD: Final = dict.fromkeys(
    ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
"""There are as many workers as cores; threads of theirs would only wait for each other."""
_PROGRAM: Final = (
    "import sys; from onnxmark.registry.engines.worker import serve; serve(*map(int, sys.argv[1:3]), sys.argv[3])"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take for one chunk, and so for one model.

    Args:
        seconds: Wall-clock time.
        memory: Address space of its process in bytes, or None; kept by Linux, ignored by macOS.
    """

    seconds: float = 300.0
    memory: int | None = 8 << 30

    def __post_init__(self) -> None:
        if not self.seconds > 0 or (self.memory is not None and self.memory <= 0):
            raise ValueError(f"limits are positive, found {self}")


class Cell:
    """One worker process.

    Args:
        limits: What it may take.

    Raises:
        EngineError: It does not start.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room = TemporaryDirectory(prefix="onnxmark-worker-", ignore_cleanup_errors=True)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            try:
                self._process = _start(theirs.fileno(), limits.memory or 0, self._room.name)
            except OSError as error:
                self._room.cleanup()
                raise EngineError(
                    f"a worker does not start ({error}); see that {sys.executable!r} can be run"
                ) from error
            self._line = Connection(ours.detach())
        if not self._is_ready():
            status = self.close()
            raise EngineError(
                f"a worker does not start ({_end(status)}); see that {sys.executable!r} can import onnxmark within "
                f"the memory limit of {limits.memory} bytes"
            )

    def ask(self, message: bytes) -> str:
        """Have a message carried out; the answer is JSON. After any answer without results the cell is closed."""
        try:
            self._line.send_bytes(message)
        except OSError:
            return self._dead()
        try:
            answer = self._hear(self._limits.seconds)
        except TimeoutError:
            self.close()
            return _failed(f"{self._limits.seconds:g} s have passed", certain=True)
        if answer is None:
            return self._dead()
        if not answer.startswith(b'{"results"'):
            self.close()
        return answer.decode(errors="replace")

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._line.closed

    @property
    def gone(self) -> bool:
        """Whether its process has ended."""
        return self._process.poll() is not None

    def close(self) -> int:
        """End the process, whatever it is doing; returns its exit status."""
        if not self.closed:
            # Once only: later its number may be that of another process.
            self.kill()
            self._line.close()
        status = self._process.wait()
        self._room.cleanup()
        return status

    def kill(self) -> None:
        """End the process while another thread is asking it; that thread is answered."""
        # It leads a session of its own, in which is what it has started, also where it has ended itself.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def _is_ready(self) -> bool:
        try:
            return self._hear(_START_LIMIT) == READY
        except TimeoutError:
            return False

    def _hear(self, seconds: float) -> bytes | None:
        """What the worker says; None when it has hung up."""
        try:
            heard = self._line.poll(seconds)
            if heard:
                return self._line.recv_bytes(_LARGEST_ANSWER)
        except (EOFError, OSError):
            return None
        raise TimeoutError

    def _dead(self) -> str:
        # It has hung up on its own: how it ended is known only when it has.
        try:
            status = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            status = None
        self.close()
        return _failed("hung up" if status is None else _end(status), certain=False)


def _start(descriptor: int, memory: int, room: str) -> subprocess.Popen[bytes]:
    # Not multiprocessing: its workers import the program that scans, and daemons (as Dask's) may have none.
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)  # noqa: PTH109
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", _PROGRAM, str(descriptor), str(memory), room],
        pass_fds=(descriptor,),
        env={**os.environ, **_ONE_THREAD, "PYTHONPATH": path, "TMPDIR": room},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # An interrupt typed at a terminal goes to the whole group.
        start_new_session=True,
    )


def _failed(reason: str, *, certain: bool) -> str:
    return json.dumps({"failed": f"worker-killed({reason})", "certain": certain})


def _end(status: int) -> str:
    """How a process ended, in words."""
    if status >= 0:
        return f"exit status {status}"
    if -status == signal.SIGKILL:
        return "SIGKILL, as when memory runs out"
    known = {one.value: one.name for one in signal.Signals}
    return known.get(-status, f"signal {-status}")
