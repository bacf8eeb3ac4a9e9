"""ExecuTorch with XNNPACK, through its Python binding."""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.runtimes.base import Runtime, Session, first_line
from facekd.common.errors import FacekdError


class ExecuTorch(Runtime):
    """Opens .pte files. The thread pool belongs to the process, which holds this one model."""

    name = "executorch"
    extra = "executorch"
    modules = ("torch", "executorch.runtime", "executorch.extension.pybindings.portable_lib")
    package = "executorch"
    suffixes = (".pte",)

    def open(self, path: Path, *, threads: int) -> Session:
        """The program's method `forward`.

        Raises:
            FacekdError: the file cannot be opened, or the pool does not take the number of threads.
        """
        import torch
        from executorch.extension.pybindings import portable_lib as binding
        from executorch.runtime import Runtime as Program

        torch.set_num_threads(1)  # torch only wraps the tensors
        binding._unsafe_reset_threadpool(threads)
        if (found := binding._threadpool_get_thread_count()) != threads:
            raise FacekdError(f"ExecuTorch's thread pool has {found} threads, {threads} were asked for")
        try:
            program = Program.get().load_program(path)
            method = program.load_method("forward")
        except RuntimeError as error:
            raise FacekdError(f"{path}: ExecuTorch cannot open it: {first_line(error)}") from error
        return _ExecuTorchSession(path, program, method)


class _ExecuTorchSession(Session):
    provider = "XNNPACK"

    def __init__(self, path: Path, program: Any, method: Any) -> None:
        self._path = path
        self._program = program  # kept: its method does not own it
        self._method = method

    def run(self, x: np.ndarray) -> np.ndarray:
        """One input -> the first output."""
        import torch

        try:
            return self._method.execute([torch.from_numpy(x)])[0].numpy()
        except RuntimeError as error:
            raise FacekdError(
                f"{self._path} failed on an input of shape {list(x.shape)}: {first_line(error)}"
            ) from error
