"""Photographs to aligned crops: detect, choose the face that is meant, align; and say what is missing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.progress import silently, track
from facekd.data.alignment import align
from facekd.data.detection import FaceDetector, choose_face

Missing = Literal["refuse", "centre"]

CENTRE_SHARE = 0.52
"""Side of the fall-back crop as a share of the photograph's shorter side, where no face was found.

Facekd's choice, measured on 41 of LFW's 250x250 photographs: a face aligned to 112x112 covers a square whose side is
131 pixels in the median (124 to 144 from the 10th to the 90th percentile), its centre within 9 pixels of the middle.
"""


@dataclass(frozen=True)
class FaceCrop:
    """The face that was chosen in a photograph.

    Attributes:
        image: uint8 RGB [h, w, 3], aligned.
        score: the detector's, 0 to 1.
        faces: how many faces the detector found.
    """

    image: np.ndarray
    score: float
    faces: int


def crop_face(image: np.ndarray, detector: FaceDetector, size: tuple[int, int]) -> FaceCrop | None:
    """Detects, chooses and aligns; None where no face is found.

    Args:
        image: uint8 RGB [h, w, 3], any size.
        detector: finds the faces.
        size: (height, width) of the crop, a square.
    """
    faces = detector.detect(image)
    face = choose_face(faces, width=image.shape[1], height=image.shape[0])
    if face is None:
        return None
    return FaceCrop(image=align(image, face.landmarks, square(size)), score=float(face.score), faces=len(faces))


class AlignedPhotographs(Sequence[np.ndarray]):
    """Photographs as aligned crops, detected once when made and warped when asked for, so that memory stays flat.

    Args:
        photographs: uint8 RGB [h, w, 3] of any size, read when needed (twice each).
        detector: finds the faces.
        size: (height, width) of the crops.
        missing: what to do with a photograph without a face: "refuse" raises, naming them; "centre" crops the middle.
        name: position -> what to call that photograph in messages.
        progress: show a bar on stderr.

    Attributes:
        not_found: names of the photographs in which no face was found (cropped centrally).
        several: how many photographs had more than one face.

    Raises:
        FacekdError: a photograph without a face, with missing = "refuse".
    """

    def __init__(
        self,
        photographs: Sequence[np.ndarray],
        *,
        detector: FaceDetector,
        size: tuple[int, int],
        missing: Missing = "refuse",
        name: Callable[[int], str] = str,
        progress: bool = False,
    ) -> None:
        self._photographs = photographs
        self._size = square(size)
        self._landmarks: list[np.ndarray | None] = []
        self.not_found: list[str] = []
        self.several = 0
        follow = track if progress else silently
        for i in follow(range(len(photographs)), len(photographs), "detect"):
            image = photographs[i]
            faces = detector.detect(image)
            face = choose_face(faces, width=image.shape[1], height=image.shape[0])
            self.several += len(faces) > 1
            self._landmarks.append(None if face is None else face.landmarks)
            if face is None:
                self.not_found.append(name(i))
        if self.not_found and missing == "refuse":
            raise FacekdError(
                f"no face found in {len(self.not_found)} of {len(photographs)} photographs: "
                f"{', '.join(self.not_found)}; --missing centre crops their middle instead"
            )

    def __len__(self) -> int:
        return len(self._photographs)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        image, landmarks = self._photographs[i], self._landmarks[i]
        return centre_crop(image, self._size) if landmarks is None else align(image, landmarks, self._size)


def centre_crop(image: np.ndarray, size: int) -> np.ndarray:
    """The middle CENTRE_SHARE of a photograph, resized to uint8 RGB [size, size, 3]."""
    import cv2

    height, width = image.shape[:2]
    side = max(1, round(CENTRE_SHARE * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)


def square(size: tuple[int, int]) -> int:
    """The side of a square input; the alignment template is defined for squares only."""
    if size[0] != size[1]:
        raise UsageError(f"the model takes {size[0]}x{size[1]}: photographs are aligned to squares only")
    return size[0]
