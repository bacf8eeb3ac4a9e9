"""What an .onnx file says of itself: multiply-accumulates of one image, precision, and its other files."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError, require_modules
from facekd.common.validation import shown
from facekd.runtimes.base import FileFacts, Runtime

_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv", "FusedConv")
_PRODUCTS = ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "QGemm")


def graph_facts(path: Path) -> FileFacts:
    """(MACs of one image, precision) of an .onnx file.

    Counted as facekd.models.counting counts: convolutions and matrix products, nothing else.

    Raises:
        FacekdError: the file cannot be read.
    """
    require_modules("reading an ONNX graph", ["onnx"], extra="onnx")
    import onnx

    try:
        model = onnx.load(path)
        _set_batch_to_one(model.graph)
        # With data propagation, for graphs that compute a reshape's target from the input's own shape.
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception as error:  # protobuf and onnx raise classes of their own
        raise Runtime.unreadable(path, "ONNX model", error) from error
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*inferred.value_info, *inferred.input, *inferred.output]
    }
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    macs = 0
    for node in inferred.node:
        if node.op_type in _CONVOLUTIONS:
            weight = shapes.get(node.input[3 if node.op_type == "QLinearConv" else 1])
            per_output = math.prod(weight[1:]) if weight else 0
        elif node.op_type in _PRODUCTS:
            left = shapes.get(node.input[0])
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            per_output = left[0 if transposed else -1] if left else 0
        else:
            continue
        output = shapes.get(node.output[0])
        # A dimension that stayed free, or an operator ONNX cannot infer: no count rather than a wrong one.
        if not output or not per_output or 0 in output:
            return FileFacts(None, _precision(model))
        macs += math.prod(output) * per_output
    return FileFacts(macs, _precision(model))


def _set_batch_to_one(graph: Any) -> None:
    """Wherever the name of the input's first dimension stands: what a file states, inference does not overwrite."""
    for first in graph.input[0].type.tensor_type.shape.dim[:1]:
        name = first.dim_param
        stated = [dim for value in [*graph.value_info, *graph.output] for dim in value.type.tensor_type.shape.dim]
        for dim in [first, *(dim for dim in stated if name and dim.dim_param == name)]:
            dim.dim_value = 1


def _precision(model: Any) -> str:
    import onnx

    operators = {node.op_type for node in model.graph.node}
    types = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) > 1}
    if operators & {"QuantizeLinear", "QLinearConv", "ConvInteger", "DynamicQuantizeLinear"}:
        return "int8"
    if types & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}:
        return "w8"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def external_files(path: Path) -> list[Path]:
    """The files in which an .onnx file keeps tensors of its own, sorted; none where it holds them itself.

    Raises:
        FacekdError: the file cannot be read, or one of its files is missing or lies outside of its folder.
    """
    require_modules("reading an ONNX graph", ["onnx"], extra="onnx")
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's class depends on its version
        raise Runtime.unreadable(path, "ONNX model", error) from error
    graphs = [model.graph, *model.functions]
    tensors = (tensor for graph in graphs for tensor in _tensors(graph))
    locations = {
        entry.value
        for tensor in tensors
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    folder = path.parent.resolve()
    for location in locations:
        file = (folder / location).resolve()
        if not file.is_relative_to(folder):
            raise FacekdError(
                f"{path} keeps weights in {shown(location)}, outside of its folder: such a file is not opened"
            )
        if not file.is_file():
            raise FacekdError(
                f"{path} keeps weights in {shown(location)}, which is not beside it: put both in one folder"
            )
    return [path.parent / location for location in sorted(locations)]


def _tensors(graph: Any) -> Iterator[Any]:
    """Every constant of a graph or a function, those of its subgraphs too."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                yield from _tensors(inner)
