"""From three dimensions onto the canvas: a camera, and a painter that projects every shape in one go."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from facekd.data.alignment import TEMPLATE_112
from facekd.data.synthetic_face import SIZE, Photograph

OVERSAMPLING = 2  # drawn at twice the size, so that edges come out smooth
CANVAS = SIZE * OVERSAMPLING
_SHIFT = 4  # fractional bits of the coordinates given to OpenCV


class Camera:
    """Model points to canvas pixels: rotation about the head's axis, weak perspective, similarity."""

    def __init__(self, photograph: Photograph) -> None:
        c, s = np.cos(photograph.yaw), np.sin(photograph.yaw)
        turned = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = np.cos(photograph.pitch), np.sin(photograph.pitch)
        self.rotation = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ turned
        c, s = np.cos(photograph.roll) * photograph.scale, np.sin(photograph.roll) * photograph.scale
        self.turn = np.array([[c, s], [-s, c]])
        # An aligner would centre the turned face again: keep the middle of eyes and mouth where it was.
        middle = np.array([[0.0, 0.0, surface(0.0, 0.0)]]) @ self.rotation.T
        self.shift = TEMPLATE_112[2] + photograph.shift - middle[0, :2]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """[n, 3] model -> [n, 2] pixels of the 112x112 image."""
        turned = points @ self.rotation.T
        array: np.ndarray = (turned[:, :2] * (1.0 + turned[:, 2:] / 700.0)) @ self.turn + self.shift
        return array


