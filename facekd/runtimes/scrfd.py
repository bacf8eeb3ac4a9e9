"""InsightFace's SCRFD detectors with landmarks (Guo et al. 2021): det_500m, det_2.5g, det_10g and their kin, as .onnx.

Nine outputs: for strides 8, 16 and 32 a score, a box and five landmarks of two anchors a cell, row by row. An anchor's
centre is (column, row) * stride; a box is the distances from it to left, top, right and bottom, a landmark the offsets
from it, both in strides. Scores are between 0 and 1. The input is RGB, (x - 127.5) / 128.
"""

import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError, require_modules
from facekd.data.detection import Face, FaceDetector, overlap, reduced
from facekd.runtimes.base import Runtime
from facekd.runtimes.onnxruntime import inference_session
from facekd.runtimes.reasons import reason

STRIDES = (8, 16, 32)
ANCHORS = 2
"""Of a cell."""
_VALUES = (1, 4, 10)
"""Of an anchor: score, box, landmarks."""


class Scrfd(FaceDetector):
    """An SCRFD with five landmarks, of any or of one input size; run by ONNX Runtime.

    Args:
        path: the .onnx file.
        score_threshold: faces below it are left out.
        nms_threshold: overlap (IoU) above which the weaker of two boxes is left out.
        largest_side: larger photographs are reduced to it before the first search; at most the file's own size.

    Raises:
        UsageError: the file's inputs or outputs are not an SCRFD's.
        FacekdError: it cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        largest_side: int = 3072,
    ) -> None:
        super().__init__(
            Path(path), score_threshold=score_threshold, nms_threshold=nms_threshold, largest_side=largest_side
        )
        require_modules(f"the detector {path}", ["onnxruntime"], extra="onnx")
        try:
            # A worker process has the core that it works on; all of them together have the machine.
            threads = 1 if multiprocessing.parent_process() is not None else os.cpu_count() or 1
            self._session: Any = inference_session(self.path, threads=threads)
        except Exception as error:  # onnxruntime's classes have no common base
            raise Runtime.unreadable(self.path, "ONNX model", error) from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3:
            raise UsageError(f"{path} takes {[(entry.name, entry.shape) for entry in inputs]}: not an SCRFD detector")
        self._input = inputs[0].name
        self._fixed = (shape[2], shape[3]) if isinstance(shape[2], int) and isinstance(shape[3], int) else None
        if self._fixed is not None:
            self.largest_side = min(self.largest_side, *self._fixed)
        self._order: list[int] | None = None
        self._order = self._recognise(np.zeros((*(self._fixed or (64, 64)), 3), np.uint8))

    def search(self, image: np.ndarray, scale: float) -> list[Face]:
        """See FaceDetector."""
        height, width = image.shape[:2]
        small = reduced(image, scale)
        canvas = np.zeros((*self._canvas(small.shape[:2]), 3), np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        scores, boxes, landmarks = decode(self._run(canvas), (canvas.shape[0], canvas.shape[1]))
        ratio = np.array([width / small.shape[1], height / small.shape[0]])
        found = np.flatnonzero(scores >= self.score_threshold)
        faces: list[Face] = []
        for i in found[np.argsort(-scores[found], kind="stable")]:
            face = Face(boxes[i] * np.tile(ratio, 2), landmarks[i] * ratio, float(scores[i]))
            if all(overlap(face.box, other.box) <= self.nms_threshold for other in faces):
                faces.append(face)
        return faces

    def _canvas(self, size: tuple[int, ...]) -> tuple[int, int]:
        """(height, width) that the file takes for a picture: its own, or the next multiples of the largest stride."""
        if self._fixed is not None:
            return self._fixed
        height, width = (-(-side // STRIDES[-1]) * STRIDES[-1] for side in size)
        return height, width

    def _run(self, canvas: np.ndarray) -> list[np.ndarray]:
        """uint8 RGB [h, w, 3] -> the nine outputs, scores, boxes and landmarks by stride, each [n, values]."""
        x = ((canvas.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        try:
            outputs = self._session.run(None, {self._input: np.ascontiguousarray(x)})
        except Exception as error:  # onnxruntime's classes have no common base
            raise FacekdError(
                f"{self.path} fails on a {canvas.shape[1]}x{canvas.shape[0]} image: {reason(error)}"
            ) from error
        flat = [np.asarray(output, np.float64).reshape(-1, np.shape(output)[-1]) for output in outputs]
        return flat if self._order is None else [flat[i] for i in self._order]

    def _recognise(self, black: np.ndarray) -> list[int]:
        """Where scores, boxes and landmarks of each stride stand among the outputs: by their shapes, largest map first.

        Raises:
            UsageError: they are not an SCRFD's with landmarks.
        """
        outputs = self._run(black)
        wanted = [ANCHORS * (black.shape[0] // stride) * (black.shape[1] // stride) for stride in STRIDES]
        shapes = [output.shape for output in outputs]
        places = [(count, values) for values in _VALUES for count in wanted]
        order = [shapes.index(place) for place in places if place in shapes]
        if len(order) != 9 or len(outputs) != 9:
            listed = ", ".join(str(list(shape)) for shape in shapes[:15])
            why = ", without the landmarks that alignment needs" if len(outputs) == 6 else ""
            raise UsageError(
                f"{self.path} has {len(outputs)} outputs {listed}{why}: not an SCRFD detector with five landmarks "
                "(scores, boxes and landmarks for strides 8, 16 and 32, two anchors a cell)"
            )
        return order


def decode(outputs: Sequence[np.ndarray], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nine outputs of a picture -> scores [n], boxes [n, 4] (left, top, width, height), landmarks [n, 5, 2].

    Of all anchors, in pixels of the picture.

    Args:
        outputs: scores [m, 1], boxes [m, 4] and landmarks [m, 10], each for strides 8, 16, 32.
        size: (height, width) of the picture.
    """
    boxes, landmarks = [], []
    for stride, distances, offsets in zip(STRIDES, outputs[3:6], outputs[6:9], strict=True):
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride] * stride
        centres = np.repeat(np.stack([columns.ravel(), rows.ravel()], axis=1), ANCHORS, axis=0)
        near, far = distances[:, :2] * stride, distances[:, 2:] * stride
        boxes.append(np.hstack([centres - near, near + far]))
        landmarks.append(centres[:, None] + offsets.reshape(-1, 5, 2) * stride)
    return np.concatenate(outputs[:3])[:, 0], np.concatenate(boxes), np.concatenate(landmarks)
