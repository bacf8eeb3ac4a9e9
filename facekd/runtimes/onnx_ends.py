"""What an .onnx file computes at its ends: how it normalises its input, and the operators of its outputs."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.metadata import metadata_input

_SAME_VALUES = (
    "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


def graph_ends(path: Path) -> GraphEnds:
    """The ends of a file's graph; empty where the onnx package is not installed or does not read the file."""
    try:
        import onnx

        model = onnx.load(path, load_external_data=False)
        graph = model.graph
    except Exception:  # ONNX Runtime opened it: it runs, and only less is known of it
        return GraphEnds()
    producers = {name: node for node in graph.node for name in node.output}
    outputs = [output.name for output in graph.output]
    sources = {name: _source(producers, name) for name in outputs}
    return GraphEnds(
        operators={name: producers[_source(producers, name)].op_type for name in outputs if name in producers},
        normalises=_normalisation(graph),
        stated=metadata_input({entry.key: entry.value for entry in model.metadata_props}),
        before={
            name: frozenset(o for o in outputs if o != name and sources[o] in _ancestors(producers, name))
            for name in outputs
        },
    )


def _normalisation(graph: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """(mean, std) of the arithmetic with constants that the input goes through first: x -> factor * x + offset."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {node.output[0]: a.t for node in graph.node if node.op_type == "Constant"
                  for a in node.attribute if a.name == "value"}  # fmt: skip

    def per_channel(name: str) -> np.ndarray | None:
        if name not in constants or math.prod(constants[name].dims) not in (1, 3):
            return None  # weights, which may lie in another file
        return np.broadcast_to(numpy_helper.to_array(constants[name]).astype(np.float64).ravel(), 3)

    inputs = [value.name for value in graph.input if value.name not in constants]
    factor, offset, name, found = np.ones(3), np.zeros(3), inputs[0] if inputs else "", False
    while len(nodes := [node for node in graph.node if name in node.input]) == 1:
        node = nodes[0]
        values = [per_channel(other) for other in node.input if other != name]
        others = [value for value in values if value is not None]
        if node.op_type in ("Identity", "Cast", "Transpose"):
            pass
        elif len(others) < len(values):
            break
        elif node.op_type == "BatchNormalization" and len(others) == 4:
            epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
            scale = others[0] / np.sqrt(others[3] + epsilon)
            factor, offset, found = factor * scale, (offset - others[2]) * scale + others[1], True
        elif len(others) == 1 and node.op_type in ("Add", "Sub") and node.input[0] == name:
            offset, found = offset + others[0] * (1 if node.op_type == "Add" else -1), True
        elif len(others) == 1 and node.op_type in ("Mul", "Div") and node.input[0] == name:
            by = others[0] if node.op_type == "Mul" else 1 / others[0]
            factor, offset, found = factor * by, offset * by, True
        else:
            break
        name = node.output[0]
    if not found or not np.all(np.isfinite(factor)) or np.any(factor == 0):
        return None
    return tuple((-offset / factor).tolist()), tuple(np.abs(1 / factor).tolist())


def _source(producers: dict[str, Any], name: str) -> str:
    """The tensor whose values an output has: before the operators that only reshape or convert it."""
    while (node := producers.get(name)) is not None and node.op_type in _SAME_VALUES and node.input[0] in producers:
        name = node.input[0]
    return name


def _ancestors(producers: dict[str, Any], name: str) -> set[str]:
    """Every tensor that this one is computed from."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        node = producers.get(waiting.pop())
        for before in node.input if node is not None else ():
            if before and before not in found:
                found.add(before)
                waiting.append(before)
    return found
