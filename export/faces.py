"""The aligned faces an export is calibrated, compared and demonstrated with."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.data.opening import open_source
from facekd.data.source import UnreadableImage
from facekd.data.verification_set import VerificationSet

# Enough identities that the golden face and the parity faces are different people.
_SYNTHETIC = "synthetic:identities=40,images=2,seed=20"
SYNTHETIC_NAME = "synthetic faces"


@dataclass(frozen=True)
class Faces:
    """uint8 RGB faces [n, 3, h, w] and where they come from, in words."""

    images: np.ndarray
    source: str

    def __len__(self) -> int:
        return len(self.images)


def faces_from_source(spec: str | Path, count: int, size: tuple[int, int]) -> Faces:
    """`count` faces spread evenly over a source (see facekd.data.open_source), unreadable ones passed over.

    Raises:
        UsageError: the source is not valid or its faces have another size than the model's.
        FacekdError: nothing in it can be read.
    """
    if count < 1:
        raise UsageError(f"{count} faces: give at least 1")
    source = open_source(spec)
    images = []
    for i in np.unique(np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)):
        try:
            images.append(source.read(int(i)))
        except UnreadableImage:
            continue
    return Faces(_stack(images, size, str(spec)), f"{len(images)} of {len(source)} faces of {source.name}")


def faces_from_pairs(pairs: VerificationSet, count: int, size: tuple[int, int]) -> Faces:
    """`count` faces spread evenly over a verification set."""
    total = 2 * len(pairs)
    chosen = np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
    images = [pairs.image(int(i)) for i in chosen]
    return Faces(_stack(images, size, pairs.name), f"{len(images)} faces of {pairs.name}")


def synthetic_faces(count: int, size: tuple[int, int]) -> Faces:
    """facekd's own synthetic faces, for a parity check where no real ones are given; the manifest says so."""
    faces = faces_from_source(_SYNTHETIC, count, size)
    return Faces(faces.images, SYNTHETIC_NAME)


def read_crop(path: Path, size: tuple[int, int]) -> np.ndarray:
    """An aligned crop from a file as uint8 RGB [h, w, 3].

    Raises:
        UsageError: it is not an image of the model's size.
    """
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UsageError(f"golden crop {path}: not an image that can be read; give an aligned PNG or JPEG")
    if image.shape[:2] != size:
        found = f"{image.shape[1]}x{image.shape[0]}"
        raise UsageError(f"golden crop {path} is {found}, the model takes {size[1]}x{size[0]}")
    return np.ascontiguousarray(image[:, :, ::-1])


def _stack(images: list[np.ndarray], size: tuple[int, int], source: str) -> np.ndarray:
    if not images:
        raise FacekdError(f"{source}: not one image could be read")
    shape = images[0].shape
    if shape[:2] != size:
        raise UsageError(f"{source}: faces are {shape[0]}x{shape[1]}, the model takes {size[0]}x{size[1]}: align anew")
    return np.stack([image.transpose(2, 0, 1) for image in images])
