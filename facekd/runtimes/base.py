"""The runtime protocol: `Runtime.open` gives a `Session`, a session says what the file takes and runs arrays.

A runtime is one module of this package that holds one class, decorated with `register_runtime`; evaluation, teachers,
export's parity gate, the benchmark and the demo find it by name, or by the suffix of a model file. Another package adds
its own by the entry-point group `facekd.runtimes`; `package.module:Class` names one without installing anything.

What a runtime needs is imported by its methods, so that looking one up by suffix imports none of the others' libraries.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from facekd.common.errors import FacekdError, UsageError, require_modules
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.registry import Registry
from facekd.common.versions import package_version
from facekd.runtimes.bounded import LIMIT_S, run_bounded
from facekd.runtimes.child import ChildSession
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.reasons import reason

IMAGE = "image"
"""The dtype of an input that the runtime takes as an image: RGB pixels 0 to 255, float32 [1, 3, h, w] for `run`."""


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """An input or an output, as the file declares it.

    Attributes:
        name: in the file.
        dtype: NumPy's name of its type, or IMAGE.
        shape: None where any size is valid.
        quantisation: (scale, zero point) of a quantised one: real = scale * (stored - zero point).
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantisation: tuple[float, int] | None = None

    @property
    def is_embedding(self) -> bool:
        """Whether it can be [b, e], or [b, e, 1, 1] with its ones anywhere."""
        return sum(size != 1 for size in self.shape[1:]) == 1


@dataclass(frozen=True, kw_only=True)
class OpenOptions:
    """How a model is opened.

    Attributes:
        threads: CPU threads; None for all of the machine's.
        exclusive: the process holds this one model, so the thread pool that some runtimes share between all models of a
            process may be set too.
    """

    threads: int | None = None
    exclusive: bool = False

    @property
    def num_threads(self) -> int:
        """The number of threads, whoever chose it."""
        return self.threads or os.cpu_count() or 1


class FileFacts(NamedTuple):
    """What a file says of itself: MACs of one image, precision of its arithmetic; None for what cannot be told."""

    macs: int | None = None
    precision: str | None = None


