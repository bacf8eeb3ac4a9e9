"""A user's own DataLoader as training data."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Protocol

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import text_sha256
from facekd.distributed import collectives
from facekd.recipe import TrainingConfig
from facekd.training.data import Batch, StepBatches
from facekd.training.reproducibility import preserved_random_state
from facekd.training.stream import steps_of


class Loader(Protocol):
    """What a `torch.utils.data.DataLoader` of (images, labels) is: batches of known number, epoch for epoch."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...


class LoaderBatches:
    """Batches of a user's own DataLoader, which yields (images uint8 RGB [b, 3, h, w], labels int64 [b]).

    The order within an epoch is the loader's own; its sampler's `set_epoch(epoch)` is called if there is one. A run
    that goes on from the middle of an epoch passes over the batches that were done, so it continues exactly where the
    loader gives the same epoch again: seed its sampler by the epoch. On several ranks give each rank its own part, as
    `torch.utils.data.DistributedSampler` does, of equally many and equally large batches.

    Args:
        loader: re-iterable, of a known length.
        training: the recipe's section: epochs, steps, accumulation.
        name: of the data, for messages and the checkpoints' fingerprint: another name is other data.

    Raises:
        UsageError: the loader has no batch.
    """

    def __init__(self, loader: Loader, training: TrainingConfig, *, name: str = "a DataLoader") -> None:
        if isinstance(loader, torch.utils.data.Dataset):
            kind = type(loader).__name__
            raise UsageError(f"{kind} is a Dataset: give torch.utils.data.DataLoader(it, batch_size=...)")
        self._loader, self._training = loader, training
        self.name = name
        self.batches_per_epoch = len(loader)
        if self.batches_per_epoch == 0:
            raise UsageError(f"{name} has no batch")

    def fingerprint(self) -> str:
        """Of the name and the number of batches: what of the data can be seen from outside."""
        return text_sha256(f"{self.name} {self.batches_per_epoch}")

    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return steps_of(self._training, self.batches_per_epoch)

    def steps(self, epoch: int, batch: int) -> Iterator[StepBatches]:
        """Steps without end, from batch `batch` of `epoch` on."""
        while True:
            set_epoch = getattr(getattr(self._loader, "sampler", None), "set_epoch", None)
            if set_epoch is not None:
                set_epoch(epoch)
            yield from self._rest_of_epoch(epoch, batch)
            epoch, batch = epoch + 1, 0

    def first_batch(self) -> Batch:
        """The first batch."""
        with preserved_random_state():
            return self._batch(next(iter(self._loader)), "0-0")

    def _rest_of_epoch(self, epoch: int, first: int) -> Iterator[StepBatches]:
        with preserved_random_state():  # iterating draws a seed, once more in a run that goes on
            batches = islice(iter(self._loader), first, None)
        gathered: list[Batch] = []
        start = time.perf_counter()
        for index in range(first, self.batches_per_epoch):
            given = next(batches, None)
            if given is None:
                raise FacekdError(f"{self.name} ended epoch {epoch} after {index} of {self.batches_per_epoch} batches")
            gathered.append(self._batch(given, f"{epoch}-{index}"))
            if len(gathered) == self._training.accumulation or index + 1 == self.batches_per_epoch:
                own = sum(len(batch["labels"]) for batch in gathered)
                elsewhere = own * (collectives.world() - 1)
                yield StepBatches(gathered, epoch, index + 1, [], time.perf_counter() - start, elsewhere)
                gathered, start = [], time.perf_counter()

    def _batch(self, given: Any, place: str) -> Batch:
        if not isinstance(given, Sequence) or len(given) < 2:
            raise UsageError(f"{self.name} yields {type(given).__name__}, not (images, labels)")
        images, labels = given[0], given[1]
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3 or len(labels) != len(images):
            raise UsageError(
                f"{self.name} yields images {images.dtype} {list(images.shape)} and {len(labels)} labels, "
                "not uint8 RGB [b, 3, h, w] and one label each"
            )
        keys = [f"{self.name}:{place}-{i}" for i in range(len(labels))]
        return {"images": images, "labels": labels.long(), "keys": keys, "broken": []}
