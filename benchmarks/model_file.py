"""What a model file says of itself: multiply-accumulates of one image, and the precision it computes in."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError

_ONNX_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")
_ONNX_PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "QGemm")


def inspect_file(path: Path) -> tuple[int | None, str | None]:
    """(MACs of one image, precision); None for what cannot be told, which of a .pte is both.

    Counted as facekd.models.counting counts: convolutions and matrix products, nothing else.
    """
    inspect: Callable[[Path], tuple[int | None, str | None]] | None = {
        ".onnx": _inspect_onnx,
        ".tflite": _inspect_tflite,
    }.get(path.suffix)
    return inspect(path) if inspect else (None, None)


def _inspect_onnx(path: Path) -> tuple[int | None, str | None]:
    import onnx

    try:
        model = onnx.load(path)
        _set_batch_to_one(model.graph)
        # With data propagation, for graphs that compute a reshape's target from the input's own shape.
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise FacekdError(f"{path} is not a readable ONNX model: {str(error).splitlines()[0][:200]}") from error
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    macs = 0
    for node in inferred.node:
        if node.op_type in _ONNX_CONVOLUTIONS:
            weight = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
            per_output = math.prod(weight[1:]) if weight else 0
        elif node.op_type in _ONNX_PRODUCTS:
            left = shapes.get(node.input[0])
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            per_output = left[0 if transposed else -1] if left else 0
        else:
            continue
        output = shapes.get(node.output[0])
        # A dimension that stayed free, or an operator ONNX cannot infer: no count rather than a wrong one.
        if not output or not per_output or 0 in output:
            return None, _onnx_precision(model)
        macs += math.prod(output) * per_output
    return macs, _onnx_precision(model)


def _set_batch_to_one(graph: Any) -> None:
    """Wherever the name of the input's first dimension stands: what a file states, inference does not overwrite."""
    for first in graph.input[0].type.tensor_type.shape.dim[:1]:
        name = first.dim_param
        stated = [dim for value in [*graph.value_info, *graph.output] for dim in value.type.tensor_type.shape.dim]
        for dim in [first, *(dim for dim in stated if name and dim.dim_param == name)]:
            dim.dim_value = 1


def _onnx_precision(model: Any) -> str:
    import onnx

    operators = {node.op_type for node in model.graph.node}
    types = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    if operators & {"QuantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"}:
        return "int8"
    if types & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return "w8"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def _inspect_tflite(path: Path) -> tuple[int | None, str | None]:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    try:
        interpreter = Interpreter(
            str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
    except (ValueError, RuntimeError) as error:
        raise FacekdError(f"{path} is not a readable TFLite model: {str(error).splitlines()[0][:200]}") from error
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    macs, precision = 0, "fp32"
    for operator in interpreter._get_ops_details():
        name, inputs = operator["op_name"], operator["inputs"]
        if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"):
            continue
        output = [int(n) for n in tensors[operator["outputs"][0]]["shape"]]
        left, right = ([int(n) for n in tensors[i]["shape"]] for i in inputs[:2])
        per_output = {
            "CONV_2D": math.prod(right[1:]),
            "DEPTHWISE_CONV_2D": right[1] * right[2] if len(right) == 4 else 0,
            "FULLY_CONNECTED": right[-1],
            "BATCH_MATMUL": left[-1],
        }[name]
        macs += math.prod(output[1:]) * per_output
        if tensors[inputs[1]]["dtype"] == np.int8:
            precision = "int8" if tensors[inputs[0]]["dtype"] == np.int8 else "w8"
    if any(t["dtype"] == np.float16 and len(t["shape"]) > 1 for t in tensors.values()):
        precision = "fp16"
    return macs, precision
