"""ONNX Runtime on the CPU."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, require_modules
from facekd.common.file_kind import check_not_a_stand_in
from facekd.runtimes.base import FileFacts, OpenOptions, Runtime, Session, Tensor, register_runtime
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.reasons import reason

_TYPES = {"float": "float32", "float16": "float16", "double": "float64"}


def inference_session(
    model: Path | bytes, *, threads: int = 1, optimise: bool = True, profile: Path | None = None
) -> Any:
    """ONNX Runtime's own session, with the CPU provider and all graph optimisations, as an app would have it.

    Args:
        model: the file, or its content.
        threads: inside an operator; one between operators.
        optimise: False keeps every node, so that each one's output can be asked for.
        profile: prefix of the file that `end_profiling` writes.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors arrive as exceptions and are reported once
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@register_runtime
class OnnxRuntime(Runtime):
    """Opens .onnx files, also those that keep their weights in a second file."""

    name = "onnxruntime"
    title = "onnxruntime"
    extra = "onnx"
    modules = ("onnxruntime",)
    package = "onnxruntime"
    suffixes = (".onnx",)
    free_batch = True
    releases_python = True

    def open(self, path: Path, options: OpenOptions) -> Session:
        """A session of the file."""
        try:
            session = inference_session(path, threads=options.num_threads)
        except Exception as error:  # onnxruntime's classes have no common base
            for file in self.files(path)[1:]:
                check_not_a_stand_in(file, f"the weights of {path.name}")
            if "IR version" in str(error) or "Opset" in str(error):
                raise FacekdError(
                    f"{path} is newer than ONNX Runtime {self.version()} here: {reason(error)}; install a newer "
                    "one, or export the model for an older opset"
                ) from error
            raise self.unreadable(path, "ONNX model", error) from error
        return _OnnxSession(self, path, session, _run_options())

    def files(self, path: Path) -> list[Path]:
        """The file and those that its tensors refer to."""
        from facekd.runtimes.onnx_graph import external_files

        return [path, *external_files(path)]

    def facts(self, path: Path) -> FileFacts:
        """Counted from the graph."""
        from facekd.runtimes.onnx_graph import graph_facts

        return graph_facts(path)

    def ends(self, path: Path) -> GraphEnds:
        """Read from the graph."""
        from facekd.runtimes.onnx_ends import graph_ends

        return graph_ends(path)

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """ONNX Runtime's profile: the nodes of the optimised graph, by operator and provider."""
        from facekd.runtimes.onnx_profile import operators_of

        with tempfile.TemporaryDirectory() as folder:
            session = inference_session(path, threads=threads, profile=Path(folder) / "profile")
            name = session.get_inputs()[0].name
            for _ in range(runs + 3):
                session.run(None, {name: x})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return operators_of(events, skip=3)


class _OnnxSession(Session):
    provider = "CPU"

    def __init__(self, runtime: Runtime, path: Path, session: Any, options: Any) -> None:
        super().__init__(runtime, path, inputs=_tensors(session.get_inputs()), outputs=_tensors(session.get_outputs()))
        self._session = session
        self._wanted = [self.output.name]
        self._options = options

    def select(self, name: str) -> None:
        """See Session."""
        super().select(name)
        self._wanted = [name]

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session."""
        try:
            return self._session.run(self._wanted, {self.input.name: x}, self._options)[0]  # type: ignore[no-any-return]
        except Exception as error:  # onnxruntime's classes have no common base
            raise self.failure(x, error) from error

    def end(self) -> None:
        """A run stops after the operator that it is in, also within a Loop; the next run is another."""
        ended, self._options = self._options, _run_options()
        ended.terminate = True

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every node's output, computed without optimisation so that none is fused away."""
        require_modules("showing the values inside an ONNX model", ["onnx"], extra="onnx")
        import onnx

        model = onnx.load(self.path)
        names = [name for node in model.graph.node for name in node.output if name]
        present = {output.name for output in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
        session = inference_session(model.SerializeToString(), optimise=False)
        yield from zip(names, session.run(names, {self.input.name: x}, self._options), strict=True)


def _run_options() -> Any:
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def _tensors(nodes: Sequence[Any]) -> list[Tensor]:
    return [
        Tensor(
            name=node.name,
            dtype=_TYPES.get(kind := node.type.removeprefix("tensor(").removesuffix(")"), kind),
            shape=tuple(size if isinstance(size, int) and size > 0 else None for size in node.shape),
        )
        for node in nodes
    ]
