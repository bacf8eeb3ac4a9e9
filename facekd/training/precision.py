"""Number format and memory layout of the forward and backward: chosen, or measured on the task at hand."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.training.data import Batch
from facekd.training.reproducibility import preserved_random_state

Name = Literal["fp32", "bf16", "fp16"]
_DTYPES: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Autocast type and memory layout on one device. Weights, gradients and optimisers stay float32.

    Attributes:
        name: fp32 (no autocast), bf16, or fp16 with a gradient scaler.
        channels_last: 4-d weights and images in NHWC memory.
        device: where the training runs.
    """

    name: Name
    channels_last: bool
    device: torch.device

    def autocast(self) -> AbstractContextManager[None]:
        """Context of the forward pass."""
        return torch.autocast(self.device.type, dtype=_DTYPES.get(self.name), enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler | None:
        """Loss scaling for fp16, whose smallest normal number is 6e-5; none for the others."""
        return torch.amp.GradScaler(self.device.type) if self.name == "fp16" else None

    def place(self, module: nn.Module) -> None:
        """Moves a module to the device and lays out its 4-d weights."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        module.to(self.device, memory_format=layout)  # type: ignore[call-overload]

    def images(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [b, 3, h, w] on the device and in the layout."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(self.device, non_blocking=True).contiguous(memory_format=layout)

    def arguments(self, batch: Batch) -> list[Any]:
        """What a task is called with for a batch: images, labels and, if the data bring it, what is stored of them."""
        given = [self.images(batch["images"]), batch["labels"].to(self.device, non_blocking=True)]
        if stored := batch.get("stored"):
            given.append({name: value.to(self.device, non_blocking=True) for name, value in stored.items()})
        return given

    def describe(self) -> str:
        """Such as `bf16 NHWC`."""
        return f"{self.name} {'NHWC' if self.channels_last else 'NCHW'}"


@dataclass(frozen=True)
class Measurement:
    """Median seconds of one forward and backward."""

    precision: Precision
    seconds: float


def candidates(
    name: Literal["auto", "fp32", "bf16", "fp16"], channels_last: bool | Literal["auto"], device: torch.device
) -> list[Precision]:
    """The combinations a recipe leaves open; one if it leaves none. fp16 is never chosen by itself: it can overflow.

    On CUDA nothing is left open: bf16 in NHWC, which tensor cores are made for.
    """
    if device.type == "cuda":
        return [unmeasured(name, channels_last, device)]
    names: Sequence[Name] = ("fp32", "bf16") if name == "auto" else (name,)
    layouts = (False, True) if channels_last == "auto" else (channels_last,)
    return [Precision(name=one, channels_last=layout, device=device) for one in names for layout in layouts]


def fastest(
    options: Sequence[Precision], module: nn.Module, work: Callable[[Precision], None], *, repeats: int = 3
) -> list[Measurement]:
    """Measures each option, in turns, and returns them fastest first.

    The module's buffers and the random state are put back and its weights are not touched, so measuring does not
    change the training. An option whose first pass takes four times as long as the quickest first pass is given no
    more time: bf16 on a CPU without bf16 arithmetic can be tens of times slower.

    Args:
        options: what to try.
        module: laid out for each option, and left in the layout of the last one tried.
        work: one forward and backward under the option.
        repeats: timed passes of each, after one that is not counted. Taking turns spreads a disturbance over all.
    """
    if not options:
        raise UsageError("no precision to choose from")
    places = [(owner, name) for owner in module.modules() for name, one in owner._buffers.items() if one is not None]
    kept = [owner._buffers[name].clone() for owner, name in places]  # type: ignore[union-attr]
    with preserved_random_state():
        _timed(work, options[0], module)  # what torch sets up once must not count against whoever comes first
        first = {option: _timed(work, option, module) for option in options}
        limit = 4 * min(first.values())
        times: dict[Precision, list[float]] = {option: [] for option in options if first[option] <= limit}
        for _ in range(repeats):
            for option, measured in times.items():
                measured.append(_timed(work, option, module))
    module.zero_grad(set_to_none=True)
    with torch.no_grad():
        for (owner, name), value in zip(places, kept, strict=True):
            owner._buffers[name].copy_(value)  # type: ignore[union-attr]
    result = [Measurement(option, statistics.median(times.get(option) or [first[option]])) for option in options]
    return sorted(result, key=lambda one: one.seconds)


def fastest_training(options: Sequence[Precision], task: nn.Module, batch: Batch) -> list[Measurement]:
    """`fastest` for one forward and backward of a task on a batch."""

    def work(option: Precision) -> None:
        with option.autocast():
            output = task(*option.arguments(batch))
        output.loss.backward()

    return fastest(options, task, work)


def _timed(work: Callable[[Precision], None], option: Precision, module: nn.Module) -> float:
    option.place(module)
    synchronise(option.device)
    start = time.perf_counter()
    work(option)
    synchronise(option.device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    """Waits for the device's queued work, so that a clock read after it means something."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def unmeasured(name: Name | Literal["auto"], channels_last: bool | Literal["auto"], device: torch.device) -> Precision:
    """What is stated, and `auto` without timing anything: bf16 in NHWC on CUDA, float32 in NCHW on a CPU."""
    cuda = device.type == "cuda"
    return Precision(
        name=("bf16" if cuda else "fp32") if name == "auto" else name,
        channels_last=cuda if channels_last == "auto" else channels_last,
        device=device,
    )


def choose_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device a recipe asks for. Raises UsageError if it is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("training.device is cuda and torch finds no CUDA device: use training.device=cpu or auto")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)
