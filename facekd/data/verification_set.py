"""Pairs of faces to verify. `facekd.data.opening` loads a set from a file or a description."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_size, decode_image
from facekd.data.image_files import read_image_file
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
        adapt: bool = False,
    ) -> None:
        """
        Args:
            name: short name for reports.
            images: 2N encoded images, uint8 RGB [h, w, 3] arrays, or paths of image files.
            issame: N truths.
            size: (height, width) every image must have; None admits any.
            fold_sizes: pairs a fold, where the protocol publishes folds.
            adapt: fit aligned images of another published size to `size` (`fit_aligned`), and count them.
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
        self.adapt = adapt
        self._adapted: dict[int, str] = {}

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
        return read_image_file(image, self.key(i))

    def image(self, i: int) -> np.ndarray:
        """Image `i` of 2N as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        data = self.encoded(i)
        if isinstance(data, bytes):
            image = decode_image(data, self.key(i))
        elif data.dtype == np.uint8 and data.ndim == 3 and data.shape[2] == 3:
            image = data
        else:
            raise UnreadableImage(
                self.key(i), f"array of {data.dtype} {data.shape}, not uint8 [h, w, 3] or encoded bytes"
            )
        if self.adapt and self.size is not None and image.shape[:2] != tuple(self.size):
            image, what = fit_aligned(image, self.size)
            if what is not None:
                self._adapted[i] = what
        check_size(image, self.key(i), self.size)
        return image

    @property
    def notes(self) -> list[str]:
        """What was done to images that were read, a sentence each."""
        return [f"{count:,} images {what}" for what, count in Counter(self._adapted.values()).items()]

    def fingerprint(self) -> str:
        """sha256 (hex) over the stored images and the truths."""
        stored = (self.encoded(i) for i in range(self.num_images))
        images = (data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8) for data in stored)
        return parts_sha256("pairs", self.issame, *images)


def fit_aligned(image: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, str | None]:
    """An aligned face of another published size as `size` (height, width), and what was done; itself and None if no
    published size leads there.

    Squares (160x160, 224x224) are resized. Crops of 112x96 are the middle columns of 112x112, so they get black
    borders: the template of 96 columns is that of 112 moved by 8 pixels (SphereFace, CosFace).
    """
    height, width = image.shape[:2]
    if height == width and size[0] == size[1]:
        import cv2

        resized = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if height > size[0] else cv2.INTER_LINEAR)
        return resized, f"of {width}x{height} resized to {size[1]}x{size[0]}"
    if (height, width) == (112, 96) and size == (112, 112):
        return np.pad(image, ((0, 0), (8, 8), (0, 0))), "of 96x112 given black borders of 8 pixels left and right"
    return image, None
