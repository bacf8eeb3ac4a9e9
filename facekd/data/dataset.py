"""Source -> batches. A sample depends only on (seed, epoch, index), so that training resumes mid-epoch bit for bit."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.context import BaseContext
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.data.augmentation import augment
from facekd.data.permutation import Permutation
from facekd.data.sampling import IdentityGroups
from facekd.data.source import Source, UnreadableImage
from facekd.recipe.augmentation import AugmentationConfig

STORED_ORDER_BELOW = 12_500_000
"""Samples up to which an epoch's order is stored (8 bytes each, 100 MB); above, it is computed as it is needed."""

_POSITIONS = 1 << 16
# A worker told to end stays so long, for a loop that was told the same to finish its step.
_GRACE_SECONDS = 60

Batch = dict[str, Any]


class StoredRows(Protocol):
    """What is stored of each view of each image, such as a teacher's outputs.

    Attributes:
        views: of an image; epoch n shows view n modulo views.
        seed: view v of image i is augmented by default_rng([seed, v, i]).
    """

    @property
    def views(self) -> int: ...

    @property
    def seed(self) -> int: ...

    def read(self, view: int, indices: Sequence[int]) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Rows [b, ...] of some images by name, and bool [b]: of which something is stored."""
        ...


class FaceDataset(Dataset[Batch]):
    """Map-style over a source; an index is (epoch, i), as EpochSampler yields it. A whole batch is read at once.

    The augmentation of sample (epoch, i) draws from default_rng([seed, epoch, i]) alone: neither the worker, nor the
    order, nor what was read before changes it.
    """

    def __init__(
        self,
        source: Source,
        *,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        stored: StoredRows | None = None,
    ) -> None:
        """
        Args:
            source: the images.
            augmentation: None leaves every image as it is.
            seed: at least 0.
            stored: what a batch brings beside its images; their views are then its views.
        """
        if seed < 0:
            raise UsageError(f"seed must be at least 0, got {seed}")
        self.source = source
        self.augmentation = augmentation
        self.seed = seed if stored is None else stored.seed
        self.stored = stored

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: tuple[int, int]) -> Batch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[tuple[int, int]]) -> Batch:
        """Reads what can be read and lists what cannot; torch's loader calls this once a batch.

        Returns:
            images: uint8 [b, 3, h, w], in NHWC memory, as decoders write pixels; labels: int64 [b]; keys: list of b
            names; broken: list of (key, reason).
            stored, if something is: tensors [b, ...] by name.
            b is smaller than the number of indices by len(broken), and may be 0 (images [0, 3, 0, 0]).

        Raises:
            UsageError: the images are not all of one size.
        """
        images, shape = np.empty((0, 0, 0, 3), dtype=np.uint8), None
        read: list[int] = []
        broken: list[tuple[str, str]] = []
        stored: dict[str, np.ndarray] = {}
        if self.stored is not None:
            indices, stored, broken = self._stored(self.stored, indices)
        places: list[int] = []
        for place, (epoch, i) in enumerate(indices):
            try:
                image = self.source.read(i)
            except UnreadableImage as error:
                broken.append((error.key, error.reason))
                continue
            if self.augmentation is not None:
                image = augment(image, self.augmentation, np.random.default_rng([self.seed, epoch, i]))
            if shape is None:
                shape = image.shape
                images = np.empty((len(indices), *shape), dtype=np.uint8)
            elif image.shape != shape:
                raise UsageError(f"image {self.source.key(i)} of {self.source.name} has another size than the others")
            images[len(read)] = image  # straight into the batch, and reordered only if the training asks for NCHW
            read.append(i)
            places.append(place)
        batch = {
            "images": torch.from_numpy(images[: len(read)]).permute(0, 3, 1, 2),
            "labels": torch.from_numpy(self.source.labels[read].astype(np.int64)),
            "keys": [self.source.key(i) for i in read],
            "broken": broken,
        }
        if stored:
            batch["stored"] = {name: torch.from_numpy(rows[places]) for name, rows in stored.items()}
        return batch

    def _stored(
        self, stored: StoredRows, indices: Sequence[tuple[int, int]]
    ) -> tuple[list[tuple[int, int]], dict[str, np.ndarray], list[tuple[str, str]]]:
        """(view, i) of the images of one epoch that something is stored of, their rows, and the others by name."""
        (view,) = {epoch % stored.views for epoch, _ in indices}
        rows, there = stored.read(view, [i for _, i in indices])
        kept = [(view, i) for (_, i), has in zip(indices, there, strict=True) if has]
        lost = [self.source.key(i) for (_, i), has in zip(indices, there, strict=True) if not has]
        broken = [(key, "nothing is stored of it: it could not be read then") for key in lost]
        return kept, {name: values[there] for name, values in rows.items()}, broken


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, i) for one rank of one epoch, from the `start`-th sample of that rank on.

    The permutation is default_rng([seed, epoch]).shuffle's, from STORED_ORDER_BELOW samples on Permutation's, the same
    on every rank; rank r takes every num_replicas-th from r. With `groups` the order is theirs, and a rank takes every
    num_replicas-th group.
    What does not divide by num_replicas at the end is left out, so that every rank makes as many steps.
    """

    def __init__(
        self,
        n: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        start: int = 0,
        shuffle: bool = True,
        num_replicas: int = 1,
        rank: int = 0,
        groups: IdentityGroups | None = None,
    ) -> None:
        """
        Args:
            n: samples in the source.
            seed: of the permutation.
            epoch: 0-based.
            start: samples of this rank already consumed in this epoch.
            shuffle: False keeps the source's order.
            num_replicas: ranks that share the epoch.
            rank: this one.
            groups: an order that keeps images of one identity together, over the same n samples; it is shuffled.
        """
        if not 0 <= rank < num_replicas:
            raise UsageError(f"rank must be in 0 .. num_replicas - 1, got rank {rank} of {num_replicas}")
        self.n = n
        self.seed = seed
        self.shuffle = shuffle
        self.num_replicas = num_replicas
        self.rank = rank
        self.groups = groups
        unit = groups.size if groups is not None else 1
        self.samples = n // (unit * num_replicas) * unit  # of this rank, in an epoch
        self.set_epoch(epoch, start)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses what the next iteration yields; a loader with persistent workers keeps them."""
        if not 0 <= start <= self.samples:
            raise UsageError(f"start must be in 0 .. {self.samples} (samples a rank), got {start}")
        self.epoch = epoch
        self.start = start

    def __len__(self) -> int:
        return self.samples - self.start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        if self.n >= STORED_ORDER_BELOW or self.groups is not None:
            yield from self._computed_order()
            return
        order = np.arange(self.n)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch]).shuffle(order)
        mine = order[: self.samples * self.num_replicas][self.rank :: self.num_replicas]
        epoch = self.epoch
        for i in mine[self.start :]:
            yield epoch, int(i)

    def _computed_order(self) -> Iterator[tuple[int, int]]:
        """As __iter__, in constant memory, and without walking over what was consumed."""
        epoch = self.epoch
        for first in range(self.start, self.samples, _POSITIONS):
            for i in self._indices(epoch, np.arange(first, min(first + _POSITIONS, self.samples))):
                yield epoch, int(i)

    def _indices(self, epoch: int, mine: np.ndarray) -> np.ndarray:
        """The images at places `mine` (int64 [m]) of this rank's order, int64 [m]."""
        if self.groups is not None:
            units, within = np.divmod(mine, self.groups.size)
            positions = (units * self.num_replicas + self.rank) * self.groups.size + within
            return self.groups.indices(self.seed, epoch, positions)
        positions = mine * self.num_replicas + self.rank
        return Permutation(self.n, self.seed, epoch)[positions] if self.shuffle else positions


