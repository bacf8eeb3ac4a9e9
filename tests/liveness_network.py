"""A liveness network that a test can compute by hand: the greener the crop, the less live."""

import json
from pathlib import Path

import numpy as np

GREEN = (30, 200, 30)
"""RGB of surroundings that it takes for an attack."""


def real_probability(red: float, green: float, blue: float) -> float:
    """What the network gives for a crop of this mean colour, 0 to 255."""
    logits = np.array([0.0, 5 - 0.25 * (green - (red + blue) / 2), 0.0])
    return float(np.exp(logits[1]) / np.exp(logits).sum())


def write_network(path: Path, *, scale: float, side: int = 80, classes: int = 3, softmax: bool = False) -> Path:
    """The network as .onnx, BGR, described by the .json beside it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((3, classes), np.float32)
    weights[:, 1] = (0.125, -0.25, 0.125)  # B, G, R
    bias = np.zeros(classes, np.float32)
    bias[1] = 5
    last = "logits" if softmax else "output"
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weights", "bias"], [last]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], ["output"]))
    graph = helper.make_graph(
        nodes,
        "greenness",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, classes])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    path.with_suffix(".json").write_text(json.dumps({"crop_scale": scale}), encoding="utf-8")
    return path