class Painter:
    """Collects shapes in model coordinates, projects them all at once, then paints them in order.

    Shapes are [n, 2] points on the face's surface, `lift` pixels above it; with `flat` they lie at that depth instead.
    """

    def __init__(self, canvas: np.ndarray, camera: Camera) -> None:
        self.canvas = canvas
        self.camera = camera
        # Shades at the size of the image, 128 for none: broad ones and fine ones.
        self._shades = [np.full((SIZE, SIZE, 3), 128, np.uint8) for _ in range(2)]
        self._points: list[np.ndarray] = []
        self._lifts: list[float] = []
        self._bent: list[tuple[int, np.ndarray]] = []  # shapes whose points have lifts of their own
        self._on_surface: list[float] = []
        self._strokes: list[Callable[[list[np.ndarray]], object]] = []
        self._counts: list[int] = []  # shapes a stroke takes

    def fill(self, points: np.ndarray, colour: np.ndarray, lift: float = 0.0, flat: float | None = None) -> None:
        self.fill_all([points], colour, lift, flat)

    def fill_all(
        self, shapes: Sequence[np.ndarray], colour: np.ndarray, lift: float = 0.0, flat: float | None = None
    ) -> None:
        """Fills several shapes with one colour."""
        tint = colour.tolist()
        self._add(shapes, lift, flat, lambda drawn: cv2.fillPoly(self.canvas, drawn, tint, cv2.LINE_AA, _SHIFT))

    def line(self, lines: Sequence[np.ndarray], colour: np.ndarray, thickness: int = 2, lift: float = 0.0) -> None:
        tint = colour.tolist()
        self._add(
            lines,
            lift,
            None,
            lambda drawn: cv2.polylines(self.canvas, drawn, False, tint, thickness, cv2.LINE_AA, _SHIFT),
        )

    def shade(
        self, points: np.ndarray, factor: float | np.ndarray, lift: float | np.ndarray = 0.0, *, fine: bool = False
    ) -> None:
        """Notes that light in a polygon is to be multiplied by `factor` (one, or one a channel), with a soft edge.

        Takes effect in `photograph`. Where shades of one kind overlap, the later one counts.
        """
        tone = (128.0 * factor).tolist() if isinstance(factor, np.ndarray) else [128.0 * factor] * 3
        gain = self._shades[int(fine)]
        self._add([points], lift, None, lambda drawn: cv2.fillPoly(gain, drawn, tone, cv2.LINE_AA, _SHIFT + 1))

    def within(self, outline: np.ndarray, colours: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Fills several shapes, each with its colour, but only inside `outline`: an iris between the lids."""
        tints = [colour.tolist() for _, colour in colours]
        self._add([outline, *(shape for shape, _ in colours)], 0.0, None, lambda shapes: self._within(shapes, tints))

    def paint(self) -> None:
        """Projects and paints everything collected."""
        sizes = [len(points) for points in self._points]
        flat = np.concatenate(self._points)
        ends = np.cumsum(sizes).tolist()
        depth = np.repeat(self._on_surface, sizes) * surface(flat[:, 0], flat[:, 1]) + np.repeat(self._lifts, sizes)
        for shape, lift in self._bent:
            depth[ends[shape] - sizes[shape] : ends[shape]] += lift
        pixels = self.camera(np.column_stack([flat, depth]))
        fixed = np.rint(((pixels + 0.5) * OVERSAMPLING - 0.5) * (1 << _SHIFT)).astype(np.int32)
        shapes = [fixed[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        at = 0
        for stroke, count in zip(self._strokes, self._counts, strict=True):
            stroke(shapes[at : at + count])
            at += count

    def photograph(self, light: np.ndarray) -> np.ndarray:
        """The canvas at the size of the image, times all shades and `light`, float32 [h, w] of any size."""
        image = cv2.resize(self.canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        broad = cv2.blur(cv2.blur(self._shades[0], (5, 5)), (5, 5))
        gain = cv2.multiply(broad, cv2.blur(self._shades[1], (3, 3)), scale=1.0 / 128**2, dtype=cv2.CV_32F)
        stretched = cv2.resize(cv2.merge([light] * 3), (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
        return cv2.multiply(image, cv2.multiply(gain, stretched), dtype=cv2.CV_8U)

    def _add(
        self,
        shapes: Sequence[np.ndarray],
        lift: float | np.ndarray,
        flat: float | None,
        stroke: Callable[[list[np.ndarray]], object],
    ) -> None:
        self._points += shapes
        if isinstance(lift, np.ndarray):
            self._bent.append((len(self._points) - len(shapes), lift))
            lift = 0.0
        self._lifts += [lift if flat is None else flat] * len(shapes)
        self._on_surface += [1.0 if flat is None else 0.0] * len(shapes)
        self._counts.append(len(shapes))
        self._strokes.append(stroke)

    def _box(self, outline: np.ndarray, margin: int) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 of a shape on the canvas, or None when it is outside."""
        x, y, width, height = cv2.boundingRect(outline >> _SHIFT)
        x0, y0 = max(0, x - margin), max(0, y - margin)
        x1, y1 = min(CANVAS, x + width + margin + 1), min(CANVAS, y + height + margin + 1)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def _mask(self, outline: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        x0, y0, x1, y1 = box
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, _SHIFT, (-x0 << _SHIFT, -y0 << _SHIFT))
        return mask

    def _within(self, shapes: list[np.ndarray], colours: list[list[float]]) -> None:
        box = self._box(shapes[0], 1)
        if box is None:
            return
        x0, y0, x1, y1 = box
        after = self.canvas[y0:y1, x0:x1].copy()
        for shape, colour in zip(shapes[1:], colours, strict=True):
            cv2.fillPoly(after, [shape], colour, cv2.LINE_AA, _SHIFT, (-x0 << _SHIFT, -y0 << _SHIFT))
        cv2.copyTo(after, self._mask(shapes[0], box), self.canvas[y0:y1, x0:x1])


def surface(x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Depth of the average head: the front of an ellipsoid, flattened at its rim."""
    return 40.0 * np.sqrt(np.maximum(0.03, 1.0 - (np.asarray(x) / 45.0) ** 2 - ((np.asarray(y) - 2.0) / 64.0) ** 2))


def on_surface(points: np.ndarray) -> np.ndarray:
    """[n, 2] -> [n, 3] with the surface's depth."""
    return np.column_stack([points, surface(points[:, 0], points[:, 1])])
