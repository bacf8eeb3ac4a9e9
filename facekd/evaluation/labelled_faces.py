"""Embeddings of a source of faces with identities, for figures that need to know who is who beyond a list of pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from facekd.common.errors import FacekdError
from facekd.data.source import Source, UnreadableImage
from facekd.evaluation.embedding import embed_images
from facekd.runtimes.embedder import Embedder

MOST_IMAGES = 50_000
"""More are not compared: 50,000 images have 1,250,000,000 pairs, enough for a false accept rate of 1e-7."""


@dataclass(frozen=True)
class LabelledEmbeddings:
    """Attributes:
    embeddings: float32 [n, e], raw, flips added.
    identities: int64 [n].
    faces, fingerprint: of the source.
    unreadable: image -> why it was passed over.
    left_out: images of the source that were not taken, since it has more than MOST_IMAGES.
    """

    embeddings: np.ndarray = field(repr=False)
    identities: np.ndarray = field(repr=False)
    faces: str
    fingerprint: str
    unreadable: dict[str, str]
    left_out: int

    def rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and identities of some images."""
        return self.embeddings[index], self.identities[index]


def embed_labelled(
    embedder: Embedder,
    source: Source,
    *,
    most_images: int = MOST_IMAGES,
    seed: int = 0,
    batch_size: int = 64,
    progress: bool = False,
) -> LabelledEmbeddings:
    """Embeds a source's images, all of a person or none where there are too many.

    Args:
        embedder: the model.
        source: aligned faces of the model's input size.
        most_images: people are drawn by `seed` until their images reach this number.
        seed: see most_images.
        batch_size: images a batch.
        progress: show a bar on stderr.

    Raises:
        FacekdError: no image can be read.
    """
    index = _whole_people(source.labels, most_images, seed)
    images = _Readable(source, index, embedder.input.size)
    embeddings = embed_images(embedder, images, batch_size=batch_size, progress=progress, description=source.name)
    kept = np.setdiff1d(np.arange(len(index)), [*images.unreadable])
    if len(kept) == 0:
        key, reason = next(iter(images.unreadable.values()))
        raise FacekdError(f"none of the {len(index):,} images of {source.name} can be read; the first, {key}: {reason}")
    return LabelledEmbeddings(
        embeddings=embeddings[kept],
        identities=np.asarray(source.labels)[index[kept]],
        faces=source.name,
        fingerprint=source.fingerprint(),
        unreadable=dict(images.unreadable.values()),
        left_out=len(source) - len(index),
    )


class _Readable(Sequence[np.ndarray]):
    """Images decoded when asked for; one that cannot be read is grey, and noted."""

    def __init__(self, source: Source, index: np.ndarray, size: tuple[int, int]) -> None:
        self._source, self._index, self._size = source, index, size
        self.unreadable: dict[int, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        try:
            return self._source.read(int(self._index[i]))
        except UnreadableImage as error:
            self.unreadable[i] = error.key, error.reason
            return np.full((*self._size, 3), 128, np.uint8)


def _whole_people(labels: np.ndarray, most_images: int, seed: int) -> np.ndarray:
    if len(labels) <= most_images:
        return np.arange(len(labels))
    people, sizes = np.unique(labels, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(people))
    taken = people[order[np.cumsum(sizes[order]) <= most_images]]
    return np.flatnonzero(np.isin(labels, taken))
