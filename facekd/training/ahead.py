"""Batches on their way to a device while it computes."""

from collections.abc import Iterator

import torch

from facekd.training.data import Batch, StepBatches


class Ahead(Iterator[StepBatches]):
    """Steps of batches, read and copied one ahead of the step that is being made.

    On CUDA, images and what is stored of them are copied on a stream of their own out of pinned memory, so that neither
    the host nor the device waits for the copy. An error of the data is raised when the step that it belongs to is due.
    Labels stay: they are looked at on the host first.

    Args:
        steps: the training data; iterated one further than what was given out.
        device: where the training runs.
    """

    def __init__(self, steps: Iterator[StepBatches], device: torch.device) -> None:
        self._steps = steps
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: StepBatches | BaseException | None = None

    def __next__(self) -> StepBatches:
        due = self._read() if self._next is None else self._next
        self._next = None
        if isinstance(due, BaseException):
            raise due
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for batch in due.batches:
                for tensor in _tensors(batch).values():
                    tensor.record_stream(current)  # its memory is not given to the next copy before this step is done
        self._next = self._read()
        return due

    def _read(self) -> StepBatches | BaseException:
        try:
            step_batches = next(self._steps)
        except Exception as error:  # a lost worker, a full disk, the end: of the next step, not of this one
            return error
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                step_batches.batches = [self._there(batch) for batch in step_batches.batches]
        return step_batches

    def _there(self, batch: Batch) -> Batch:
        moved = {**batch, "images": batch["images"].to(self._device, non_blocking=True)}
        if "stored" in batch:
            stored = batch["stored"]
            moved["stored"] = {name: value.to(self._device, non_blocking=True) for name, value in stored.items()}
        return moved


def _tensors(batch: Batch) -> dict[str, torch.Tensor]:
    return {"images": batch["images"], **batch.get("stored", {})}
