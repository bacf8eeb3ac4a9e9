"""Batches in the order of the run: by epoch, from any place in it, gathered into the windows of one optimiser step."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from facekd.data.dataset import make_loader
from facekd.data.sampling import IdentityGroups
from facekd.data.source import Source
from facekd.errors import FacekdError, UsageError
from facekd.recipe import Recipe
from facekd.training.reproducibility import preserved_random_state

Batch = dict[str, Any]


@dataclass
class Window:
    """The batches of one optimiser step.

    Attributes:
        batches: "images" uint8 [b, 3, h, w], "labels" int64 [b], "keys"; without the batches that were all broken.
        epoch: the epoch they belong to.
        next_batch: index, within the epoch, of the first batch after this window.
        broken: (key, reason) of the images that could not be read.
        wait_seconds: time the training waited for them.
    """

    batches: list[Batch]
    epoch: int
    next_batch: int
    broken: list[tuple[str, str]] = field(default_factory=list)
    wait_seconds: float = 0.0

    @property
    def images(self) -> int:
        """Images in all batches."""
        return sum(len(batch["labels"]) for batch in self.batches)

    @property
    def keys(self) -> list[str]:
        """Keys of all images."""
        return [key for batch in self.batches for key in batch["keys"]]


class Feed:
    """The training data of a recipe as windows of `accumulation` batches.

    An epoch whose batches are not a multiple of `accumulation` ends in a shorter window. A batch loses its broken
    images; one with fewer than two left is left out, since batch normalisation has no statistics of a single image.
    """

    def __init__(self, recipe: Recipe, source: Source) -> None:
        self._recipe = recipe
        self._source = source
        self.batch_size = recipe.training.batch_size
        self.accumulation = recipe.training.accumulation
        size = recipe.data.images_per_identity
        self._groups = IdentityGroups(source.labels, size) if size is not None else None
        self.batches_per_epoch = len(source) // self.batch_size
        if self.batches_per_epoch == 0:
            raise UsageError(
                f"training.batch_size = {self.batch_size}, but {source.name} has {len(source)} images: "
                f"give at most {len(source)}"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return -(-self.batches_per_epoch // self.accumulation)

    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        steps = max(1, round(self._recipe.training.epochs * self.steps_per_epoch))
        return min(steps, self._recipe.training.max_steps or steps)

    def windows(self, epoch: int, batch: int) -> Iterator[Window]:
        """Windows without end, from batch `batch` of `epoch` on."""
        loader = self._loader(workers=self._recipe.data.workers)
        while True:
            delivered = 0
            loader.sampler.set_epoch(epoch, batch * self.batch_size)  # the workers stay over the epochs
            for window in self._rest_of_epoch(loader, epoch, batch):
                delivered += len(window.batches)
                yield window
            if delivered == 0 and batch == 0:
                raise FacekdError(
                    f"not one batch of epoch {epoch} of {self._source.name} could be read: see `facekd data inspect`"
                )
            epoch, batch = epoch + 1, 0

    def first_batch(self) -> Batch:
        """The first readable batch, loaded in this process: to measure on."""
        with preserved_random_state():
            for batch in self._loader(workers=0):
                if len(batch["labels"]) >= 2:
                    return batch
        raise FacekdError(f"not one batch of {self._source.name} could be read: see `facekd data inspect`")

    def _loader(self, *, workers: int) -> Any:
        return make_loader(
            self._source,
            augmentation=self._recipe.data.augmentation,
            batch_size=self.batch_size,
            seed=self._recipe.seed,
            workers=workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            groups=self._groups,
        )

    def _rest_of_epoch(self, loader: Any, epoch: int, batch: int) -> Iterator[Window]:
        # torch draws a seed for the workers from the global generator, once for each iterator. A resumed run opens
        # one more iterator than an uninterrupted one, so that draw must leave no trace.
        start = time.perf_counter()
        with preserved_random_state():
            batches = iter(loader)
        gathered: list[Batch] = []
        broken: list[tuple[str, str]] = []
        for index in range(batch, self.batches_per_epoch):
            item = next(batches, None)
            if item is None:
                raise FacekdError(f"the loader ended epoch {epoch} after {index} of {self.batches_per_epoch} batches")
            gathered.append(item)
            broken.extend(item["broken"])
            if len(gathered) == self.accumulation or index + 1 == self.batches_per_epoch:
                usable = [one for one in gathered if len(one["labels"]) >= 2]
                yield Window(usable, epoch, index + 1, broken, time.perf_counter() - start)
                gathered, broken, start = [], [], time.perf_counter()
