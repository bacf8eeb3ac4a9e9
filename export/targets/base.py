"""What every target is: `convert(network, folder, options)` writes the file that facekd.runtimes then runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from facekd.common.errors import FacekdError, UsageError, require_modules
from facekd.common.registry import Registry
from facekd.export.network import Network
from facekd.export.options import ExportOptions
from facekd.runtimes.embedder import FileEmbedder
from facekd.schemas.manifest import ArtefactInput, Layout, Quantisation


@dataclass(kw_only=True)
class Conversion:
    """What a target made.

    Attributes:
        model: file or folder name inside the artefact.
        format_version: in words: "opset 20", "specification 6 (iOS 15)".
        input: as the file has it.
        output_name: the output tensor's name.
        operators: number of each, constants not counted.
        partitions: parts handed to XNNPACK, or None.
        usability: verdict per mobile provider.
        quantisation: for int8.
        float_model: the same network before quantisation, beside the artefact, for the latency before.
        details: facts of this target.
        packages: distributions whose versions belong into the manifest.
    """

    model: str
    format_version: str
    input: ArtefactInput
    output_name: str
    operators: dict[str, int]
    partitions: int | None = None
    usability: dict[str, dict[str, Any]] = field(default_factory=dict)
    prelu_form: str | None = None
    quantisation: Quantisation | None = None
    float_model: Path | None = None
    details: dict[str, Any] = field(default_factory=dict)
    packages: Sequence[str] = ()


class Target(ABC):
    """One runtime's format.

    Attributes:
        name: on the command line.
        extra: facekd's extra that installs what it needs.
        modules: imports it needs.
        precisions: valid precisions, each with what it means here.
        refused: precisions that it does not offer, each with the reason.
        default_layout: of the input.
        default_preprocess: where normalisation lies unless the user says.
    """

    name: ClassVar[str]
    extra: ClassVar[str]
    modules: ClassVar[Sequence[str]]
    precisions: ClassVar[dict[str, str]]
    refused: ClassVar[dict[str, str]] = {}
    layouts: ClassVar[Sequence[Layout]] = ("nchw",)
    default_preprocess: ClassVar[Literal["in", "out"]] = "out"
    default_batch: ClassVar[int | None] = 1
    dynamic_batch: ClassVar[bool] = False

    @abstractmethod
    def convert(self, network: Network, folder: Path, options: ExportOptions, scratch: Path) -> Conversion:
        """Writes the model into `folder`; `scratch` is a folder for what must not be shipped."""

    def trace(
        self, network: Network, options: ExportOptions, embedder: FileEmbedder, face: np.ndarray
    ) -> Iterator[tuple[str, np.ndarray]]:
        """The values the artefact computes for one face [1, 3, h, w], to find where it leaves the bundle."""
        del network, options
        x = embedder.encoding.encode(np.repeat(face, embedder.fixed_batch or 1, axis=0))
        return embedder.session.intermediates_bounded(x)

    def require(self) -> None:
        """Imports what the target needs.

        Raises:
            UsageError: a package is missing; names the extra that brings it.
        """
        require_modules(f"target {self.name}", self.modules, extra=self.extra)

    def validate(self, options: ExportOptions) -> None:
        """Refuses options the target cannot honour, before anything is computed.

        Raises:
            UsageError: names the option, its value and the valid ones.
        """
        if options.precision not in self.precisions:
            why = self.refused.get(options.precision, "it is not offered")
            raise UsageError(
                f"target {self.name}, precision {options.precision}: {why}; valid: {', '.join(self.precisions)}"
            )
        if options.layout not in self.layouts:
            raise UsageError(f"target {self.name}, layout {options.layout}: valid: {', '.join(self.layouts)}")
        if options.batch is None and not self.dynamic_batch:
            raise UsageError(f"target {self.name}, batch dynamic: its files have a fixed batch; give a number, as 1")


TARGETS: Registry[type[Target]] = Registry(
    "target",
    package="facekd.export.targets",
    group="facekd.targets",
    example="all, or package.module:Class",
    first=("onnx", "coreml", "tflite", "executorch", "android"),
)


def register_target(target: type[Target]) -> type[Target]:
    """Class decorator: makes a target known by its name."""
    TARGETS.register(target.name, target)
    return target


def list_targets() -> list[str]:
    """Names of all targets, in the order `all` takes them: facekd's own, then others by name."""
    return TARGETS.names()


def get_target(name: str) -> Target:
    """The target of a registered name, or of `package.module:Class`.

    Raises:
        UsageError: there is none of this name, or its module is not trusted.
    """
    return TARGETS.find(name)()


def count(operators: Sequence[str]) -> dict[str, int]:
    """How often each occurs, most frequent first."""
    counts: dict[str, int] = {}
    for operator in operators:
        counts[operator] = counts.get(operator, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def refuse(target: str, problem: str) -> Callable[[BaseException], FacekdError]:
    """Turns a third party's exception into one line that keeps its first sentence."""

    def wrap(error: BaseException) -> FacekdError:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return FacekdError(f"target {target}: {problem}: {type(error).__name__}: {first[:300]}")

    return wrap
