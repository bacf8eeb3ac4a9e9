"""Face detection: boxes and the five landmarks that alignment needs, searched for at several sizes; YuNet by OpenCV.

`facekd.runtimes.detectors` opens any detector file, InsightFace's SCRFD too.
"""

import functools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.common.errors import FacekdError, UsageError, one_line
from facekd.common.file_kind import check_not_a_stand_in

SMALLEST_SEARCH_PIXELS = 320
"""Pictures whose longer side is at most this are searched once, at their own size."""
MOST_FACE_PIXELS = 300
"""The largest face that YuNet finds where it is (its documentation: 10 to 300 pixels)."""
BEST_FACE_PIXELS = 160
"""Size of face whose landmarks YuNet places best (facekd's choice).

Measured on 40 photographs of LFW, cut to the face and enlarged to 1,600 pixels: where the face has 70 to 420 pixels in
the search, the cosine to the same photograph at its own size is 0.96 to 0.97 in the median; of 560 0.95, of 890 0.83.
"""

_OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32))
_OLD_OUTPUTS = (b"loc", b"conf", b"iou")


@dataclass(frozen=True)
class Face:
    """One detected face, in pixels of the photograph.

    Attributes:
        box: float64 [4]: left, top, width, height.
        landmarks: float64 [5, 2]: left eye, right eye, nose, left and right mouth corner, as the viewer sees them.
        score: 0 to 1.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float


class FaceDetector(ABC):
    """A detector of faces with five landmarks, searched with at several sizes of the photograph.

    Detectors place landmarks well on faces of some size only: on one that fills a large photograph YuNet's are off by
    half the distance between the eyes. So a photograph is searched at its own size and at every half of it down to
    SMALLEST_SEARCH_PIXELS, and of what is found several times the best placed stays. Not for several threads at once.

    Attributes:
        path: the file.
        nms_threshold: overlap (IoU) above which the weaker of two boxes is left out.
        largest_side: larger photographs are reduced to it before the first search.
    """

    def __init__(self, path: Path, *, score_threshold: float, nms_threshold: float, largest_side: int) -> None:
        if not path.is_file():
            raise UsageError(
                f"no face detector at {path}: give the path of a YuNet .onnx (OpenCV zoo, face_detection_yunet) "
                "with --detector or FACEKD_DETECTOR"
            )
        if not 0.0 < score_threshold < 1.0:
            raise UsageError(f"score_threshold must be between 0 and 1, got {score_threshold}")
        if largest_side < 32:
            raise UsageError(f"largest_side must be at least 32 pixels, got {largest_side}")
        self.path, self.largest_side = path, largest_side
        self.score_threshold, self.nms_threshold = score_threshold, nms_threshold

    def __reduce__(self) -> tuple[Any, ...]:
        """Opened again in another process, once in each thread."""
        arguments = (str(self.path), self.score_threshold, self.nms_threshold, self.largest_side)
        return _opened_once, (type(self), *arguments)

    def settings(self) -> str:
        """What decides about the faces besides the file, in a text."""
        return f"{type(self).__name__} {self.score_threshold} {self.nms_threshold} {self.largest_side}"

    def detect(self, image: np.ndarray) -> list[Face]:
        """Finds all faces.

        Args:
            image: uint8 RGB [h, w, 3].

        Returns:
            Faces by falling score; empty when there is none.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(f"detect needs a uint8 RGB image [h, w, 3], got {image.dtype} {image.shape}")
        longest = max(image.shape[:2])
        sides = search_sides(longest, self.largest_side)
        levels = [(self.search(image, side / longest), side / longest) for side in sides]
        return sorted(best_placed(levels, self.nms_threshold), key=lambda face: -face.score)

    @abstractmethod
    def search(self, image: np.ndarray, scale: float) -> list[Face]:
        """Faces of a photograph, uint8 RGB [h, w, 3], reduced by `scale`, in pixels of the photograph."""


class YuNet(FaceDetector):
    """The detector of OpenCV's zoo (face_detection_yunet, .onnx; Wu et al. 2023)."""

    def __init__(
        self,
        path: str | Path,
        *,
        score_threshold: float = 0.6,
        nms_threshold: float = 0.3,
        largest_side: int = 3072,
    ) -> None:
        """
        Args:
            path: the .onnx file.
            score_threshold: faces below it are left out.
            nms_threshold: overlap (IoU) above which the weaker of two boxes is left out.
            largest_side: larger photographs are reduced to it before the first search. Faces of 10 pixels of the
                reduced photograph are found: of 30 in one of 4,000 by the default.
        """
        super().__init__(
            Path(path), score_threshold=score_threshold, nms_threshold=nms_threshold, largest_side=largest_side
        )
        _check_is_yunet(self.path)
        level = cv2.utils.logging.getLogLevel()
        # OpenCV 5 warns that its new engine has no targets, which concerns nobody.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold, nms_threshold, 5000)
        except cv2.error as error:
            raise FacekdError(
                f"{path} cannot be loaded as a YuNet detector: {one_line(error.err or error, limit=200)}"
            ) from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def search(self, image: np.ndarray, scale: float) -> list[Face]:
        """See FaceDetector."""
        height, width = image.shape[:2]
        bgr = cv2.cvtColor(reduced(image, scale), cv2.COLOR_RGB2BGR)
        ratio = np.array([width / bgr.shape[1], height / bgr.shape[0]])
        try:
            self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
            _, rows = self._detector.detect(bgr)
        except cv2.error as error:
            raise FacekdError(
                f"{self.path} fails on a {width}x{height} image: {one_line(error.err or error, limit=200)}"
            ) from None
        faces = []
        for row in np.empty((0, 15)) if rows is None else np.asarray(rows, dtype=np.float64):
            # YuNet names the sides after the person: the first eye is the person's right, the viewer's left. Good so.
            faces.append(Face(row[:4] * np.tile(ratio, 2), row[4:14].reshape(5, 2) * ratio, float(row[14])))
        return faces


