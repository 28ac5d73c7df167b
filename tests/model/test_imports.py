"""Reading needs neither onnx nor a runtime, nor ml_dtypes for ordinary types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.model.models import conv, model, save, tensor, weights

SCRIPT = """
import sys
from onnxmark.model import open_model
with open_model(sys.argv[1]) as model:
    assert len(model.weights()) == 1
heavy = {"onnx", "onnxruntime", "torch", "ml_dtypes", "scipy"} & set(sys.modules)
sys.exit(", ".join(sorted(heavy)) or 0)
"""


def test_reading_imports_no_framework(tmp_path: Path) -> None:
    path = save(model([conv("w")], [tensor("w", weights(2, 2, 3, 3))]), tmp_path / "m.onnx")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
