"""Some of the images of a source: whole identities, or any images."""

from collections.abc import Sequence

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.source import Source


class Subset:
    """The images `indices` of another source, with labels made contiguous again."""

    def __init__(self, source: Source, indices: Sequence[int] | np.ndarray, name: str | None = None) -> None:
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)
        if len(self.indices) == 0:
            raise UsageError(f"no image of {source.name} is left: {len(source)} images, every one outside the limits")
        kept, labels = np.unique(source.labels[self.indices], return_inverse=True)
        self.labels = labels.astype(np.int64)
        self.num_identities = len(kept)
        self.name = name or source.name

    @classmethod
    def by_identity(
        cls,
        source: Source,
        *,
        max_identities: int | None = None,
        min_images: int | None = None,
        max_images: int | None = None,
    ) -> "Subset":
        """Keeps whole identities with at least `min_images`, the first `max_identities`, `max_images` of each."""
        for name, value in (("max_identities", max_identities), ("min_images", min_images), ("max_images", max_images)):
            if value is not None and value < 1:
                raise UsageError(f"{name} must be at least 1, got {value}")
        counts = np.bincount(source.labels, minlength=source.num_identities)
        keep = counts >= (min_images or 1)
        if max_identities is not None:
            keep &= np.cumsum(keep) <= max_identities
        mask = keep[source.labels]
        if max_images is not None:
            order = np.argsort(source.labels, kind="stable")
            first = np.concatenate([[0], np.cumsum(counts)[:-1]])
            rank = np.empty(len(order), dtype=np.int64)
            rank[order] = np.arange(len(order)) - first[source.labels[order]]
            mask &= rank < max_images
        return cls(source, np.flatnonzero(mask))

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, i: int) -> str:
        return self.source.key(int(self.indices[i]))

    def read(self, i: int) -> np.ndarray:
        return self.source.read(int(self.indices[i]))

    def fingerprint(self) -> str:
        return parts_sha256(self.source.fingerprint(), self.indices)
