"""Batches in the order of the run: by epoch, from any place in it, gathered for one optimiser step each."""

import time
from collections.abc import Iterator
from typing import Any

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.data.dataset import make_loader
from facekd.data.sampling import IdentityGroups
from facekd.data.source import Source
from facekd.distillation.teacher_cache import open_cache
from facekd.distributed import collectives
from facekd.recipe import Recipe, TrainingConfig
from facekd.training.data import Batch, StepBatches
from facekd.training.reproducibility import preserved_random_state


class BatchStream:
    """The training data of a recipe as steps of `accumulation` batches.

    An epoch whose batches are not a multiple of `accumulation` ends in a step of fewer. A batch loses its broken
    images; one with fewer than two left is left out, since batch normalisation has no statistics of a single image.

    On several ranks each takes its part of every batch, so that the recipe's batches, steps and places in an epoch are
    the same whatever their number. A batch that is left out on one rank is left out on all.

    Raises:
        UsageError: batches larger than the data, or that do not divide over the ranks.
    """

    def __init__(self, recipe: Recipe, source: Source) -> None:
        self._recipe = recipe
        self._source = source
        self._cache = open_cache(recipe, source)
        self.name = source.name
        self.batch_size = recipe.training.batch_size
        self.accumulation = recipe.training.accumulation
        ranks = collectives.world()
        self._batch_of_rank = self.batch_size // ranks
        if self.batch_size % ranks or self._batch_of_rank < 2:
            valid = [n for n in range(2, self.batch_size // 2 + 1) if self.batch_size % n == 0]
            raise UsageError(
                f"training.batch_size = {self.batch_size} is of all ranks and does not divide over {ranks} with two "
                f"images or more each: start {', '.join(map(str, [1, *valid]))} ranks, or change the batch"
            )
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

    def fingerprint(self) -> str:
        """The source's."""
        return self._source.fingerprint()

    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return steps_of(self._recipe.training, self.batches_per_epoch)

    def steps(self, epoch: int, batch: int) -> Iterator[StepBatches]:
        """Steps without end, from batch `batch` of `epoch` on."""
        loader = self._loader(workers=self._recipe.data.workers)
        while True:
            delivered = 0
            loader.sampler.set_epoch(epoch, batch * self._batch_of_rank)  # the workers stay over the epochs
            for step_batches in self._rest_of_epoch(loader, epoch, batch):
                delivered += len(step_batches.batches)
                yield step_batches
            if delivered == 0 and batch == 0:
                raise FacekdError(
                    f"not one batch of epoch {epoch} of {self._source.name} could be read: see `facekd data inspect`"
                )
            epoch, batch = epoch + 1, 0

    def first_batch(self) -> Batch:
        """The first readable batch, loaded in this process: to measure on."""
        with preserved_random_state():
            batch: Batch
            for batch in self._loader(workers=0):
                if len(batch["labels"]) >= 2:
                    return batch
        raise FacekdError(f"not one batch of {self._source.name} could be read: see `facekd data inspect`")

    def _loader(self, *, workers: int) -> Any:
        return make_loader(
            self._source,
            augmentation=self._recipe.data.augmentation,
            batch_size=self._batch_of_rank,
            num_replicas=collectives.world(),
            rank=collectives.rank(),
            seed=self._recipe.seed,
            workers=workers,
            drop_last=True,
            pin_memory=torch.cuda.is_available(),
            groups=self._groups,
            stored=self._cache,
        )

    def _rest_of_epoch(self, loader: Any, epoch: int, batch: int) -> Iterator[StepBatches]:
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
                yield _of_step(gathered, epoch, index + 1, broken, time.perf_counter() - start)
                gathered, broken, start = [], [], time.perf_counter()


def _of_step(
    batches: list[Batch], epoch: int, next_batch: int, broken: list[tuple[str, str]], wait: float
) -> StepBatches:
    """Those of a step's batches that have two images or more on every rank."""
    everyone = collectives.gather_numbers(len(broken), *(len(batch["labels"]) for batch in batches))
    if any(counts[0] for counts in everyone):
        broken = [one for listed in collectives.gather_objects(broken) for one in listed]
    usable = [all(counts[1 + i] >= 2 for counts in everyone) for i in range(len(batches))]
    total = sum(count for counts in everyone for count, use in zip(counts[1:], usable, strict=True) if use)
    kept = [batch for batch, use in zip(batches, usable, strict=True) if use]
    own = sum(len(batch["labels"]) for batch in kept)
    return StepBatches(kept, epoch, next_batch, broken, wait, elsewhere=total - own)


def steps_of(training: TrainingConfig, batches_per_epoch: int) -> int:
    """Optimiser steps of a whole run whose epochs have so many batches."""
    steps = max(1, round(training.epochs * -(-batches_per_epoch // training.accumulation)))
    return min(steps, training.max_steps or steps)


def epochs_of(recipe: Recipe, source: Source) -> float:
    """Passes over `source` that the whole run makes."""
    batches = max(1, len(source) // recipe.training.batch_size)
    return steps_of(recipe.training, batches) * recipe.training.accumulation / batches
