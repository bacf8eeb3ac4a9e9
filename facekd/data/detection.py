"""Face detection with YuNet (Wu et al. 2023) through OpenCV: boxes and the five landmarks that alignment needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from facekd.common.errors import FacekdError, UsageError

_OUTPUTS = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32))


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


class YuNet:
    """The detector of OpenCV's zoo (face_detection_yunet, .onnx). Not for several threads at once."""

    def __init__(
        self,
        path: str | Path,
        *,
        score_threshold: float = 0.6,
        nms_threshold: float = 0.3,
        largest_side: int = 1024,
    ) -> None:
        """
        Args:
            path: the .onnx file.
            score_threshold: faces below it are left out.
            nms_threshold: overlap (IoU) above which the weaker of two boxes is left out.
            largest_side: larger photographs are reduced to it for the search; YuNet finds faces of 10 to 300 pixels.
        """
        if not Path(path).is_file():
            raise UsageError(
                f"no face detector at {path}: give the path of a YuNet .onnx (OpenCV zoo, face_detection_yunet) "
                "with --detector or FACEKD_DETECTOR"
            )
        if not 0.0 < score_threshold < 1.0:
            raise UsageError(f"score_threshold must be between 0 and 1, got {score_threshold}")
        if largest_side < 32:
            raise UsageError(f"largest_side must be at least 32 pixels, got {largest_side}")
        self.path = Path(path)
        self.largest_side = largest_side
        _check_is_yunet(self.path)
        level = cv2.utils.logging.getLogLevel()
        # OpenCV 5 warns that its new engine has no targets, which concerns nobody.
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._detector = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold, nms_threshold, 5000)
        except cv2.error as error:
            raise FacekdError(f"{path} cannot be loaded as a YuNet detector: {_first_line(error)}") from None
        finally:
            cv2.utils.logging.setLogLevel(level)

    def detect(self, image: np.ndarray) -> list[Face]:
        """Finds all faces.

        Args:
            image: uint8 RGB [h, w, 3].

        Returns:
            Faces by falling score; empty when there is none.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UsageError(f"detect needs a uint8 RGB image [h, w, 3], got {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        scale = min(1.0, self.largest_side / max(height, width))
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        if scale < 1.0:
            reduced = (max(1, round(width * scale)), max(1, round(height * scale)))
            bgr = cv2.resize(bgr, reduced, interpolation=cv2.INTER_AREA)
        ratio = np.array([width / bgr.shape[1], height / bgr.shape[0]])
        try:
            self._detector.setInputSize((bgr.shape[1], bgr.shape[0]))
            _, rows = self._detector.detect(bgr)
        except cv2.error as error:
            raise FacekdError(f"{self.path} fails on a {width}x{height} image: {_first_line(error)}") from None
        faces = []
        for row in np.empty((0, 15)) if rows is None else np.asarray(rows, dtype=np.float64):
            # YuNet names the sides after the person: the first eye is the person's right, the viewer's left. Good so.
            faces.append(Face(row[:4] * np.tile(ratio, 2), row[4:14].reshape(5, 2) * ratio, float(row[14])))
        return sorted(faces, key=lambda face: -face.score)


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


def _check_is_yunet(path: Path) -> None:
    """OpenCV 5 ends the process with a segmentation fault on a network whose outputs are not YuNet's."""
    data = path.read_bytes()
    missing = [name for name in _OUTPUTS if name.encode() not in data]
    if missing:
        raise UsageError(f"{path} is not a YuNet detector: it has no output {missing[0]!r} (of {', '.join(_OUTPUTS)})")


def _first_line(error: cv2.error) -> str:
    return " ".join(str(error.err or error).split())[:200]
