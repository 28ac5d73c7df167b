"""What workers are given in these tests: tasks that look at the names of models, and do what those say."""

import ctypes
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from onnxmark.errors import KeyFileError


def audited(location):
    """A result that depends on nothing but the name."""
    name = Path(location).name
    return {"status": "audited", "problem": None, "hits": [], "n_hypotheses": len(name), "name": name}


def behave(locations):
    """Results, unless a model's name says otherwise."""
    return [_one(location) for location in locations]


def _one(location):
    name = Path(location).name
    if name in DEEDS:
        DEEDS[name]()
    return audited(location)


def _swallow():
    kept = []
    while True:
        # Not touched, so that the limit is met at once, however busy the machine is.
        kept.append(bytes(1 << 24))


def _refuse():
    raise KeyFileError("the ring is gone")


def _raise():
    raise LookupError("no such thing")


def _chatter():
    print("noise" * 1000, flush=True)
    os.write(2, b"noise" * 100_000)


DEEDS = {
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(7),
    "leave": lambda: (_ for _ in ()).throw(SystemExit(3)),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "real-time": lambda: os.kill(os.getpid(), signal.SIGRTMIN + 3),
    "hang": lambda: time.sleep(3600),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "swallow": _swallow,
    "refuse": _refuse,
    "raise": _raise,
    "chatter": _chatter,
    "interrupted": lambda: os.kill(os.getpid(), signal.SIGINT),
}
"""What a model of this name does to the worker that reads it."""


def too_few(locations):
    return [audited(location) for location in locations[1:]]


def not_json(locations):
    return [{"status": "audited", "value": float("nan")} for _ in locations]


def environment(locations):
    """What a worker is like."""
    import resource

    names = [name for name in os.environ if name.endswith("_NUM_THREADS") or name.startswith("VECLIB")]
    return [
        {
            "status": "audited",
            "pid": os.getpid(),
            "threads": {name: os.environ[name] for name in names},
            "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
            "session": os.getsid(0),
        }
        for _ in locations
    ]


def slowly(locations):
    """Results that take a while."""
    time.sleep(0.02 * len(locations))
    return behave(locations)


def meeting(locations):
    """What a worker is like that waited for another one, in the folder that the first location names."""
    room = Path(locations[0])
    (room / str(os.getpid())).touch()
    while len(list(room.iterdir())) < 2:
        time.sleep(0.01)
    return environment(locations)


def spawning(locations):
    """Start a program that would go on for ever, say in a file which one and where temporary files are, and hang."""
    child = subprocess.Popen(["sleep", "3600"])
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(b"half of a model")
    written = Path(f"{locations[0]}.writing")
    written.write_text(f"{child.pid} {file.name}")
    written.rename(locations[0])
    time.sleep(3600)


KILLERS = {f"m{number}.onnx" for number in range(7, 1000, 50)}
"""Models whose first worker is killed."""


@dataclass(frozen=True)
class Noted:
    """Results that leave a trace for every time they were made."""

    room: Path

    def __call__(self, locations):
        for location in locations:
            with (self.room / Path(location).name).open("a") as file:
                file.write("x")
        return behave(locations)


class Cheap(Noted):
    """A result that depends on what is in the file, and leaves a trace; some of its workers are killed, once."""

    def __call__(self, locations):
        super().__call__(locations)
        return [self._result(Path(location)) for location in locations]

    def _result(self, path):
        time.sleep(0.005)
        if path.name in KILLERS:
            self._kill_the_first_worker(path)
        content = path.read_bytes()
        doubts = [{"key": "k", "reason": f"the content is {content[-8:].hex()}"}]
        return {
            "status": "audited",
            "problem": None,
            "model": {"bytes": len(content), "producer": "", "opset": None, "sha256": None},
            "layers": {"found": 0, "audited": 0, "skipped": 0, "failed": []},
            "n_keys": 1,
            "n_hypotheses": len(content),
            "hits": [],
            "doubts": doubts,
        }

    def _kill_the_first_worker(self, path):
        """As a killer would who strikes at random: the model is innocent."""
        try:
            (self.room / f"{path.name}.killed").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), 9)
