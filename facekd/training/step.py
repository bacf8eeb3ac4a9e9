"""One optimiser step: forward, backward over its batches, checks, clip, update."""

from collections.abc import Sequence
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
    """The loss or a gradient is not finite. The weights, buffers and optimisers are those from before the step.

    Attributes:
        parts: the loss parts of the step.
        keys: keys of the images in the batches whose loss is not finite; of all, if only the gradient is not.
    """

    def __init__(self, what: str, parts: dict[str, float], keys: list[str]) -> None:
        super().__init__(what)
        self.parts = parts
        self.keys = keys


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


class TrainStep:
    """Makes optimiser steps of a task.

    The loss of a step is the mean over its images, whatever their split into batches: each batch's loss counts by
    its share of the images. So accumulation equals the large batch exactly, up to batch normalisation, and a step
    of fewer images (end of an epoch, broken images) has the same scale.

    Args:
        task: forward(images uint8 [b, 3, h, w], labels int64 [b]) -> TaskOutput.
        model: what is called instead of it: the task as DistributedDataParallel wraps it. It averages gradients over
            the ranks, so each rank's loss counts by its share of all images times the number of ranks.
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
    ) -> None:
        self.task = task
        self.model = model or as_module(task)
        self.optimisers = optimisers
        self.precision = precision
        self.scaler = scaler
        self.skipped = 0
        self._skipped_in_a_row = 0

    def step(self, step_batches: StepBatches, step: int) -> StepReport:
        """Makes optimiser step number `step` (from 0).

        Raises:
            Diverged: the loss or gradient is not finite; nothing has changed then.
        """
        self.task.begin_step(step)
        rates = self.optimisers.set_rates(step)
        buffers = _Buffers(as_module(self.task))
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
        # One transfer from the device for everything the host has to look at.
        names = list(parts[0])
        sums = [torch.stack([one[name] for one in parts]).sum() for name in names]
        figures = torch.stack([*sums, *losses, norm.float()]).tolist()
        batch_losses, norm_value = figures[len(names) : -1], figures[-1]
        values = {"loss": sum(a * b for a, b in zip(batch_losses, shares, strict=True))}
        values |= dict(zip(names, figures, strict=False))
        values = collectives.mean_by_name(values)  # a loss that is not finite on one rank is so on all from here
        finite = bool(torch.isfinite(torch.tensor([*batch_losses, norm_value, values["loss"]])).all())
        if finite:
            self.optimisers.step(norm, self.scaler)
            self._skipped_in_a_row = 0
        else:
            buffers.restore()
            self._give_up_or_skip(values, batch_losses, norm_value, step_batches)
        if self.scaler is not None:
            self.scaler.update()
        self.optimisers.zero_grad()
        return StepReport(values, norm_value, rates, skipped=not finite)

    def _forward(self, batch: Batch) -> TaskOutput:
        with self.precision.autocast():
            output: TaskOutput = self.model(*self.precision.arguments(batch))
        return output

    def _give_up_or_skip(
        self, parts: dict[str, float], batch_losses: Sequence[float], norm: float, step_batches: StepBatches
    ) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self.scaler is not None and self._skipped_in_a_row < MAX_SKIPS_IN_A_ROW:
            return
        self.optimisers.zero_grad()
        values = [loss for loss in batch_losses if not _is_finite(loss)]
        bad = [not _is_finite(loss) for loss in batch_losses]
        keys = [key for batch, wrong in zip(step_batches.batches, bad, strict=True) if wrong for key in batch["keys"]]
        everyone = collectives.gather_objects((values, keys, step_batches.keys))
        values = [value for one in everyone for value in one[0]]
        keys = [key for one in everyone for key in one[1 if values else 2]]
        what, value = ("loss", values[0]) if values else ("gradient norm", norm)
        raise Diverged(f"the {what} is {value}", parts, keys)


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


def _is_finite(value: float) -> bool:
    return value - value == 0
