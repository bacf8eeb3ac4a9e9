"""What an .onnx file computes at its ends: the operators of its outputs."""

from pathlib import Path
from typing import Any

from facekd.runtimes.base import GraphEnds

_SAME_VALUES = (
    "Identity", "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "QuantizeLinear", "DequantizeLinear",
)  # fmt: skip


def graph_ends(path: Path) -> GraphEnds:
    """The ends of a file's graph; empty where the onnx package is not installed or does not read the file."""
    try:
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # ONNX Runtime opened it: it runs, and only less is known of it
        return GraphEnds()
    producers = {name: node for node in graph.node for name in node.output}
    outputs = [output.name for output in graph.output]
    sources = {name: _source(producers, name) for name in outputs}
    return GraphEnds(
        operators={name: producers[_source(producers, name)].op_type for name in outputs if name in producers},
        before={
            name: frozenset(o for o in outputs if o != name and sources[o] in _ancestors(producers, name))
            for name in outputs
        },
    )


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
