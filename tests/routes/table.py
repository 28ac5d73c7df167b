"""Every route from the marked network to a file, and in which words the file's form must be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from tests.routes import graphs, runtime
from tests.routes.bench import INPUT, Bench, quiet, saved
from tests.routes.graphs import chain, hidden, typed

Way = Callable[[Bench, Path], Path]

FLOATS = r"^initializer float32, float_data$"
RAW = r"^initializer float32, raw data$"
HALF = r"^initializer float16, raw data$"
BLOCKED = r"^initializer float32, raw data → blocked NCHW(16|8)c \(OIHWio\)$"
INTEGER = r"^initializer int8, raw data → ConvInteger scale$"
UNSIGNED = r"^initializer uint8, raw data → ConvInteger scale$"


@dataclass(frozen=True)
class Route:
    """A way to a file.

    Args:
        make: Writes the file into an empty folder and returns its path.
        stored: The carrier's stored form, as a regular expression.
        needs: Packages beyond those the suite needs anyway.
        runs: Whether ONNX Runtime runs the file on a CPU.
        stranger: The verdict on another owner's key.
    """

    make: Way
    stored: str = RAW
    needs: tuple[str, ...] = ()
    runs: bool = True
    stranger: str = "no-match"


def dynamo(stored: str = RAW, runs: bool = True, **options: Any) -> Route:
    options.setdefault("external_data", False)
    return Route(lambda bench, folder: bench.dynamo(folder / "m.onnx", **options), stored, runs=runs)


def torchscript(stored: str = RAW, **options: Any) -> Route:
    return Route(lambda bench, folder: bench.torchscript(folder / "m.onnx", **options), stored)


def in_training(bench: Bench, folder: Path) -> Path:
    bench.model.train()
    try:
        return bench.dynamo(folder / "m.onnx", external_data=False)
    finally:
        bench.model.eval()


def twin(bench: Bench, dtype: torch.dtype) -> dict[str, Any]:
    """The network in another type, as options for an exporter."""
    import copy

    return {"model": copy.deepcopy(bench.model).to(dtype), "args": (bench.example[0].to(dtype),)}


def resaved(base: str, level: str, stored: str) -> Route:
    return Route(lambda bench, folder: runtime.resaved(bench.exported(base), folder / "m.onnx", level), stored)


def through(base: str, change: Callable[[onnx.ModelProto], onnx.ModelProto], stored: str = RAW, *needs: str,
            runs: bool = True) -> Route:  # fmt: skip
    """A route that takes a model and gives a model."""

    def make(bench: Bench, folder: Path) -> Path:
        with quiet():
            made = change(bench.loaded(base))
        return saved(made, folder / "m.onnx")

    return Route(make, stored, needs, runs)


def hiding(stored: str, make: Callable[[np.ndarray], tuple[Any, Any]], runs: bool = True) -> Route:
    """A route by hand: ``make`` gives the nodes and tensors that stand for the carrier."""
    return through("torchscript", lambda model: hidden(model, lambda w, _: make(w)), stored, runs=runs)


def simplified(**options: Any) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        import onnxsim

        return onnxsim.simplify(model, **options)[0]

    return change


def slimmed(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    return onnxslim.slim(model)


def optimised(*passes: str) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        import onnxoptimizer

        return onnxoptimizer.optimize(model, list(passes))

    return change


def script_optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnxscript.optimizer

    return onnxscript.optimizer.optimize(model)


def script_version(version: int) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        import onnxscript.version_converter

        onnxscript.version_converter.convert_version(model, version)
        return model

    return change


def version(target: int) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    return lambda model: onnx.version_converter.convert_version(model, target)


def half(**options: Any) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        from onnxconverter_common import float16

        return float16.convert_float_to_float16(model, **options)

    return change


def runtime_half(**options: Any) -> Callable[[onnx.ModelProto], onnx.ModelProto]:
    def change(model: onnx.ModelProto) -> onnx.ModelProto:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        return convert_float_to_float16(model, **options)

    return change


def inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    import onnx.inliner

    return onnx.inliner.inline_local_functions(graphs.in_function(model, inside=True))


def merged(model: onnx.ModelProto) -> onnx.ModelProto:
    """After another model, under a prefix."""
    before = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["a"], ["b"])], "before",
            [helper.make_tensor_value_info("a", T.FLOAT, [2, 1, 8, 8])],
            [helper.make_tensor_value_info("b", T.FLOAT, [2, 1, 8, 8])],
        ),
        opset_imports=model.opset_import, ir_version=model.ir_version,
    )  # fmt: skip
    return onnx.compose.merge_models(before, model, [("b", INPUT)], prefix1="A/", prefix2="B/")


def through_json(model: onnx.ModelProto) -> onnx.ModelProto:
    from google.protobuf import json_format

    return json_format.Parse(json_format.MessageToJson(model), onnx.ModelProto())


def inputs_too(model: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return model


def one_data_file(bench: Bench, folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(bench.loaded("torchscript"), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def padded_data_file(bench: Bench, folder: Path) -> Path:
    """A data file written by hand: something before every tensor, offsets on page boundaries."""
    model = bench.loaded("torchscript")
    data = b"not weights"
    for tensor in model.graph.initializer:
        data += bytes(-len(data) % 4096)
        raw = numpy_helper.to_array(tensor).tobytes()
        del tensor.external_data[:]
        tensor.ClearField("raw_data")
        tensor.data_location = T.EXTERNAL
        for key, value in (("location", "sub/w.bin"), ("offset", len(data)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(data)
    return saved(model, folder / "m.onnx")


def data_file_each(bench: Bench, folder: Path) -> Path:
    path = folder / "m.onnx"
    onnx.save(
        bench.loaded("torchscript"), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
    )
    return path


def from_flatbuffer(bench: Bench, folder: Path) -> Path:
    flat = runtime.resaved(bench.exported("torchscript"), folder / "m.ort", "disabled", "ORT")
    return runtime.resaved(flat, folder / "m.onnx", "disabled")


def dynamically(base: str, stored: str = INTEGER, **options: Any) -> Route:
    return Route(
        lambda bench, folder: runtime.dynamic(bench.exported(base), folder / "m.onnx", **options), stored
    )  # fmt: skip


def statically(form: str, weight: str, stored: str, runs: bool = True, base: str = "torchscript",
               **options: Any) -> Route:  # fmt: skip
    def make(bench: Bench, folder: Path) -> Path:
        return runtime.static(bench.exported(base), folder / "m.onnx", form, weight, **options)

    return Route(make, stored, runs=runs)


def dequantised(dtype: str, axis: str = "", storage: str = "raw data") -> str:
    return rf"^initializer {dtype}, {storage} → DequantizeLinear{axis}$"


CHANNEL = r"\(axis=0\)"


def constants_dynamically(bench: Bench, folder: Path) -> Path:
    """Weights in Constant nodes are not quantised in the file but when the model runs."""
    source = saved(graphs.all_in_constants(bench.loaded("torchscript raw")), folder / "constants.onnx")
    return runtime.dynamic(source, folder / "m.onnx")


def steps(*ways: Callable[[Path, Path], Path], base: str = "torchscript raw", stored: str = RAW,
          needs: tuple[str, ...] = (), runs: bool = True) -> Route:  # fmt: skip
    """Tools one after the other, each from a file to a file."""

    def make(bench: Bench, folder: Path) -> Path:
        path = bench.exported(base)
        for count, way in enumerate(ways):
            path = way(path, folder / f"{count}.onnx")
        return path

    return Route(make, stored, needs, runs)


def on_file(change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Callable[[Path, Path], Path]:
    def way(source: Path, path: Path) -> Path:
        with quiet():
            return saved(change(onnx.load(source)), path)

    return way


def saving(level: str) -> Callable[[Path, Path], Path]:
    return lambda source, path: runtime.resaved(source, path, level)


def bare(source: Path, path: Path) -> Path:
    return on_file(_without_shapes)(source, path)


def _without_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    del model.graph.value_info[:]
    return model


def quantising(form: str, weight: str, **options: Any) -> Callable[[Path, Path], Path]:
    return lambda source, path: runtime.static(source, path, form, weight, **options)


EXPORTERS = {
    "dynamo": dynamo(r"^initializer float32, external data 'm.onnx.data'$", external_data=True, opset=None),
    "dynamo, one file": dynamo(opset=None),
    "dynamo, not optimised": dynamo(optimize=False),
    "dynamo, no constant folding": dynamo(do_constant_folding=False),
    "dynamo, in training mode": Route(in_training),
    "dynamo, initializers as inputs": dynamo(
        r"^initializer float32, raw data, also a graph input$", keep_initializers_as_inputs=True
    ),
    "dynamo, opset 13 asked": dynamo(opset=13),
    "dynamo, opset 19": dynamo(opset=19),
    "dynamo, opset 21": dynamo(opset=21),
    "dynamo, opset 23": dynamo(opset=23),
    "dynamo, half": Route(
        lambda bench, folder: bench.dynamo(folder / "m.onnx", external_data=False, **twin(bench, torch.float16)), HALF
    ),
    **{f"torchscript, opset {number}": torchscript(opset=number) for number in (9, 11, 13, 15, 17, 20)},
    "torchscript, opset 7": torchscript(r"^initializer float32, raw data, also a graph input$", opset=7),
    "torchscript, no constant folding": torchscript(do_constant_folding=False),
    # Its normalisation is that of the batch at hand, so that its answers are others.
    "torchscript, as in training": replace(
        torchscript(training=torch.onnx.TrainingMode.TRAINING, do_constant_folding=False), runs=False
    ),
    "torchscript, initializers as inputs": torchscript(
        r"^initializer float32, raw data, also a graph input$", keep_initializers_as_inputs=True
    ),
    "torchscript, modules as functions": torchscript(export_modules_as_functions={torch.nn.Conv2d}),
    "torchscript, half": Route(
        lambda bench, folder: bench.torchscript(folder / "m.onnx", **twin(bench, torch.float16)), HALF
    ),
    "torchscript, bfloat16": Route(
        lambda bench, folder: bench.torchscript(folder / "m.onnx", **twin(bench, torch.bfloat16)),
        r"^initializer bfloat16, raw data$", runs=False,
    ),
}  # fmt: skip

OPTIMISERS = {
    "onnxsim": through("torchscript raw", simplified(), FLOATS, "onnxsim"),
    "onnxsim, BN kept": through(
        "torchscript raw", simplified(skipped_optimizers=["fuse_bn_into_conv"]), RAW, "onnxsim"
    ),
    "dynamo, onnxsim": through("dynamo", simplified(), RAW, "onnxsim"),
    "dynamo raw, onnxsim": through("dynamo raw", simplified(), RAW, "onnxsim"),
    "onnxslim": through("torchscript raw", slimmed, RAW, "onnxslim"),
    "dynamo, onnxslim": through("dynamo", slimmed, RAW, "onnxslim"),
    "dynamo raw, onnxslim": through("dynamo raw", slimmed, RAW, "onnxslim"),
    "onnxoptimizer, BN fused": through(
        "torchscript raw", optimised("fuse_bn_into_conv"), r"^initializer float32, raw data → Mul$", "onnxoptimizer",
        runs=False,
    ),
    "onnxoptimizer, initializers out": through(
        "torchscript raw", optimised("extract_constant_to_initializer", "eliminate_unused_initializer"), RAW,
        "onnxoptimizer",
    ),
    "onnxscript.optimizer": through("torchscript raw", script_optimised),
    "dynamo raw, onnxscript.optimizer": through("dynamo raw", script_optimised),
    "ORT disabled": resaved("torchscript raw", "disabled", RAW),
    "ORT basic": resaved("torchscript raw", "basic", RAW),
    "ORT extended": resaved("torchscript raw", "extended", RAW),
    "ORT layout": resaved("torchscript raw", "layout", BLOCKED),
    "ORT all": resaved("torchscript raw", "all", BLOCKED),
    "dynamo, ORT all": resaved("dynamo", "all", BLOCKED),
    "dynamo raw, ORT basic": resaved("dynamo raw", "basic", RAW),
    "ORT flatbuffer and back": Route(from_flatbuffer),
    "quant_pre_process": steps(runtime.pre_processed),
    "dynamo, quant_pre_process": steps(runtime.pre_processed, base="dynamo"),
}  # fmt: skip

QUANTISERS = {
    "dynamic int8": dynamically("torchscript"),
    "dynamic uint8": dynamically("torchscript", UNSIGNED, weight="QUInt8"),
    "dynamic int8, reduced range": dynamically("torchscript", reduce_range=True),
    "dynamic int8, per channel asked": dynamically("torchscript", per_channel=True),
    "dynamic int8, BN kept": dynamically("torchscript raw"),
    "dynamic int8 of Constant nodes": Route(
        constants_dynamically, r"^Constant node float32, raw data → DynamicQuantizeLinear$"
    ),
    "QDQ int8": statically("QDQ", "QInt8", dequantised("int8")),
    "QDQ int8 per channel": statically("QDQ", "QInt8", dequantised("int8", CHANNEL), per_channel=True),
    "QDQ uint8": statically("QDQ", "QUInt8", dequantised("uint8")),
    "QDQ uint8 per channel": statically("QDQ", "QUInt8", dequantised("uint8", CHANNEL), per_channel=True),
    "QDQ int16": statically("QDQ", "QInt16", dequantised("int16"), activation="QUInt16"),
    "QDQ int16 per channel": statically(
        "QDQ", "QInt16", dequantised("int16", CHANNEL), activation="QUInt16", per_channel=True
    ),
    "QDQ int4": statically("QDQ", "QInt4", dequantised("int4", "", r"(raw data|int32_data)")),
    "QDQ int4 per channel": statically(
        "QDQ", "QInt4", dequantised("int4", CHANNEL, r"(raw data|int32_data)"), per_channel=True
    ),
    "QDQ uint4": statically("QDQ", "QUInt4", dequantised("uint4", "", r"(raw data|int32_data)")),
    "QDQ float8": statically(
        "QDQ", "QFLOAT8E4M3FN", dequantised("float8e4m3fn", "", r"(raw data|int32_data)"), runs=False,
        activation="QFLOAT8E4M3FN", calibration="Distribution",
    ),
    "QDQ pair left in": statically(
        "QDQ", "QInt8", r"^initializer float32, raw data → QuantizeLinear → DequantizeLinear$",
        extra_options={"AddQDQPairToWeight": True},
    ),
    "QOperator int8": statically(
        "QOperator", "QInt8", r"^initializer int8, raw data → QLinearConv scale$", activation="QInt8"
    ),
    "QOperator uint8": statically("QOperator", "QUInt8", r"^initializer uint8, raw data → QLinearConv scale$"),
    "QOperator int8 per channel": statically(
        "QOperator", "QInt8", r"^initializer int8, raw data → QLinearConv scale\(axis=0\)$", activation="QInt8",
        per_channel=True,
    ),
    "half": through("torchscript", half(), HALF, "onnxconverter_common"),
    "half, float inputs": through("torchscript", half(keep_io_types=True), HALF, "onnxconverter_common"),
    "half, convolutions left": through("torchscript", half(op_block_list=["Conv"]), RAW, "onnxconverter_common"),
    "half by ORT's tool": through("torchscript", runtime_half(), HALF),
    "half forced, convolutions left": through(
        "torchscript", runtime_half(op_block_list=["Conv"], force_fp16_initializers=True),
        r"^initializer float16, raw data → Cast\(float32\)$",
    ),
    "bfloat16 cast": hiding(
        r"^initializer bfloat16, raw data → Cast\(float32\)$",
        lambda w: chain(("Cast", "b", "new", {"to": T.FLOAT}), b=_bfloat16(w)),
    ),
    "float8 cast": hiding(
        r"^initializer float8e4m3fn, int32_data → Cast\(float32\)$",
        lambda w: chain(("Cast", "b", "new", {"to": T.FLOAT}), b=typed("b", T.FLOAT8E4M3FN, w)), runs=False,
    ),
    "double cast": hiding(
        r"^initializer float64, raw data → Cast\(float32\)$",
        lambda w: chain(("Cast", "b", "new", {"to": T.FLOAT}), b=w.astype(np.float64)),
    ),
}  # fmt: skip


def _bfloat16(values: np.ndarray) -> onnx.TensorProto:
    import ml_dtypes

    return numpy_helper.from_array(values.astype(ml_dtypes.bfloat16), "b")


CONTAINERS = {
    **{f"version converter to {number}": through("torchscript", version(number)) for number in (19, 21, 23, 25)},
    "onnxscript version converter to 23": through("dynamo", script_version(23)),
    "compose.add_prefix": through("torchscript", lambda model: onnx.compose.add_prefix(model, "foo/")),
    "compose.merge_models": through("torchscript", merged),
    "JSON and back": through("torchscript", through_json),
    "Constant nodes": through("torchscript", graphs.all_in_constants, r"^Constant node float32, raw data$"),
    "initializers are inputs too": through(
        "torchscript", inputs_too, r"^initializer float32, raw data, also a graph input$"
    ),
    "If, weights outside": through("torchscript", lambda model: graphs.in_branches(model, inside=False)),
    "If, weights inside": through("torchscript", lambda model: graphs.in_branches(model, inside=True)),
    "Loop, weights outside": through("torchscript", graphs.in_loop),
    "function, weights an argument": through("torchscript", lambda model: graphs.in_function(model, inside=False)),
    "function, weights inside": through(
        "torchscript", lambda model: graphs.in_function(model, inside=True), r"^Constant node float32, raw data$"
    ),
    "inliner": through("torchscript", inlined, r"^Constant node float32, raw data$"),
    "sparse initializer": hiding(
        r"^sparse initializer float32, raw data$", lambda w: ([], [graphs.sparse("new", w)])
    ),
    "float_data": hiding(r"^initializer float32, float_data$", lambda w: ([], [typed("new", T.FLOAT, w)])),
    "half in int32_data": hiding(
        r"^initializer float16, int32_data → Cast\(float32\)$",
        lambda w: chain(("Cast", "b", "new", {"to": T.FLOAT}), b=typed("b", T.FLOAT16, w)),
    ),
    "one data file": Route(one_data_file, r"^initializer float32, external data 'w.bin'$"),
    "data file with gaps": Route(padded_data_file, r"^initializer float32, external data 'sub/w.bin'$"),
    "a data file each": Route(data_file_each, r"^initializer float32, external data '.+'$"),
    "HWIO, transposed": hiding(
        r"^initializer float32, raw data → Transpose\(3,2,0,1\)$",
        lambda w: chain(("Transpose", "h", "new", {"perm": [3, 2, 0, 1]}), h=w.transpose(2, 3, 1, 0).copy()),
    ),
    "flat, reshaped": hiding(
        r"^initializer float32, raw data → Reshape\(32,32,3,3\)$",
        lambda w: chain(("Reshape", "f s", "new", {}), f=w.reshape(-1), s=np.array(w.shape, np.int64)),
    ),
    "in two halves": hiding(
        r"^initializer float32, raw data → Concat\(axis=0\)$",
        lambda w: chain(("Concat", "a b", "new", {"axis": 0}), a=w[:16], b=w[16:]),
    ),
    "part of a larger tensor": hiding(
        r"^initializer float32, raw data → Slice$",
        lambda w: chain(("Slice", "a s e", "new", {}), a=np.concatenate([w[:5], w]), s=np.array([5]), e=np.array([37])),
    ),
    "negated twice": hiding(
        r"^initializer float32, raw data → Neg$", lambda w: chain(("Neg", "a", "new", {}), a=-w)
    ),
    "Identity": hiding(RAW, lambda w: chain(("Identity", "a", "new", {}), a=w)),
    "OHWI in NhwcConv": through(
        "torchscript", graphs.channels_last, r"^initializer float32, raw data → OHWI$", runs=False
    ),
    # A layer of equal weights says nothing about any key, so it leaves a doubt.
    "beside ConstantOfShape": replace(through("torchscript", graphs.with_noise), stranger="inconclusive"),
}  # fmt: skip

COMBINATIONS = {
    "dynamo, onnxslim, dynamic int8": steps(
        on_file(slimmed), bare, runtime.dynamic, base="dynamo", stored=INTEGER, needs=("onnxslim",)
    ),
    "dynamo, pre-process, QOperator per channel, ORT extended": steps(
        runtime.pre_processed, quantising("QOperator", "QInt8", activation="QInt8", per_channel=True),
        saving("extended"), base="dynamo", stored=r"^initializer int8, raw data → QLinearConv scale\(axis=0\)$",
    ),
    "onnxsim, QDQ per channel, ORT all": steps(
        on_file(simplified()), quantising("QDQ", "QInt8", per_channel=True), saving("all"),
        stored=r"^initializer int8, raw data → QLinearConv scale\(axis=0\)$", needs=("onnxsim",),
    ),
    "QDQ, ORT extended": steps(
        quantising("QDQ", "QInt8"), saving("extended"), base="torchscript",
        stored=r"^initializer int8, raw data → QLinearConv scale$",
    ),
    "half, ORT all": steps(on_file(half()), saving("all"), base="torchscript", stored=BLOCKED,
                           needs=("onnxconverter_common",)),
    "half, onnxslim": steps(on_file(half()), on_file(slimmed), stored=HALF,
                            needs=("onnxconverter_common", "onnxslim")),
    "onnxslim, Constant nodes, ORT basic": steps(
        on_file(slimmed), on_file(graphs.all_in_constants), saving("basic"), needs=("onnxslim",)
    ),
    "dynamic int8, ORT all": steps(runtime.dynamic, saving("all"), base="torchscript", stored=INTEGER),
}  # fmt: skip

ROUTES = EXPORTERS | OPTIMISERS | QUANTISERS | CONTAINERS | COMBINATIONS
