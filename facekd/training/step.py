"""One optimiser step: forward, backward over its batches, checks, clip, update."""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import nn

from facekd.common.errors import FacekdError
from facekd.distributed import collectives
from facekd.training.data import Batch, StepBatches
from facekd.training.distributed import without_sync
from facekd.training.optimisation import Optimisers
from facekd.training.precision import Precision
from facekd.training.task import TaskOutput, TrainingTask, as_module

MAX_SKIPS_IN_A_ROW = 25
"""fp16 steps that may overflow one after the other: the scale falls from 65,536 to below 0.01 meanwhile."""


class Diverged(FacekdError):
    """The loss or a gradient is not finite.

    Attributes:
        parts: the loss parts of the step.
        keys: keys of the images in the batches whose loss is not finite; of all, if only the gradient is not.
        step: number of that step (from 0).
        undone: weights, buffers and optimisers are those from before the step; else it was seen too late for that.
    """

    def __init__(self, what: str, parts: dict[str, float], keys: list[str], *, step: int, undone: bool) -> None:
        super().__init__(what)
        self.parts = parts
        self.keys = keys
        self.step = step
        self.undone = undone


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        parts: the loss ("loss") and its parts, means over the step's images.
        gradient_norm: global norm before clipping.
        rates: learning rate by parameter group.
        skipped: nothing was updated, since the fp16 gradients overflowed.
    """

    parts: dict[str, float]
    gradient_norm: float
    rates: dict[str, float]
    skipped: bool


@dataclass(frozen=True)
class _Pending:
    """A step whose figures are on their way: `figures` [parts, batch losses, norm] are still on the device."""

    step: int
    names: list[str]
    shares: list[float]
    figures: torch.Tensor
    rates: dict[str, float]
    keys: list[list[str]]


class TrainStep:
    """Makes optimiser steps of a task.

    On a CPU, and with fp16, each step is looked at before it is made, and undone where it is not finite. On CUDA that
    would make the host wait for the device in every step, so a step's figures stay there until `look` fetches those of
    all steps since the last time, in one transfer: before a log line, an evaluation and a checkpoint, so that a bad
    step is never saved.

    The loss of a step is the mean over its images, whatever their split into batches: each batch's loss counts by
    its share of the images. So accumulation equals the large batch exactly, up to batch normalisation, and a step
    of fewer images (end of an epoch, broken images) has the same scale.

    Args:
        task: forward(images uint8 [b, 3, h, w], labels int64 [b]) -> TaskOutput.
        model: what is called instead of it: the task as DistributedDataParallel wraps it. It averages gradients over
            the ranks, so each rank's loss counts by its share of all images times the number of ranks.
        every_step: look at each step before it is made; None: as above.
        optimisers: of the task's parameters.
        precision: autocast type and layout.
        scaler: for fp16.
    """

    def __init__(
        self,
        task: TrainingTask,
        optimisers: Optimisers,
        precision: Precision,
        scaler: torch.amp.GradScaler | None,
        model: nn.Module | None = None,
        *,
        every_step: bool | None = None,
    ) -> None:
        self.task = task
        self.every_step = precision.device.type == "cpu" or scaler is not None if every_step is None else every_step
        self._pending: list[_Pending] = []
        self.model = model or as_module(task)
        self.optimisers = optimisers
        self.precision = precision
        self.scaler = scaler
        self.skipped = 0
        self._skipped_in_a_row = 0

    def step(self, step_batches: StepBatches, step: int) -> list[StepReport]:
        """Makes optimiser step number `step` (from 0).

        Returns:
            its report, if each step is looked at; nothing before `look` otherwise.

        Raises:
            Diverged: the loss or gradient is not finite; nothing has changed then.
            UsageError: a label is outside the head's classes.
        """
        self.task.begin_step(step)
        rates = self.optimisers.set_rates(step)
        buffers = _Buffers(as_module(self.task)) if self.every_step else None
        self.optimisers.zero_grad()
        losses, parts = [], []
        shares = [len(batch["labels"]) * collectives.world() / step_batches.total for batch in step_batches.batches]
        for batch, share in zip(step_batches.batches, shares, strict=True):
            with nullcontext() if batch is step_batches.batches[-1] else without_sync(self.model):
                output = self._forward(batch)
                loss = output.loss * share
                (loss if self.scaler is None else self.scaler.scale(loss)).backward()
            losses.append(output.loss.detach().float())
            parts.append({name: value.detach().float() * share for name, value in output.parts.items()})
        if self.scaler is not None:
            for optimiser in self.optimisers.torch.values():
                self.scaler.unscale_(optimiser)
        norm = self.optimisers.gradient_norm()
        names = list(parts[0])
        sums = [torch.stack([one[name] for one in parts]).sum() for name in names]
        figures = torch.stack([*sums, *losses, norm.float()])
        keys = [batch["keys"] for batch in step_batches.batches]
        self._pending.append(_Pending(step, names, shares, figures, rates, keys))
        if buffers is None:
            self.optimisers.step(norm)
            self.optimisers.zero_grad()
            return []
        (report,) = self._fetch()
        if report.skipped:
            buffers.restore()
            self._give_up_or_skip()
        else:
            self.optimisers.step(norm, self.scaler)
            self._skipped_in_a_row = 0
        self._pending.clear()
        if self.scaler is not None:
            self.scaler.update()
        self.optimisers.zero_grad()
        return [report]

    def look(self) -> list[StepReport]:
        """The reports of the steps since the last time, in one transfer from the device; none if each was looked at.

        Raises:
            Diverged: one of them was not finite. It was made all the same: the weights are of no use any more.
        """
        reports = self._fetch()
        bad = next((i for i, report in enumerate(reports) if report.skipped), None)
        if bad is not None:
            self._pending = self._pending[bad:]
            raise self._diverged(undone=False)
        self._pending.clear()
        return reports

    def _fetch(self) -> list[StepReport]:
        """Reports of the pending steps; `skipped` where one is not finite."""
        if not self._pending:
            return []
        numbers = torch.cat([one.figures for one in self._pending]).tolist()
        reports, first = [], 0
        for one in self._pending:
            figures = numbers[first : first + len(one.figures)]
            first += len(one.figures)
            losses, norm = figures[len(one.names) : -1], figures[-1]
            values = {"loss": sum(a * b for a, b in zip(losses, one.shares, strict=True))}
            values |= dict(zip(one.names, figures, strict=False))
            values = collectives.mean_by_name(values)  # a loss that is not finite on one rank is so on all from here
            finite = all(map(math.isfinite, [*losses, norm, values["loss"]]))
            reports.append(StepReport(values, norm, one.rates, skipped=not finite))
        return reports

    def _forward(self, batch: Batch) -> TaskOutput:
        if self.task.head is not None and batch["labels"].device.type == "cpu":
            self.task.head.check_labels(batch["labels"])  # on a device its values would have to be waited for
        with self.precision.autocast():
            output: TaskOutput = self.model(*self.precision.arguments(batch))
        return output

    def _give_up_or_skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self.scaler is not None and self._skipped_in_a_row < MAX_SKIPS_IN_A_ROW:
            return
        self.optimisers.zero_grad()
        raise self._diverged(undone=True)

    def _diverged(self, *, undone: bool) -> Diverged:
        """Of the first pending step."""
        one, report = self._pending[0], self._fetch()[0]
        self._pending.clear()
        losses = one.figures.tolist()[len(one.names) : -1]
        wrong = [(loss, keys) for loss, keys in zip(losses, one.keys, strict=True) if not math.isfinite(loss)]
        found = ([loss for loss, _ in wrong], [key for _, keys in wrong for key in keys])
        everyone = collectives.gather_objects((*found, [key for keys in one.keys for key in keys]))
        values = [value for rank in everyone for value in rank[0]]
        keys = [key for rank in everyone for key in rank[1 if values else 2]]
        what, value = ("loss", values[0]) if values else ("gradient norm", report.gradient_norm)
        return Diverged(f"the {what} is {value}", report.parts, keys, step=one.step, undone=undone)


class _Buffers:
    """A copy of the buffers that a forward in training mode may change (BN statistics, moving class centres)."""

    def __init__(self, task: nn.Module) -> None:
        self._places = [
            (module, name)
            for module in task.modules()
            if module.training  # the frozen teacher is in eval and changes nothing
            for name, buffer in module._buffers.items()
            if buffer is not None
        ]
        self._copies = [module._buffers[name].clone() for module, name in self._places]  # type: ignore[union-attr]

    @torch.no_grad()
    def restore(self) -> None:
        for (module, name), copy in zip(self._places, self._copies, strict=True):
            module._buffers[name].copy_(copy)  # type: ignore[union-attr]
