"""What a set of face images is to the rest of facekd, and how one is opened from a path or a short description."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256

ALIGNED_SIZE = (112, 112)
INDEX_SUFFIX = ".faces"


class UnreadableImage(FacekdError):
    """One image of a source cannot be used.

    Attributes:
        key: the image's name in its source (record key, relative path).
        reason: why, in a few words.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)  # both in args, so that the error survives the pickle from a worker
        self.key = key
        self.reason = reason

    def __str__(self) -> str:
        return f"image {self.key}: {self.reason}"


@runtime_checkable
class Source(Protocol):
    """Labelled face images. Opening one is cheap; an image is decoded when it is read.

    Attributes:
        labels: int64 [n], contiguous 0 .. num_identities - 1.
        num_identities: number of distinct labels.
        name: short name for logs and cards.
    """

    labels: np.ndarray
    num_identities: int
    name: str

    def __len__(self) -> int: ...

    def key(self, i: int) -> str:
        """Name of image `i`, unique in the source and the same in every run."""
        ...

    def read(self, i: int) -> np.ndarray:
        """Image `i` as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        ...

    def fingerprint(self) -> str:
        """sha256 (hex) that changes when the data does, cheap to compute: of the index and sizes, not the pixels."""
        ...


def open_source(
    spec: str | Path,
    *,
    size: tuple[int, int] | None = ALIGNED_SIZE,
    max_identities: int | None = None,
    min_images: int | None = None,
    max_images: int | None = None,
) -> Source:
    """Opens a source of labelled faces.

    Args:
        spec: a .rec file, a folder that holds train.rec, an index over many (.faces), a folder with one folder an
            identity, or `synthetic:identities=64,images=20,seed=0` (any field of SyntheticConfig too).
        size: (height, width) every image must have; None admits any (to inspect or align them).
        max_identities: keep the first so many identities.
        min_images: leave out identities with fewer images.
        max_images: keep the first so many images of each identity.

    Raises:
        UsageError: nothing of the kind is there, or nothing is left.
        FacekdError: it is there and cannot be read.
    """
    text = str(spec)
    scheme, colon, rest = text.partition(":")
    source = _SCHEMES[scheme](rest) if colon and scheme in _SCHEMES else _open_path(Path(spec), size)
    if max_identities is None and min_images is None and max_images is None:
        return source
    return Subset.by_identity(source, max_identities=max_identities, min_images=min_images, max_images=max_images)


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


def _open_path(path: Path, size: tuple[int, int] | None) -> Source:
    from facekd.data.folder import FolderSource
    from facekd.data.records import RecordReader

    if path.suffix == INDEX_SUFFIX:
        from facekd.data.indexed import IndexedRecords

        return IndexedRecords(path, size=size)
    if path.is_dir():
        records = path / "train.rec"
        return RecordReader(records, size=size) if records.is_file() else FolderSource(path, size=size)
    if path.suffix == ".rec" and path.is_file():
        return RecordReader(path, size=size)
    if path.exists():
        raise UsageError(f"{path} is not a source of faces: give a .rec file, a folder, or synthetic:identities=64")
    raise UsageError(f"no data at {path}: give a .rec file, a folder of images, or synthetic:identities=64")


def _open_synthetic(arguments: str) -> Source:
    from facekd.data.synthetic import SyntheticSource

    return SyntheticSource.from_text(arguments)


_SCHEMES: dict[str, Callable[[str], Source]] = {"synthetic": _open_synthetic}