def _opened_once(
    kind: Callable[..., FaceDetector], path: str, score_threshold: float, nms_threshold: float, largest_side: int
) -> FaceDetector:
    return _opened_in(threading.get_ident(), kind, path, score_threshold, nms_threshold, largest_side)


@functools.cache
def _opened_in(
    thread: int,
    kind: Callable[..., FaceDetector],
    path: str,
    score_threshold: float,
    nms_threshold: float,
    largest_side: int,
) -> FaceDetector:
    """Each thread has its own: a worker of a Dask cluster may have several."""
    del thread
    return kind(path, score_threshold=score_threshold, nms_threshold=nms_threshold, largest_side=largest_side)


def reduced(image: np.ndarray, scale: float) -> np.ndarray:
    """A photograph [h, w, 3] at a share of its size, by area; itself at 1 and above."""
    if scale >= 1.0:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def search_sides(longest: int, largest: int) -> list[int]:
    """Longer sides in pixels at which a photograph of `longest` pixels is searched, the largest first."""
    sides = [min(longest, largest)]
    while sides[-1] > SMALLEST_SEARCH_PIXELS:
        sides.append(sides[-1] // 2)
    return sides


def best_placed(levels: Sequence[tuple[Sequence[Face], float]], nms_threshold: float) -> list[Face]:
    """One face for each that was found at one or more sizes: that whose size there was nearest to BEST_FACE_PIXELS.

    Args:
        levels: the faces found at each size of the photograph, and the size as a share of the photograph's; the
            largest first. Faces are in pixels of the photograph.
        nms_threshold: overlap (IoU) above which two boxes are one face.
    """
    found: list[tuple[float, Face]] = []
    for number, (faces, scale) in enumerate(levels):
        for face in faces:
            size = scale * math.sqrt(max(float(face.box[2] * face.box[3]), 1e-6))
            # Beyond its range a detection is anywhere on the face; the next size finds that face in its range.
            if size <= MOST_FACE_PIXELS or number == len(levels) - 1:
                found.append((abs(math.log(size / BEST_FACE_PIXELS)), face))
    kept: list[Face] = []
    for _, face in sorted(found, key=lambda entry: entry[0]):
        if all(overlap(face.box, other.box) <= nms_threshold for other in kept):
            kept.append(face)
    return kept


def choose_face(faces: Sequence[Face], width: int, height: int) -> Face | None:
    """The face a photograph is of: the largest, less so the farther from the middle. None when there is none.

    The common rule of the field (insightface's helpers): box area minus twice the squared distance between the centres
    of box and photograph, in pixels.
    """

    def prominence(face: Face) -> float:
        left, top, across, down = face.box
        offset = np.array([left + across / 2 - width / 2, top + down / 2 - height / 2])
        return float(across * down - 2.0 * (offset**2).sum())

    return max(faces, key=prominence, default=None)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes [left, top, width, height]."""
    across = max(0.0, float(min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])))
    down = max(0.0, float(min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])))
    union = float(a[2] * a[3] + b[2] * b[3]) - across * down
    return across * down / union if union > 0 else 1.0


def is_yunet(path: Path) -> bool:
    """Whether a file names the outputs of a YuNet, of 2023 or older."""
    data = path.read_bytes()
    return all(name.encode() in data for name in _OUTPUTS) or all(name in data for name in _OLD_OUTPUTS)


def _check_is_yunet(path: Path) -> None:
    """OpenCV 5 ends the process with a segmentation fault on a network whose outputs are not YuNet's."""
    check_not_a_stand_in(path, "a YuNet detector")
    data = path.read_bytes()
    missing = [name for name in _OUTPUTS if name.encode() not in data]
    if missing and all(name in data for name in _OLD_OUTPUTS):
        raise UsageError(
            f"{path} is a YuNet of 2022 or earlier (outputs loc, conf, iou), which OpenCV no longer reads: get "
            "face_detection_yunet_2023mar.onnx of the OpenCV zoo"
        )
    if missing:
        raise UsageError(f"{path} is not a YuNet detector: it has no output {missing[0]!r} (of {', '.join(_OUTPUTS)})")
