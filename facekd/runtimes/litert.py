"""LiteRT with XNNPACK."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.runtimes.base import FileFacts, OpenOptions, Runtime, Session, Tensor, register_runtime
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.litert_interpreter import ERRORS, open_interpreter


@register_runtime
class LiteRt(Runtime):
    """Opens .tflite files."""

    name = "litert"
    title = "LiteRT"
    extra = "tflite"
    modules = ("ai_edge_litert.interpreter",)
    package = "ai-edge-litert"
    suffixes = (".tflite",)
    releases_python = True  # while it opens a file
    own_process = True

    def open(self, path: Path, options: OpenOptions) -> Session:
        """An interpreter with its tensors allocated."""
        return _LiteSession(self, path, open_interpreter(path, threads=options.num_threads))

    def facts(self, path: Path) -> FileFacts:
        """Counted from the graph."""
        from facekd.runtimes.litert_graph import graph_facts

        return graph_facts(path)

    def ends(self, path: Path) -> GraphEnds:
        """Read from the interpreter's operators."""
        from facekd.runtimes.litert_graph import graph_ends

        return graph_ends(path)

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """Placement from the interpreter; times of each operator alone, since LiteRT's Python has no profiler."""
        from facekd.runtimes.litert_profile import profile_lite

        del x
        return profile_lite(path, threads=threads, runs=runs)


class _LiteSession(Session):
    provider = "XNNPACK"

    def __init__(self, runtime: Runtime, path: Path, interpreter: Any) -> None:
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        super().__init__(runtime, path, inputs=_tensors(inputs), outputs=_tensors(outputs))
        self._interpreter = interpreter
        self._input = inputs[0]["index"]
        self._places = {tensor.name: detail["index"] for tensor, detail in zip(self.outputs, outputs, strict=True)}
        self._output = self._places[self.output.name]

    def select(self, name: str) -> None:
        """See Session."""
        super().select(name)
        self._output = self._places[name]

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        try:
            self._interpreter.set_tensor(self._input, x)
            self._interpreter.invoke()
        except ERRORS as error:
            raise self.failure(x, error) from error
        return self._interpreter.get_tensor(self._output)  # type: ignore[no-any-return]

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every operator's output by LiteRT's reference kernels, quantised tensors back in float."""
        interpreter = open_interpreter(self.path, plain=True)
        try:
            interpreter.set_tensor(self._input, x)
            interpreter.invoke()
        except ERRORS as error:
            raise self.failure(x, error) from error
        details = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
        for operator in interpreter._get_ops_details():
            for index in operator["outputs"]:
                tensor = details.get(index)
                if tensor is not None:
                    yield str(tensor["name"]), _dequantised(interpreter.get_tensor(index), tensor)


def _tensors(details: Sequence[dict[str, Any]]) -> list[Tensor]:
    return [
        Tensor(
            name=str(tensor["name"]),
            dtype=np.dtype(tensor["dtype"]).name,
            # LiteRT would resize for another batch; the file's own is what it was made and quantised for.
            shape=tuple(int(size) for size in tensor["shape"]),
            quantisation=(float(tensor["quantization"][0]), int(tensor["quantization"][1]))
            if tensor["quantization"][0]
            else None,
        )
        for tensor in details
    ]


def _dequantised(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    parameters = tensor["quantization_parameters"]
    scales = parameters["scales"]
    if len(scales) != 1 or values.dtype not in (np.int8, np.uint8, np.int16):
        return values
    dequantised: np.ndarray = (values.astype(np.float32) - parameters["zero_points"][0]) * scales[0]
    return dequantised
