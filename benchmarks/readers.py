"""One reading of one model by one library, in a process of its own.

    python readers.py LIBRARY list|read MODEL KERNEL TIMES

Listing ends with the names and shapes of the weights of all convolutions, reading with the mean of one kernel over its
filters. Seconds without interpreter and imports are added to the file TIMES. Exits with 3, and says why on standard
error, where the library cannot.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

CANNOT: Final = 3

Work = Callable[[str, str], Any]
"""From a model's path and a kernel's name to what was found."""


def ours() -> dict[str, Work]:
    """This library."""
    import numpy as np

    from onnxmark.model import open_model

    def listing(path: str, _: str) -> Any:
        with open_model(path) as model:
            return [(site.name, site.shape) for site in model.sites() if site.op == "Conv"]

    def mean(path: str, kernel: str) -> Any:
        with open_model(path) as model:
            return model.read(model.site(kernel)).values.mean(axis=0, dtype=np.float64)

    return {"list": listing, "read": mean}


def loaded(*, with_data: bool = True) -> dict[str, Work]:
    """``onnx.load``, perhaps without external data, of which the kernel's is then loaded alone."""
    import numpy as np
    import onnx
    from onnx import external_data_helper, numpy_helper

    def listing(path: str, _: str) -> Any:
        model = onnx.load(path, load_external_data=with_data)
        shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        return [(node.input[1], shapes[node.input[1]]) for node in model.graph.node if node.op_type == "Conv"]

    def mean(path: str, kernel: str) -> Any:
        model = onnx.load(path, load_external_data=with_data)
        (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == kernel)
        if external_data_helper.uses_external_data(tensor) and not with_data:
            external_data_helper.load_external_data_for_tensor(tensor, str(Path(path).parent))
        return numpy_helper.to_array(tensor).mean(axis=0, dtype=np.float64)

    return {"list": listing, "read": mean}


def represented() -> dict[str, Work]:
    """``onnx_ir.load``."""
    import numpy as np
    import onnx_ir

    def listing(path: str, _: str) -> Any:
        weights = [node.inputs[1] for node in onnx_ir.load(path).graph if node.op_type == "Conv"]
        return [(value.name, tuple(value.const_value.shape)) for value in weights if value and value.const_value]

    def mean(path: str, kernel: str) -> Any:
        value = onnx_ir.load(path).graph.initializers[kernel].const_value
        return None if value is None else value.numpy().mean(axis=0, dtype=np.float64)

    return {"list": listing, "read": mean}


def run() -> dict[str, Work]:
    """A session of ONNX Runtime without optimisation, which neither lists nor gives weights: only made."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4

    def listing(path: str, _: str) -> Any:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"]).get_inputs()

    return {"list": listing}


LIBRARIES: Final[dict[str, Callable[[], dict[str, Work]]]] = {
    "onnxmark": ours,
    "onnx.load": loaded,
    "onnx.load, data left out": lambda: loaded(with_data=False),
    "onnx_ir.load": represented,
    "ONNX Runtime session": run,
}


def main(library: str, task: str, model: str, kernel: str, times: str) -> int:
    """Do it; the exit code."""
    work = LIBRARIES[library]()
    if task not in work:
        print("has no way to", file=sys.stderr)
        return CANNOT
    began = time.perf_counter()
    try:
        found = work[task](model, kernel)
    except Exception as error:
        print(f"{type(error).__name__}: {str(error).replace(model, '…').splitlines()[0]}", file=sys.stderr)
        return CANNOT
    seconds = time.perf_counter() - began
    if found is None or not len(found):
        print("found nothing", file=sys.stderr)
        return 1
    with Path(times).open("a", encoding="utf-8") as file:
        file.write(f"{seconds}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
