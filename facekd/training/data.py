"""What the loop reads: batches in an order that can be gone on with from any place, as one step's worth at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

Batch = dict[str, Any]
"""One forward's: "images" uint8 [b, 3, h, w], "labels" int64 [b], "keys", a name of each image; "stored", if the data
bring it, is tensors [b, ...] by name that the task gets beside images and labels."""


@dataclass
class StepBatches:
    """The batches of one optimiser step.

    Attributes:
        batches: of this rank; without those that were all broken.
        epoch: the epoch they belong to.
        next_batch: index, within the epoch, of the first batch after these.
        broken: (key, reason) of the images that could not be read, of all ranks.
        wait_seconds: time the training waited for them.
        elsewhere: images of the other ranks in the same step.
    """

    batches: list[Batch]
    epoch: int
    next_batch: int
    broken: list[tuple[str, str]] = field(default_factory=list)
    wait_seconds: float = 0.0
    elsewhere: int = 0

    @property
    def images(self) -> int:
        """Images in all batches of this rank."""
        return sum(len(batch["labels"]) for batch in self.batches)

    @property
    def total(self) -> int:
        """Images of the step, of all ranks."""
        return self.images + self.elsewhere

    @property
    def keys(self) -> list[str]:
        """Keys of all images."""
        return [key for batch in self.batches for key in batch["keys"]]


class TrainingData(Protocol):
    """The training data of a run: `BatchStream` of a recipe's source, `LoaderBatches` of a user's own DataLoader.

    Attributes:
        name: for messages.
        batches_per_epoch: over all ranks.
    """

    name: str
    batches_per_epoch: int

    def fingerprint(self) -> str:
        """sha256 (hex) that changes when the data does: a run goes on with the same data only."""
        ...

    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        ...

    def steps(self, epoch: int, batch: int) -> Iterator[StepBatches]:
        """Steps without end, from batch `batch` of `epoch` on, the same in every run."""
        ...

    def first_batch(self) -> Batch:
        """A batch to measure on; the random state stays as it was."""
        ...
