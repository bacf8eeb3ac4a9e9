"""Per-operator times of a .tflite: LiteRT's Python interpreter has no profiler, so every operator is run alone.

Each operator becomes a model of its own with its own weights, opened as the whole file is, with XNNPACK. Its fastest
run counts, less what an empty call costs. The sum is not the file's latency (nothing is warm in a cache from the
operator before), and says so by standing beside it; which operator costs what, and which XNNPACK refuses, it shows.
"""

import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from facekd.runtimes.litert_graph import operators_of
from facekd.runtimes.litert_interpreter import open_interpreter

MIN_RUNS = 5


def profile_lite(path: Path, *, threads: int, runs: int) -> dict[str, Any]:
    """Fields of schemas.record.Operators.

    Args:
        path: the .tflite.
        threads: of the interpreter.
        runs: of each operator.
    """
    from ai_edge_litert.tools import flatbuffer_utils

    _, partitions = operators_of(path)
    model = flatbuffer_utils.read_model(str(path))
    found: list[tuple[str, bool, float]] = []
    for operator in model.subgraphs[0].operators:
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(_alone(model, operator)))
        found.append(_time(open_interpreter(content, threads=threads), max(runs, MIN_RUNS)))
    # The cheapest operator (a reshape, mostly) stands for what a call costs that computes nothing.
    empty = min(milliseconds for _, _, milliseconds in found)
    milliseconds: dict[tuple[str, str], float] = defaultdict(float)
    calls: dict[tuple[str, str], int] = defaultdict(int)
    for name, delegated, ms in found:
        key = (name, "XNNPACK" if delegated else "LiteRT")
        milliseconds[key] += ms - empty
        calls[key] += 1
    return {
        "method": f"each operator alone, fastest of {max(runs, MIN_RUNS)} runs, {1e3 * empty:.1f} µs a call subtracted",
        "operators": [
            {"operator": key[0], "provider": key[1], "calls": calls[key], "ms": milliseconds[key]}
            for key in sorted(milliseconds, key=lambda key: -milliseconds[key])
        ],
        "delegate": "XNNPACK",
        "partitions": partitions,
        "fallback": {name: number for (name, provider), number in calls.items() if provider == "LiteRT"},
    }


def _alone(model: Any, operator: Any) -> Any:
    """A model of this one operator: its constants stay, its other inputs become the model's inputs."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    used = [int(index) for index in [*operator.inputs, *operator.outputs] if index >= 0]
    order = list(dict.fromkeys(used))
    alone = schema.ModelT()
    alone.version, alone.operatorCodes, alone.description = model.version, model.operatorCodes, "one operator"
    alone.buffers = [schema.BufferT()]  # the empty buffer that every variable tensor points to
    subgraph = schema.SubGraphT()
    subgraph.tensors, inputs = [], []
    for place, index in enumerate(order):
        tensor = graph.tensors[index]
        copy = schema.TensorT()
        copy.__dict__.update(tensor.__dict__)
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            copy.buffer = len(alone.buffers)
            alone.buffers.append(model.buffers[tensor.buffer])
        else:
            copy.buffer = 0
            if index not in operator.outputs:
                inputs.append(place)
        subgraph.tensors.append(copy)
    node = schema.OperatorT()
    node.__dict__.update(operator.__dict__)
    node.inputs = [order.index(int(index)) if index >= 0 else -1 for index in operator.inputs]
    node.outputs = [order.index(int(index)) for index in operator.outputs]
    subgraph.inputs, subgraph.outputs, subgraph.operators = inputs, node.outputs, [node]
    alone.subgraphs = [subgraph]
    return alone


def _time(interpreter: Any, runs: int) -> tuple[str, bool, float]:
    """(operator, whether XNNPACK takes it, milliseconds of the fastest run)."""
    for tensor in interpreter.get_input_details():
        # Memory that nobody wrote may hold denormals, which are slow.
        interpreter.set_tensor(tensor["index"], np.ones(tensor["shape"], tensor["dtype"]))
    names = [str(operator["op_name"]) for operator in interpreter._get_ops_details()]
    best = math.inf
    for _ in range(runs):
        start = time.perf_counter_ns()
        interpreter.invoke()
        best = min(best, (time.perf_counter_ns() - start) / 1e6)
    return next(name for name in names if name != "DELEGATE"), "DELEGATE" in names, best
