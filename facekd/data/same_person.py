"""Pairs of pictures of one person, sampled from whatever labelled faces there are: to judge a model by."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from facekd.data.source import Source, UnreadableImage
from facekd.data.verification_set import VerificationSet

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SamePersonPairs:
    """At most one pair of pictures a person of a source, or the genuine pairs of a verification set, in random order.

    Attributes:
        faces: where they come from.
        places: [n, 2] of the pictures.
    """

    faces: Source | VerificationSet
    places: np.ndarray

    @classmethod
    def of(cls, faces: Source | VerificationSet, *, seed: int = 0) -> "SamePersonPairs":
        """The pairs, in an order that `seed` determines; nothing is read yet."""
        random = np.random.default_rng(seed)
        if isinstance(faces, VerificationSet):
            genuine = random.permutation(np.flatnonzero(faces.issame))
            return cls(faces, np.stack([2 * genuine, 2 * genuine + 1], axis=1))
        order = random.permutation(len(faces))
        order = order[np.argsort(faces.labels[order], kind="stable")]  # a person's pictures side by side, shuffled
        labels = faces.labels[order]
        first = np.flatnonzero(np.append(labels[1:] == labels[:-1], False))
        _, one_each = np.unique(labels[first], return_index=True)
        first = random.permutation(first[one_each])
        return cls(faces, np.stack([order[first], order[first + 1]], axis=1))

    def __len__(self) -> int:
        return len(self.places)

    def read(self, count: int) -> np.ndarray:
        """The first `count` pairs that can be read, uint8 RGB [2n, 3, h, w]: rows 2i and 2i + 1 are one person's."""
        images: list[np.ndarray] = []
        for first, second in self._readable():
            images += [first, second]
            if len(images) == 2 * count:
                break
        stacked: np.ndarray = np.stack(images).transpose(0, 3, 1, 2) if images else np.empty((0, 3, 1, 1), np.uint8)
        return stacked

    def _readable(self) -> Iterator[Pair]:
        read = self.faces.image if isinstance(self.faces, VerificationSet) else self.faces.read
        for first, second in self.places:
            try:
                pair = read(int(first)), read(int(second))
            except UnreadableImage:
                continue
            if not np.array_equal(*pair):  # a picture listed twice is no evidence
                yield pair


def are_drawn(faces: Source | VerificationSet) -> bool:
    """Whether the faces are facekd's synthetic ones, which say nothing of a model that was trained on people."""
    return faces.name.startswith("synthetic-")
