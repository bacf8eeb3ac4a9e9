"""Opening a face detector, whoever made it: a YuNet of OpenCV's zoo or an SCRFD of InsightFace's."""

from pathlib import Path

from facekd.common.file_kind import check_not_a_stand_in
from facekd.data.detection import FaceDetector, YuNet, is_yunet
from facekd.runtimes.scrfd import Scrfd


def open_detector(path: str | Path, *, score_threshold: float | None = None) -> FaceDetector:
    """The detector in a file, recognised by its outputs.

    Args:
        path: an .onnx file.
        score_threshold: faces below it are left out; default: 0.6 for YuNet, 0.5 for SCRFD, as their authors have it.

    Raises:
        UsageError: there is no such file, or it is no detector with five landmarks.
        FacekdError: it cannot be read.
    """
    path = Path(path)
    if path.is_file():
        check_not_a_stand_in(path, "a face detector")
    kind = YuNet if not path.is_file() or is_yunet(path) else Scrfd  # the first says what is missing
    return kind(path) if score_threshold is None else kind(path, score_threshold=score_threshold)
