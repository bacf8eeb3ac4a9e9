"""ExecuTorch with XNNPACK, through its Python binding."""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.runtimes.base import OpenOptions, Runtime, Session, Tensor, register_runtime


def load_method(program: Path | bytes) -> tuple[Any, Any]:
    """(program, its method `forward`) of ExecuTorch's own runtime; keep the program, its method does not own it.

    Raises:
        RuntimeError: ExecuTorch refuses it.
    """
    from executorch.runtime import Runtime as Programs

    loaded = Programs.get().load_program(program)
    return loaded, loaded.load_method("forward")


@register_runtime
class ExecuTorch(Runtime):
    """Opens .pte files."""

    name = "executorch"
    title = "executorch"
    extra = "executorch"
    modules = ("torch", "executorch.runtime", "executorch.extension.pybindings.portable_lib")
    package = "executorch"
    suffixes = (".pte",)
    own_process = True

    def open(self, path: Path, options: OpenOptions) -> Session:
        """The program's method `forward`.

        The thread pool is one for the whole process, and a program that is open holds on to the old one when it is
        replaced: the number of threads is set only in a process that holds this one model.

        Raises:
            FacekdError: the file cannot be opened, or the pool does not take the number of threads.
        """
        if options.exclusive:
            _set_threads(options.num_threads)
        try:
            program, method = load_method(path)
        except RuntimeError as error:
            raise self.unreadable(path, "ExecuTorch program", error) from error
        return _ExecuTorchSession(self, path, program, method)


class _ExecuTorchSession(Session):
    provider = "XNNPACK"

    def __init__(self, runtime: Runtime, path: Path, program: Any, method: Any) -> None:
        about = method.metadata
        inputs = [_tensor(f"input {i}", about.input_tensor_meta(i)) for i in range(about.num_inputs())]
        outputs = [_tensor(f"output {i}", about.output_tensor_meta(i)) for i in range(about.num_outputs())]
        super().__init__(runtime, path, inputs=inputs, outputs=outputs)
        self._program = program
        self._method = method
        self._output = outputs.index(self.output)

    def select(self, name: str) -> None:
        """See Session."""
        super().select(name)
        self._output = list(self.outputs).index(self.output)

    def run(self, x: np.ndarray) -> np.ndarray:
        """See Session; the array is ExecuTorch's own memory, which the next run writes to."""
        import torch

        try:
            return self._method.execute([torch.from_numpy(x)])[self._output].numpy()  # type: ignore[no-any-return]
        except RuntimeError as error:
            raise self.failure(x, error) from error


def _tensor(name: str, about: Any) -> Tensor:
    # ScalarType of ExecuTorch's C++ core, as torch numbers its types.
    kinds = {0: "uint8", 1: "int8", 5: "float16", 6: "float32"}
    return Tensor(name=name, dtype=kinds.get(about.dtype(), f"type {about.dtype()}"), shape=tuple(about.sizes()))


def _set_threads(threads: int) -> None:
    import torch
    from executorch.extension.pybindings import portable_lib as binding

    torch.set_num_threads(1)  # torch only wraps the tensors
    binding._unsafe_reset_threadpool(threads)
    if (found := binding._threadpool_get_thread_count()) != threads:
        raise FacekdError(f"ExecuTorch's thread pool has {found} threads, {threads} were asked for")
