"""The life of a worker: a process of its own that carries out one task after the other, and may die of any of them.

It hears Python objects from its parent, which it trusts, and answers in JSON, which its parent need not trust: a
worker is what hostile models are read in. It ends when its parent does.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import select
import shutil
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from onnxmark.errors import OnnxmarkError

Task = Callable[[Sequence[str]], Sequence[dict[str, Any]]]
"""Models, by location, to their results, in the same order. It travels by reference: a function of a module."""

READY: Final = b"ready"
IDLE: Final = 60.0
"""Seconds without a task after which a worker goes: in a cluster, nobody else would tell it that its scan is over."""


def serve(descriptor: int, memory: int, room: str) -> None:
    """Carry out tasks until the parent hangs up, or has had none for a while.

    Args:
        descriptor: Socket to the parent.
        memory: Address space the process may take, in bytes; 0 for no limit.
        room: Folder of its temporary files, which its parent removes, unless that is killed.
    """
    _settle(memory)
    threading.Thread(target=_die_with_parent, args=(descriptor, room), daemon=True).start()
    with Connection(descriptor) as line:
        line.send_bytes(READY)
        while True:
            if not line.poll(IDLE):
                return
            try:
                message = line.recv_bytes()
            except EOFError:
                return
            line.send_bytes(reply(message).encode())


def reply(message: bytes) -> str:
    """Carry out one message.

    Args:
        message: A pickled pair of a task and the locations of its models.

    Returns:
        A JSON object: ``results``; or ``failed``, the reason why there are none; or ``refused``, why no task will ever
        have any.
    """
    try:
        task, locations = pickle.loads(message)  # noqa: S301  - written by our own parent
    except Exception as error:  # as many kinds as there are ways not to find a function
        return json.dumps({"refused": f"a worker does not find the task: {error}"})
    try:
        results = list(task(locations))
        if len(results) == len(locations):
            return json.dumps({"results": results}, allow_nan=False)
        answer = {"failed": f"worker-failed({len(results)} results for {len(locations)} models)"}
    except MemoryError:
        answer = {"failed": "worker-killed(out of memory)"}
    except OnnxmarkError as error:
        answer = {"refused": str(error)}
    except Exception as error:  # whatever a model does to us costs this model only
        answer = {"failed": f"worker-failed({type(error).__name__}: {error})"}
    return json.dumps(answer)


def _settle(memory: int) -> None:
    # An interrupt is for the coordinator, which then closes its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A crash of a worker that read a large model would leave as large a file behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    # Where the whole machine runs out of memory, a worker shall be killed and not the coordinator.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _die_with_parent(descriptor: int, room: str) -> None:
    """Wait, beside the task, for the other end to close: a task that hangs would outlive its parent for ever."""
    poll = select.poll()
    poll.register(descriptor, 0)
    poll.poll()
    shutil.rmtree(room, ignore_errors=True)
    # With whatever the task has started: a worker leads a session of its own.
    os.killpg(0, signal.SIGKILL)
