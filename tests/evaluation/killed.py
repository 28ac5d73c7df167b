"""An evaluation to be killed: ``python killed.py JOURNAL DOCUMENT``."""

import json
import sys
from pathlib import Path

from onnxmark.evaluation import evaluate, parse_plan, reproducible
from tests.evaluation import toy

PLAN = toy.TOML + toy.NOISE

if __name__ == "__main__":
    found = evaluate(parse_plan(PLAN), toy.laboratory, journal=Path(sys.argv[1]), jobs=2)
    Path(sys.argv[2]).write_text(json.dumps(reproducible(found)))