class Session(ABC):
    """A model opened in a runtime.

    Args:
        runtime: that opened it.
        path: the model, for messages.
        inputs: as the file declares them.
        outputs: likewise.

    Attributes:
        provider: what executes it, as the benchmark's record names it.
        input: the only input.
        output: the one that `run` returns: the first that can be an embedding, or the one selected.
        threads: that it was opened with; None for all of the machine's.

    Raises:
        UsageError: the model has several inputs.
    """

    provider: str
    threads: int | None = None
    _child: ChildSession | None = None

    def __init__(self, runtime: "Runtime", path: Path, *, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        if len(inputs) != 1:
            names = [tensor.name for tensor in inputs]
            raise UsageError(f"{path} has inputs {names}: a face model with one image input is needed")
        self.runtime, self.path, self.input, self.outputs = runtime, path, inputs[0], outputs
        self.output = next((tensor for tensor in outputs if tensor.is_embedding), outputs[0])

    @property
    def label(self) -> str:
        """Runtime and provider, as a manifest names what verified an artefact."""
        return f"{self.runtime.title} {self.provider}".strip()

    def select(self, name: str) -> None:
        """Makes another output the one that `run` returns.

        Raises:
            UsageError: there is none of this name.
        """
        found = next((tensor for tensor in self.outputs if tensor.name == name), None)
        if found is None:
            names = ", ".join(tensor.name for tensor in self.outputs)
            raise UsageError(f"--output {name}: the outputs of {self.path} are {names}")
        self.output = found

    @abstractmethod
    def run(self, x: np.ndarray) -> np.ndarray:
        """One input exactly as the file takes it -> `output` as the file stores it, [b, e]; what the benchmark times.

        Raises:
            FacekdError: the runtime refuses this input.
        """

    def run_bounded(self, x: np.ndarray) -> np.ndarray:
        """As `run`, for everything but timing: where the runtime can, it ends by Ctrl-C and after LIMIT_S an image.

        Raises:
            FacekdError: the runtime refuses this input, or the model does not end.
        """
        seconds, what = LIMIT_S * len(x), f"running {self.path} on {len(x)} image{'s' * (len(x) != 1)}"
        if self.runtime.own_process:
            return self._in_child("run", x, seconds, what)[1][0]
        if not self.runtime.releases_python:
            return self.run(x)
        return run_bounded(lambda: self.run(x), seconds=seconds, what=what, end=self.end)

    def intermediates_bounded(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """As `intermediates`, ended like `run_bounded`.

        Raises:
            FacekdError: the runtime refuses this input, or the model does not end.
        """
        seconds, what = LIMIT_S * len(x), f"computing the values inside {self.path}"
        if self.runtime.own_process:
            return iter(list(zip(*self._in_child("intermediates", x, seconds, what), strict=True)))
        if not self.runtime.releases_python:
            return self.intermediates(x)
        return iter(run_bounded(lambda: list(self.intermediates(x)), seconds=seconds, what=what, end=self.end))

    def _in_child(self, do: str, x: np.ndarray, seconds: float, what: str) -> tuple[list[str], list[np.ndarray]]:
        """A request to the model's own process, started at the first one and ended where the request is."""
        if self._child is None or not self._child.alive:  # Linux ends it with the thread that started it
            self._child = ChildSession(self.runtime.name, self.path, self.output.name, threads=self.threads)
        child = self._child
        try:
            return run_bounded(lambda: child.ask(do, x), seconds=seconds, what=what, end=child.kill)
        except FacekdError:
            if not child.alive:
                child.kill()
            raise

    def end(self) -> None:
        """Asks a run of another thread to stop; nothing where the runtime cannot."""
        return

    def intermediates(self, x: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """Every tensor that the file computes for `x`, in order, by name; nothing where the runtime cannot tell."""
        del x
        return iter(())

    def failure(self, x: np.ndarray, error: BaseException) -> FacekdError:
        """A runtime's own exception as one line."""
        return FacekdError(f"{self.path} failed on input of shape {list(x.shape)}: {reason(error)}")


class Runtime(ABC):
    """A way to run model files.

    Attributes:
        name: on the command line and in records.
        title: in manifests and messages.
        extra: facekd's extra that installs it.
        modules: imported before a model is opened, so that imports do not count as loading.
        package: the distribution whose version a record states.
        suffixes: of the files (or folders) that it opens, lower case.
        timed: whether its milliseconds mean anything (an interpreter's do not).
        free_batch: whether its files can leave the size of the batch open.
        releases_python: whether Python goes on while it runs, so that a model that does not end can be left.
        own_process: whether all but the timed runs are in a process of its own, since nothing else ends them.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    extra: ClassVar[str] = "all"
    modules: ClassVar[Sequence[str]] = ()
    package: ClassVar[str] = "facekd"
    suffixes: ClassVar[Sequence[str]] = ()
    timed: ClassVar[bool] = True
    free_batch: ClassVar[bool] = False
    releases_python: ClassVar[bool] = False
    own_process: ClassVar[bool] = False

    @abstractmethod
    def open(self, path: Path, options: OpenOptions) -> Session:
        """Opens a model, ready to run.

        Raises:
            UsageError: it is no model with one input.
            FacekdError: it cannot be read.
        """

    def opens(self, path: Path) -> bool:
        """Whether this is a model of its kind; by its suffix, unless a runtime knows better."""
        return path.suffix.lower() in self.suffixes

    def unusable(self) -> str | None:
        """Why this machine can never run it ("runs on a Mac, this is linux"); None where it can."""
        return None

    def require(self) -> None:
        """Imports what it needs.

        Raises:
            UsageError: it is not installed (the message names the extra that brings it), or is for another system.
        """
        if (reason := self.unusable()) is not None:
            raise UsageError(f"runtime {self.name} {reason}")
        require_modules(f"runtime {self.name}", self.modules, extra=self.extra)

    def version(self) -> str:
        """Of its package."""
        return package_version(self.package)

    def files(self, path: Path) -> list[Path]:
        """All files that make up the model: itself, or all that a folder holds.

        Raises:
            FacekdError: one of them is missing, or lies outside of the model's folder.
        """
        return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())

    def facts(self, path: Path) -> FileFacts:
        """What the file says of itself.

        Raises:
            FacekdError: it cannot be read.
        """
        del path
        return FileFacts()

    def ends(self, path: Path) -> GraphEnds:
        """What the file computes at its ends; nothing where the runtime cannot tell."""
        del path
        return GraphEnds()

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """Fields of schemas.record.Operators for `runs` inferences of `x`; None where the runtime tells nothing."""
        del path, x, threads, runs
        return None

    @staticmethod
    def unreadable(path: Path, kind: str, error: BaseException) -> FacekdError:
        """What a damaged file raises.

        Raises:
            FacekdError: it is no damaged file, but a Git LFS pointer or a web page in place of one.
        """
        vowel = kind[0] in "AEIO"
        check_not_a_stand_in(path, f"{'an' if vowel else 'a'} {kind}")
        return FacekdError(f"{path} is not a readable {kind}: {reason(error)}")


RUNTIMES: Registry[type[Runtime]] = Registry("runtime", package="facekd.runtimes", group="facekd.runtimes")


def register_runtime(runtime: type[Runtime]) -> type[Runtime]:
    """Class decorator: makes a runtime known by its name."""
    RUNTIMES.register(runtime.name, runtime)
    return runtime


def get_runtime(name: str) -> Runtime:
    """The runtime of a registered name, or of `package.module:Class`.

    Raises:
        UsageError: there is none of this name, or its module is not trusted.
    """
    return RUNTIMES.find(name)()


def list_runtimes() -> list[Runtime]:
    """Every registered runtime, those that facekd ships first, by name."""
    found = [RUNTIMES.find(name)() for name in RUNTIMES.names()]
    return sorted(found, key=lambda runtime: not type(runtime).__module__.startswith(f"{RUNTIMES.package}."))


def model_suffixes() -> list[str]:
    """The suffixes of all model files that some runtime opens, for messages."""
    return sorted({suffix for runtime in list_runtimes() for suffix in runtime.suffixes})


def runtime_for(path: Path, *, among: Sequence[str] = (), timed: bool = False) -> Runtime:
    """The runtime that opens a model file or bundle here; of several the one whose milliseconds count, then facekd's.

    Args:
        path: the model.
        among: names of runtimes; empty for every registered one.
        timed: leave out those whose milliseconds mean nothing.

    Raises:
        UsageError: there is none for such a file.
    """
    known = [get_runtime(name) for name in among] if among else list_runtimes()
    fitting = [runtime for runtime in known if runtime.opens(path) and (runtime.timed or not timed)]
    if not fitting:
        raise UsageError(
            f"{path}: no runtime opens {path.suffix or 'such'} files: valid are {', '.join(model_suffixes())}"
        )
    # Where none is usable, the first says why when it is required.
    usable = [runtime for runtime in fitting if runtime.unusable() is None] or fitting
    return min(usable, key=lambda runtime: not runtime.timed)


def file_facts(path: Path) -> FileFacts:
    """What a model file says of itself, by the runtime that opens it.

    Raises:
        UsageError: no runtime opens such a file.
        FacekdError: it cannot be read.
    """
    return runtime_for(path).facts(path)
