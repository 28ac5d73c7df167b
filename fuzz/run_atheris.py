"""Coverage-guided fuzzing with atheris, where that is installed: ``python -m fuzz.run_atheris --target reader``.

libFuzzer chooses what to keep by the branches it reached; the mutations are ours two times out of three, because bytes
changed blindly hardly ever leave a protobuf message whole.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fuzz.protobuf import places


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run_atheris", description=__doc__)
    parser.add_argument("--target", choices=["reader", "external", "keys"], default="reader")
    parser.add_argument("--runs", type=int, default=-1, help="-1: no limit")
    parser.add_argument("--seconds", type=int, default=0, help="0: no limit")
    parser.add_argument("--corpus", type=Path, help="folder of inputs, read and added to; a temporary one by default")
    given = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is not installed; run: pip install atheris (or use python -m fuzz.run)\n")
        return 2
    # Only what is imported in here is instrumented.
    with atheris.instrument_imports(include=["onnxmark.model", "onnxmark.keys"]):
        from fuzz.targets import TARGETS
    folder = given.corpus or Path(tempfile.mkdtemp(prefix="onnxmark-corpus-"))
    folder.mkdir(parents=True, exist_ok=True)
    _seed(folder, given.target)
    findings = Path(__file__).parent / "findings"
    findings.mkdir(exist_ok=True)
    target = TARGETS[given.target]()

    def one_input(data: bytes) -> None:
        target(data)

    options = [
        sys.argv[0],
        str(folder),
        f"-atheris_runs={given.runs}" if given.runs > 0 else "-runs=-1",
        f"-max_total_time={given.seconds}",
        "-timeout=2",
        "-rss_limit_mb=1024",
        "-max_len=20000",
        f"-artifact_prefix={findings}/atheris-{given.target}-",
    ]
    atheris.Setup(options, one_input, custom_mutator=_mutator(given.target))
    atheris.Fuzz()
    return 0


def _seed(folder: Path, target: str) -> None:
    from fuzz import corpus
    from fuzz.npy import key_files

    made = {"keys": key_files, "external": corpus.external_models, "reader": corpus.models}[target]()
    for index, data in enumerate(made):
        (folder / f"seed-{index:03}").write_bytes(data)


def _mutator(target: str) -> Callable[[bytes, int, int], bytes]:
    from fuzz import corpus
    from fuzz.mutate import Mutator, damaged
    from fuzz.npy import KeyMutator

    models = Mutator([*corpus.models(), *corpus.external_models()], random.Random(0))
    keys = KeyMutator(random.Random(0))

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        chance = random.Random(seed)
        models.random = keys.random = chance
        if seed % 3 == 0:
            return damaged(data, chance)[:most]
        return (keys.next() if target == "keys" else models.changed(data, places(data)))[:most]

    return mutate


if __name__ == "__main__":
    sys.exit(main())
