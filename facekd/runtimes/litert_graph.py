"""What a .tflite file says of itself: multiply-accumulates of one image, precision, operators and partitions."""

import math
from pathlib import Path

import numpy as np

from facekd.runtimes.base import FileFacts
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.litert_interpreter import open_interpreter
from facekd.runtimes.litert_metadata import lite_metadata


def graph_facts(path: Path) -> FileFacts:
    """(MACs of one image, precision) of a .tflite file.

    Counted as facekd.models.counting counts: convolutions and matrix products, nothing else.

    Raises:
        FacekdError: the file cannot be read.
    """
    interpreter = open_interpreter(path, plain=True)
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
    return FileFacts(macs, precision)


def graph_ends(path: Path) -> GraphEnds:
    """The operators that compute the file's outputs, and what lies before them.

    Raises:
        FacekdError: the file cannot be read.
    """
    interpreter = open_interpreter(path, plain=True)
    names = {tensor["index"]: str(tensor["name"]) for tensor in interpreter.get_output_details()}
    operators: dict[str, str] = {}
    before: dict[int, frozenset[int]] = {}
    kinds: dict[int, str] = {}
    for operator in interpreter._get_ops_details():  # in the order in which they run
        inputs = [int(index) for index in operator["inputs"]]
        kind = str(operator["op_name"])
        if kind in ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "CAST"):
            kind = kinds.get(inputs[0], kind)
        ends = {i for i in inputs if i in names}.union(*(before.get(i, frozenset()) for i in inputs))
        for index in operator["outputs"]:
            kinds[int(index)] = kind
            before[int(index)] = frozenset(ends)
            if index in names:
                operators[names[index]] = kind
    lead = {name: frozenset(names[i] for i in before.get(index, ())) for index, name in names.items()}
    return GraphEnds(operators=operators, before=lead, stated=lite_metadata(path))


def operators_of(path: Path) -> tuple[list[str], int]:
    """Names of the file's operators, and into how many XNNPACK partitions LiteRT cuts it here."""
    names = [str(operator["op_name"]) for operator in open_interpreter(path)._get_ops_details()]
    return [name for name in names if name != "DELEGATE"], names.count("DELEGATE")