def make_loader(
    source: Source,
    *,
    augmentation: AugmentationConfig | None,
    batch_size: int,
    seed: int,
    epoch: int = 0,
    start_batch: int = 0,
    workers: int = 2,
    drop_last: bool = True,
    shuffle: bool = True,
    num_replicas: int = 1,
    rank: int = 0,
    pin_memory: bool = False,
    groups: IdentityGroups | None = None,
    stored: StoredRows | None = None,
    context: str | None = None,
) -> DataLoader[Any]:
    """A loader of dicts as FaceDataset makes them, from batch `start_batch` of `epoch` on.

    For the next epoch call `loader.sampler.set_epoch(epoch)` and iterate again: the workers stay.

    Args:
        source: the images.
        augmentation: None for none.
        batch_size: samples a batch, of this rank.
        seed: of order and augmentation.
        epoch: 0-based.
        start_batch: batches of this rank already consumed in this epoch.
        workers: processes that read; 0 reads in this one, with the same result.
        drop_last: leave out the last, smaller batch.
        shuffle: False keeps the source's order.
        num_replicas: ranks that share the epoch.
        rank: this one.
        pin_memory: for copies to CUDA that overlap.
        groups: an order that keeps images of one identity together; `batch_size` is a multiple of their size.
        stored: what batches bring beside their images.
        context: how workers start, "fork" or "spawn"; by default fork on Linux, spawn elsewhere.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size must be at least 1, got {batch_size}")
    if groups is not None and batch_size % groups.size:
        raise UsageError(f"batch_size {batch_size} is not a multiple of the {groups.size} images of an identity")
    sampler = EpochSampler(
        len(source),
        seed=seed,
        epoch=epoch,
        shuffle=shuffle,
        num_replicas=num_replicas,
        rank=rank,
        groups=groups,
    )
    if drop_last and sampler.samples < batch_size:
        raise UsageError(
            f"batch_size {batch_size} is larger than the {sampler.samples} images of {source.name}: lower it"
        )
    sampler.set_epoch(epoch, min(start_batch * batch_size, sampler.samples))
    return DataLoader(
        FaceDataset(source, augmentation=augmentation, seed=seed, stored=stored),
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=_as_it_is,
        num_workers=workers,
        drop_last=drop_last,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        persistent_workers=workers > 0,
        prefetch_factor=4 if workers > 0 else None,
        multiprocessing_context=_context(context) if workers > 0 else None,
    )


def make_view_loader(
    source: Source,
    batches: Sequence[list[tuple[int, int]]],
    *,
    augmentation: AugmentationConfig,
    seed: int,
    workers: int,
) -> DataLoader[Any]:
    """A loader of the given batches of (view, i), as FaceDataset makes them, in this order."""
    return DataLoader(
        FaceDataset(source, augmentation=augmentation, seed=seed),
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_start_worker,
        prefetch_factor=2 if workers > 0 else None,
        multiprocessing_context=_context(None) if workers > 0 else None,
    )


def _as_it_is(batch: Any) -> Any:
    """FaceDataset has made the batch; torch's own collation would go through its keys once more."""
    return batch


def _context(name: str | None) -> BaseContext:
    name = name or ("fork" if sys.platform.startswith("linux") else "spawn")
    # Not forkserver: its workers are not this process's children, and _start_worker could not tell who is an orphan.
    valid = [method for method in multiprocessing.get_all_start_methods() if method != "forkserver"]
    if name not in valid:
        raise UsageError(f"unknown worker context {shown(name)}: one of {valid}")
    return multiprocessing.get_context(name)


def _start_worker(worker: int) -> None:
    """One process, one core: OpenCV's own threads would fight the training step, and hang after a fork.

    torch lets a worker end with its parent from here on; one whose parent was killed before would wait forever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    # Ctrl-C, and a SIGTERM to the whole group (systemd, Slurm), are the loop's to handle: it still needs the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))
