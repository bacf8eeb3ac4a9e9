"""What every runtime is: `require` imports it, `open` gives a session, a session runs inputs and may profile them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from facekd.common.errors import require_modules


class Session(ABC):
    """A model opened in a runtime, with its number of threads.

    Attributes:
        provider: what executes it, as the record names it.
    """

    provider: str

    @abstractmethod
    def run(self, x: np.ndarray) -> np.ndarray:
        """One input as the file takes it -> the embeddings [b, e]."""


class Runtime(ABC):
    """A way to execute model files.

    Attributes:
        name: on the command line.
        extra: facekd's extra that installs it.
        modules: what must be imported before a model is opened, so that imports do not count as loading.
        package: whose version the record states.
        suffixes: of the files it opens; a bundle's is "".
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    modules: ClassVar[Sequence[str]]
    package: ClassVar[str]
    suffixes: ClassVar[Sequence[str]]

    @abstractmethod
    def open(self, path: Path, *, threads: int) -> Session:
        """Opens a model, ready to run.

        Raises:
            FacekdError: the file cannot be opened.
        """

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """Fields of record.Operators for `runs` inferences of `x`, or None where the runtime tells nothing."""
        del path, x, threads, runs
        return None

    def require(self) -> None:
        """Imports the runtime.

        Raises:
            UsageError: it is not installed; names the extra that brings it.
        """
        require_modules(f"runtime {self.name}", self.modules, extra=self.extra)

    def version(self) -> str:
        """Of the package."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "unknown"


def first_line(error: BaseException) -> str:
    """The first line of a third party's message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
