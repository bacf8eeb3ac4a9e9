"""What sources share whose images are stored as files: decoding them, and names or numbers as labels."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.data.decoding import decode_image
from facekd.data.image_files import file_size, read_image_file
from facekd.data.source import UnreadableImage


class EncodedSource(ABC):
    """Base of a source whose images are JPEG, PNG or the like.

    Attributes:
        labels: int64 [n], contiguous.
        identities: what the data calls each label, in the order of the labels.
        num_identities: how many.
        name: short name for logs and cards.
        size: (height, width) every image must have; None admits any.
        broken: (key, reason) of what is in the data and is no labelled image.
    """

    labels: np.ndarray
    identities: list[str]
    num_identities: int
    name: str
    size: tuple[int, int] | None
    broken: list[tuple[str, str]]

    def label_by(self, values: Sequence[Any], *, names: Sequence[str] | None = None) -> None:
        """Sets labels and identities from one value an image: whole numbers by their order, texts by the alphabet.

        Args:
            values: int or str, all of one kind.
            names: of the numbers 0 .. , where the data has them.
        """
        numbers = all(isinstance(value, int) for value in values)
        distinct, labels = np.unique(
            np.array(values, dtype=np.int64) if numbers else np.array([str(v) for v in values]), return_inverse=True
        )
        self.labels = labels.astype(np.int64)
        known = names if numbers and names is not None else None
        self.identities = [known[int(v)] if known and int(v) < len(known) else str(v) for v in distinct.tolist()]
        self.num_identities = len(distinct)

    def require_images(self, where: object) -> None:
        """Raises FacekdError where not one labelled image is left; says what was there."""
        if len(self) == 0:
            first = f", the first {self.broken[0][0]}: {self.broken[0][1]}" if self.broken else ""
            raise FacekdError(f"{where} holds no labelled image: {len(self.broken)} entries that are none{first}")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def key(self, i: int) -> str: ...

    @abstractmethod
    def encoded(self, i: int) -> bytes:
        """Image `i` as it is stored. Raises UnreadableImage."""

    def read(self, i: int) -> np.ndarray:
        """Image `i` as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        return decode_image(self.encoded(i), self.key(i), self.size)

    def check(self) -> Iterator[tuple[str, str]]:
        """Yields (key, reason) of everything that cannot be used; reads every image for it."""
        yield from self.broken
        for i in range(len(self)):
            try:
                self.read(i)
            except UnreadableImage as error:
                yield error.key, error.reason


class FileImages(EncodedSource):
    """Base of a source whose images are files below a folder.

    Attributes:
        root: the folder.
        files: their paths below it, which are the images' keys.
    """

    root: Path
    files: list[str]

    def __len__(self) -> int:
        return len(self.files)

    def key(self, i: int) -> str:
        return self.files[i]

    def encoded(self, i: int) -> bytes:
        return read_image_file(self.root / self.files[i], self.files[i])

    def file_sizes(self) -> np.ndarray:
        """Bytes of each file, int64 [n], for a fingerprint."""
        return np.array([file_size(self.root / file) for file in self.files], dtype=np.int64)


def label_of(value: Any) -> int | str:
    """A label as it stands in the data, as a number or a text.

    Raises:
        ValueError: missing, negative or a fraction; the text says which.
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, str):
        value = value.strip()
        if not value:
            raise ValueError("its label is empty")
        if value.lstrip("-").isdecimal():
            value = int(value)
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    if isinstance(value, bool) or value is None:
        raise ValueError("it has no label")
    if isinstance(value, int | np.integer):
        if value < 0:
            raise ValueError(f"its label is {value}: no identity")
        return int(value)
    if isinstance(value, str):
        return value
    raise ValueError(f"its label is {json.dumps(value, default=str)[:40]}: neither a whole number nor a name")


def same_kind(labels: list[int | str]) -> list[int | str]:
    """Labels of which some are names as names all: "007" and "anna" of one column."""
    return labels if all(isinstance(label, int) for label in labels) else [str(label) for label in labels]
