"""Pairs of faces to verify. `facekd.data.opening` loads a set from a file or a description."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_size, decode_image
from facekd.data.source import ALIGNED_SIZE, UnreadableImage

PairImage = bytes | np.ndarray | Path


class VerificationSet:
    """N pairs: images 2i and 2i + 1 form pair i. Images stay encoded until they are asked for.

    Attributes:
        name: short name for reports.
        issame: bool [N].
        fold_sizes: pairs in each published fold, in order, or None where the set publishes none.
    """

    def __init__(
        self,
        name: str,
        images: Sequence[PairImage],
        issame: np.ndarray | Sequence[bool],
        *,
        size: tuple[int, int] | None = ALIGNED_SIZE,
        fold_sizes: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            name: short name for reports.
            images: 2N encoded images, uint8 RGB [h, w, 3] arrays, or paths of image files.
            issame: N truths.
            size: (height, width) every image must have; None admits any.
            fold_sizes: pairs a fold, where the protocol publishes folds.
        """
        self.name = name
        self._images = images
        self.issame = np.asarray(issame, dtype=bool)
        if self.issame.ndim != 1 or len(images) != 2 * len(self.issame):
            raise FacekdError(f"{name}: {len(images)} images for {self.issame.size} pairs, a pair needs two")
        if len(self.issame) == 0:
            raise FacekdError(f"{name} holds no pair")
        self.size = size
        self.fold_sizes = list(fold_sizes) if fold_sizes is not None else None

    def __len__(self) -> int:
        return len(self.issame)

    @property
    def num_images(self) -> int:
        """2 N."""
        return len(self._images)

    def key(self, i: int) -> str:
        """Name of image `i`."""
        image = self._images[i]
        return f"{image.parent.name}/{image.name}" if isinstance(image, Path) else f"{self.name}[{i}]"

    def encoded(self, i: int) -> bytes | np.ndarray:
        """Image `i` as it is stored. Raises UnreadableImage."""
        image = self._images[i]
        if not isinstance(image, Path):
            return image
        try:
            return image.read_bytes()
        except OSError as error:
            raise UnreadableImage(self.key(i), f"cannot be read ({error.strerror})") from None

    def image(self, i: int) -> np.ndarray:
        """Image `i` of 2N as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        data = self.encoded(i)
        if isinstance(data, bytes):
            return decode_image(data, self.key(i), self.size)
        if data.dtype == np.uint8 and data.ndim == 3 and data.shape[2] == 3:
            check_size(data, self.key(i), self.size)
            return data
        if data.dtype == np.uint8 and data.ndim == 1:
            return decode_image(data.tobytes(), self.key(i), self.size)
        raise UnreadableImage(self.key(i), f"array of {data.dtype} {data.shape}, not uint8 [h, w, 3] or encoded bytes")

    def fingerprint(self) -> str:
        """sha256 (hex) over the stored images and the truths."""
        stored = (self.encoded(i) for i in range(self.num_images))
        images = (data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8) for data in stored)
        return parts_sha256("pairs", self.issame, *images)
