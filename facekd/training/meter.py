"""Counts: where a run is, and what happened since the last log line."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from facekd.training.data import StepBatches
from facekd.training.log import resident_mib
from facekd.training.step import StepReport


@dataclass
class Progress:
    """Where a run is.

    Attributes:
        step: optimiser steps done.
        epoch, batch: the first batch that is still to come.
        best_step, best_accuracy: the best evaluated checkpoint so far.
        broken: images met so far that could not be read.
        skipped: steps that fp16 overflow left out.
        seconds: time spent training, over all sessions of the run.
        images: images trained on.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    best_step: int | None = None
    best_accuracy: float | None = None
    broken: int = 0
    skipped: int = 0
    seconds: float = 0.0
    images: int = 0


@dataclass
class Meter:
    """Sums since the last log line.

    Attributes:
        started: perf_counter() of its begin; moved forward by whatever is not training.
        broken: (key, reason) of the images that could not be read.
    """

    started: float = field(default_factory=time.perf_counter)
    broken: list[tuple[str, str]] = field(default_factory=list)
    _parts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _images: int = 0
    _wait_seconds: float = 0.0
    _last: StepReport | None = None

    def add(self, progress: Progress, step_batches: StepBatches, reports: Sequence[StepReport]) -> None:
        """Counts one step, and the reports that came with it: of itself, of several, or of none."""
        progress.images += step_batches.total
        progress.broken += len(step_batches.broken)
        self._images += step_batches.total
        self._wait_seconds += step_batches.wait_seconds
        self.broken += step_batches.broken
        self.take(progress, reports)

    def take(self, progress: Progress, reports: Sequence[StepReport]) -> None:
        """Counts reports of steps that were counted before."""
        for report in reports:
            progress.skipped += report.skipped
            self._last = report
            if not report.skipped:
                for name, value in report.parts.items():
                    self._parts[name].append(value)

    def figures(self, progress: Progress) -> dict[str, Any]:
        """The figures of a log line: loss parts (means over the steps that had them), last rates and norm."""
        return {
            "parts": self._means(),
            "lr": self._last.rates if self._last else {},
            "gradient_norm": self._last.gradient_norm if self._last else None,
            "images_per_second": self._images / self._seconds(),
            "data_wait_seconds": self._wait_seconds,
            "seconds": progress.seconds,
            "images": progress.images,
            "broken": progress.broken,
            "broken_keys": [key for key, _ in self.broken],
            "skipped": progress.skipped,
            "resident_mib": resident_mib(),
        }

    def text(self) -> str:
        """The same in short, for people."""
        listing = "  ".join(f"{name} {value:.3f}" for name, value in self._means().items())
        waiting = self._wait_seconds / self._seconds()
        remark = f"  {waiting:.0%} waiting for data" if waiting > 0.1 else ""
        return f"{listing}  {self._images / self._seconds():.0f} images/s{remark}"

    def _means(self) -> dict[str, float]:
        return {name: sum(values) / len(values) for name, values in self._parts.items()}

    def _seconds(self) -> float:
        return max(time.perf_counter() - self.started, 1e-9)


def as_numbers(figures: Mapping[str, torch.Tensor | float]) -> dict[str, float]:
    """Scalars, all of them in one transfer from the device."""
    tensors = [value.detach().double() if isinstance(value, torch.Tensor) else value for value in figures.values()]
    device = next((value.device for value in tensors if isinstance(value, torch.Tensor)), torch.device("cpu"))
    if not tensors:
        return {}
    numbers = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in tensors])
    return dict(zip(figures, numbers.tolist(), strict=True))
