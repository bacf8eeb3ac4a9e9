"""Weight-only int8 for ONNX: weights as int8 with one scale a channel and a DequantizeLinear before their operator."""

from typing import Any

import numpy as np

# Output channel axis of each operator's weight (input 1); Gemm's depends on transB.
_WEIGHT_AXIS = {"Conv": 0, "Gemm": 1, "MatMul": 1}
_SMALLEST = 512  # below this many values the scales cost what the weights save


def quantise_weights(model: Any) -> tuple[Any, int]:
    """Replaces float weights of convolutions and matrix products; returns the model and how many were replaced.

    Symmetric, scale = max |w| / 127 of each output channel, so a channel's error is at most half its scale. Runtimes
    dequantise when they load the model: the file is smaller, the speed and the arithmetic are float32's.
    """
    import onnx
    from onnx import helper, numpy_helper

    initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
    done: dict[str, str] = {}
    nodes = []
    for node in model.graph.node:
        weight = initialisers.get(node.input[1]) if node.op_type in _WEIGHT_AXIS and len(node.input) > 1 else None
        if weight is not None and weight.data_type == onnx.TensorProto.FLOAT:
            values = numpy_helper.to_array(weight)
            if values.size >= _SMALLEST and values.ndim >= 2:
                if weight.name not in done:
                    axis = _axis(node, values.ndim)
                    quantised, scale = _symmetric(values, axis)
                    base = weight.name
                    done[base] = f"{base}.dequantised"
                    model.graph.initializer.extend(
                        [
                            numpy_helper.from_array(quantised, f"{base}.int8"),
                            numpy_helper.from_array(scale, f"{base}.scale"),
                            numpy_helper.from_array(np.zeros(len(scale), np.int8), f"{base}.zero"),
                        ]
                    )
                    nodes.append(
                        helper.make_node(
                            "DequantizeLinear",
                            [f"{base}.int8", f"{base}.scale", f"{base}.zero"],
                            [done[base]],
                            name=f"{base}.dequantise",
                            axis=axis,
                        )
                    )
                node.input[1] = done[weight.name]
        nodes.append(node)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in done]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return model, len(done)


def _axis(node: Any, dimensions: int) -> int:
    transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    if node.op_type == "MatMul":
        return dimensions - 1
    return 0 if transposed else _WEIGHT_AXIS[node.op_type]


def _symmetric(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(i for i in range(values.ndim) if i != axis)
    scale = np.maximum(np.abs(values).max(axis=others), 1e-12).astype(np.float32) / np.float32(127)
    shape = [1] * values.ndim
    shape[axis] = -1
    quantised = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
    return quantised, scale
