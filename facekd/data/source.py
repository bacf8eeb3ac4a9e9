"""What a set of face images is to the rest of facekd. `facekd.data.opening` opens one."""

from typing import Protocol, runtime_checkable

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256

ALIGNED_SIZE = (112, 112)


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


def count_identities(given: object) -> "Identities":
    """How many people a number, or somebody's own map-style Dataset of (image, label), stands for.

    Of a Dataset `num_identities`, `num_classes`, `classes`, `targets` or `labels` is read, the first that it has: to
    count labels by reading every image would take long.

    Raises:
        UsageError: it states none of them, or no number of people above 0.
    """
    if isinstance(given, int):
        return Identities(given)
    kind = type(given).__name__
    count: object = None
    for name in ("num_identities", "num_classes"):
        count = count if count is not None else getattr(given, name, None)
    if count is None and (classes := getattr(given, "classes", None)) is not None:
        count = len(classes)
    for name in ("targets", "labels"):
        if count is None and (labels := getattr(given, name, None)) is not None:
            count = int(np.max(np.asarray(labels))) + 1 if len(labels) else 0
    if not isinstance(count, int | np.integer) or count < 1:
        raise UsageError(
            f"{kind} does not say how many people it shows: give it num_identities (or targets, the label of each "
            "image), or give build_task the number"
        )
    return Identities(int(count), name=kind)


class Identities:
    """A number of people without their images: for a task whose images come from somewhere else.

    Args:
        num_identities: labels are 0 .. num_identities - 1.
        name: of the data.
    """

    def __init__(self, num_identities: int, *, name: str = "data of one's own") -> None:
        self.num_identities, self.name = num_identities, name
        self.labels = np.arange(num_identities, dtype=np.int64)

    def __len__(self) -> int:
        return self.num_identities

    def key(self, i: int) -> str:
        return str(i)

    def read(self, i: int) -> np.ndarray:
        raise UnreadableImage(self.key(i), f"{self.name} is known by its number of identities alone")

    def fingerprint(self) -> str:
        return parts_sha256("identities", str(self.num_identities), self.name)
