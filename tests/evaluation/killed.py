"""An evaluation to be killed: ``killed.py JOURNAL DOCUMENT COUNT``; slow after COUNT cells, so that it is met."""

import json
import sys
import time
from pathlib import Path

from onnxmark.evaluation import evaluate, parse_plan, reproducible
from tests.evaluation import toy

PLAN = toy.TOML + toy.NOISE

if __name__ == "__main__":
    journal, document, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    def told(progress):
        if progress.n_done > count:
            time.sleep(0.5)

    found = evaluate(parse_plan(PLAN), toy.laboratory, journal=journal, jobs=2, progress=told)
    document.write_text(json.dumps(reproducible(found)))
