"""Draws a synthetic face: geometry in three dimensions, painted with OpenCV, then lit, blurred and made noisy."""

import functools
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from facekd.data.synthetic_face import _CANVAS, _ORIGIN, _OVERSAMPLING, _SHIFT, SIZE, Identity, Photograph

_TURN = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_TURN), np.sin(_TURN)])
_ARC = np.linspace(-1.0, 1.0, 13)
_FINE = np.linspace(-1.0, 1.0, 31)


def render(identity: Identity, photograph: Photograph) -> tuple[np.ndarray, np.ndarray]:
    """Draws one photograph of a person.

    Returns:
        image: uint8 RGB [112, 112, 3]; landmarks: float64 [5, 2] in its pixels.
    """
    canvas = _background(photograph)
    camera = _Camera(photograph)
    painter = _Painter(canvas, camera)
    _hair_behind(painter, identity, photograph)
    _neck_and_ears(painter, identity, photograph)
    _skin(painter, identity)
    painter.call(lambda: _light(canvas, camera, identity, photograph))
    _nose(painter, identity)
    _mouth(painter, identity, photograph)
    for side in (-1.0, 1.0):
        _eye(painter, identity, photograph, side)
    _hair_in_front(painter, identity, photograph)
    if photograph.glasses:
        _glasses(painter, identity, photograph)
    painter.paint()
    return _expose(canvas, photograph), camera.landmarks(identity, photograph)


class _Camera:
    """Model points to canvas pixels: rotation about the head's axis, weak perspective, similarity."""

    def __init__(self, photograph: Photograph) -> None:
        cy, sy, cp, sp = (
            np.cos(photograph.yaw),
            np.sin(photograph.yaw),
            np.cos(photograph.pitch),
            np.sin(photograph.pitch),
        )
        self.rotation = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array(
            [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]
        )
        c, s = np.cos(photograph.roll) * photograph.scale, np.sin(photograph.roll) * photograph.scale
        self.turn = np.array([[c, s], [-s, c]])
        # An aligner would centre the turned face again: keep the middle of eyes and mouth where it was.
        middle = np.array([[0.0, 0.0, surface(0.0, 0.0)]]) @ self.rotation.T
        self.shift = _ORIGIN + photograph.shift - middle[0, :2]

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """[n, 3] model -> [n, 2] pixels of the 112x112 image."""
        turned = points @ self.rotation.T
        return (turned[:, :2] * (1.0 + turned[:, 2:] / 700.0)) @ self.turn + self.shift

    def landmarks(self, identity: Identity, photograph: Photograph) -> np.ndarray:
        """Eyes, nose tip, mouth corners: float64 [5, 2]."""
        s = identity.shape
        width, corner = _mouth_corner(identity, photograph)
        points = on_surface(np.array([
            [-s["eye_x"], s["eye_y"]], [s["eye_x"], s["eye_y"]], [0.0, s["nose_y"]], [-width, corner], [width, corner]
        ]))  # fmt: skip
        points[2, 2] += s["nose_z"]
        return self(points)


class _Painter:
    """Collects shapes in model coordinates, projects them all at once, then paints them in order.

    Shapes are [n, 2] points on the face's surface, `lift` pixels above it; with `flat` they lie at that depth instead.
    """

    def __init__(self, canvas: np.ndarray, camera: _Camera) -> None:
        self.canvas = canvas
        self.camera = camera
        self._points: list[np.ndarray] = []
        self._lifts: list[np.ndarray] = []
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
        self, points: np.ndarray, factor: float | np.ndarray, blur: int = 9, lift: float | np.ndarray = 0.0
    ) -> None:
        """Multiplies what lies in a polygon by `factor` (one, or one a channel), fading out over `blur` pixels."""
        strength = ((factor if isinstance(factor, np.ndarray) else np.full(3, factor)) - 1.0).tolist()
        self._add([points], lift, None, lambda shapes: self._shade(shapes[0], strength, blur))

    def within(self, outline: np.ndarray, colours: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
        """Fills several shapes, each with its colour, but only inside `outline`: an iris between the lids."""
        tints = [colour.tolist() for _, colour in colours]
        self._add([outline, *(shape for shape, _ in colours)], 0.0, None, lambda shapes: self._within(shapes, tints))

    def call(self, stroke: Callable[[], object]) -> None:
        """Something that touches the whole canvas, in its turn."""
        self._add([], 0.0, None, lambda shapes: stroke())

    def paint(self) -> None:
        """Projects and paints everything collected."""
        sizes = [len(points) for points in self._points]
        flat = np.concatenate(self._points)
        lifts = np.concatenate(self._lifts)
        depth = np.repeat(self._on_surface, sizes) * surface(flat[:, 0], flat[:, 1]) + lifts
        pixels = self.camera(np.column_stack([flat, depth]))
        fixed = np.rint(((pixels + 0.5) * _OVERSAMPLING - 0.5) * (1 << _SHIFT)).astype(np.int32)
        ends = np.cumsum(sizes).tolist()
        shapes = [fixed[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        at = 0
        for stroke, count in zip(self._strokes, self._counts, strict=True):
            stroke(shapes[at : at + count])
            at += count

    def _add(
        self,
        shapes: Sequence[np.ndarray],
        lift: float | np.ndarray,
        flat: float | None,
        stroke: Callable[[list[np.ndarray]], object],
    ) -> None:
        self._points += shapes
        depth = lift if flat is None else flat
        self._lifts += [depth if isinstance(depth, np.ndarray) else np.full(len(shape), depth) for shape in shapes]
        self._on_surface += [1.0 if flat is None else 0.0] * len(shapes)
        self._counts.append(len(shapes))
        self._strokes.append(stroke)

    def _box(self, outline: np.ndarray, margin: int) -> tuple[int, int, int, int] | None:
        """x0, y0, x1, y1 of a shape on the canvas, or None when it is outside."""
        x, y, width, height = cv2.boundingRect(outline >> _SHIFT)
        x0, y0 = max(0, x - margin), max(0, y - margin)
        x1, y1 = min(_CANVAS, x + width + margin + 1), min(_CANVAS, y + height + margin + 1)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def _mask(self, outline: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        x0, y0, x1, y1 = box
        mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(mask, [outline], 255, cv2.LINE_AA, _SHIFT, (-x0 << _SHIFT, -y0 << _SHIFT))
        return mask

    def _shade(self, outline: np.ndarray, strength: list[float], blur: int) -> None:
        box = self._box(outline, blur)
        if box is None:
            return
        x0, y0, x1, y1 = box
        mask = self._mask(outline, box)
        mask = cv2.blur(cv2.blur(mask, (blur, blur)), (blur, blur))
        weight = mask.astype(np.float32)
        gain = cv2.transform(weight, np.array([[k / 255.0, 1.0] for k in strength]))
        region = self.canvas[y0:y1, x0:x1]
        cv2.multiply(region, gain, dst=region, dtype=cv2.CV_8U)

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


def _contour(s: dict[str, float], wider: float = 0.0) -> np.ndarray:
    """Outline of the face, closed: [m, 2]."""
    right = [
        (0.0, s["forehead"] - 16.0), (s["temple"] * 0.68, s["forehead"] - 9.0), (s["temple"], -26.0),
        (s["cheek"], -4.0), (s["jaw"], 22.0), (s["chin_w"], s["chin_y"] - 4.5),
    ]  # fmt: skip
    controls = [*right, (0.0, s["chin_y"]), *[(-x, y) for x, y in right[:0:-1]]]
    return _smooth(np.array(controls)) * (1.0 + wider / 36.0)


def _smooth(controls: np.ndarray) -> np.ndarray:
    """A closed Catmull-Rom curve through `controls`: [n, 2] -> [4 n, 2]."""
    return _spline(len(controls)) @ controls


@functools.cache
def _spline(count: int) -> np.ndarray:
    """[4 count, count]: what each control point weighs in each point of the curve."""
    t = np.array([0.0, 0.25, 0.5, 0.75])
    weights = 0.5 * np.stack([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2], 1)
    matrix = np.zeros((4 * count, count))
    for control in range(count):
        for k in range(4):
            matrix[4 * control : 4 * control + 4, (control + k - 1) % count] += weights[:, k]
    return matrix


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    return _CIRCLE * (width, height) + (x, y)


def _background(photograph: Photograph) -> np.ndarray:
    small = cv2.resize(photograph.background, (14, 14), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(small, (_CANVAS, _CANVAS), interpolation=cv2.INTER_LINEAR)


def _hair_behind(painter: _Painter, identity: Identity, photograph: Photograph) -> None:
    if identity.bald:
        return
    s = identity.shape
    outline = _contour(s, wider=s["hair_out"] + 3.0)
    long = outline[:, 1] > 0
    outline[long, 1] = outline[long, 1] * (0.1 + 0.8 * max(0.0, photograph.hair_length))
    outline[:, 1] -= 3.0 + 0.5 * s["hair_out"]
    painter.fill(outline, identity.hair * 0.7, flat=2.0)


def _neck_and_ears(painter: _Painter, identity: Identity, photograph: Photograph) -> None:
    s = identity.shape
    neck = np.array([[-0.72, 18], [0.72, 18], [0.75, 52], [1.9, 62], [2.6, 90], [-2.6, 90], [-1.9, 62], [-0.75, 52]])
    neck[:, 0] *= s["jaw"]
    painter.fill(neck, identity.skin * 0.66, flat=-4.0)
    shirt = np.array([[-0.8, 56], [0, 64], [0.8, 56], [2.0, 62], [3.0, 95], [-3.0, 95], [-2.0, 62]])
    shirt[:, 0] *= s["jaw"]
    painter.fill(shirt, photograph.shirt, flat=0.0)
    for side in (-1.0, 1.0):
        ear = _ellipse(side * (s["cheek"] + 0.2 * s["ear"]), -10.0, max(2.0, s["ear"]), 9.5)
        painter.fill(ear, identity.skin * (0.86, 0.80, 0.78), flat=0.0)


def _skin(painter: _Painter, identity: Identity) -> None:
    s = identity.shape
    outline = _contour(s)
    painter.fill(outline, identity.skin)
    if s["beard"] > 0.05:
        beard = outline[(outline[:, 1] > 8.0)]
        rim = np.array([[-s["mouth_w"] - 5, 14.0], [0.0, 10.5], [s["mouth_w"] + 5, 14.0]])
        painter.shade(np.vstack([beard, rim]), 1.0 - min(0.6, s["beard"]) * (1.0 - identity.hair / 400.0), 11)
    if s["cleft"] > 0.05:
        painter.shade(_ellipse(0.0, s["chin_y"] - 6.0, 1.0, 2.6), 1.0 - min(0.4, s["cleft"]), 5)
    for side in (-1.0, 1.0):
        painter.shade(_ellipse(side * 22.0, 3.0, 8.0, 5.0), 1.0 + s["cheekbone"] * np.array([1.3, 0.5, 0.5]), 15)
        fold = np.array([[8.0, 4.0], [11.5, 9.0], [14.5, 17.0], [13.0, 17.0], [10.0, 10.0]]) * (side, 1.0)
        painter.shade(fold, 1.0 - s["fold"], 5)
        painter.shade(_ellipse(side * s["eye_x"], s["eye_y"] + 0.5, 10.5, 6.5), 1.0 - s["socket"], 13)
    for darkness in np.unique(identity.freckles[:, 3]):
        spots = [_ellipse(x, y, r, r)[::3] for x, y, r, _ in identity.freckles[identity.freckles[:, 3] == darkness]]
        painter.fill_all(spots, identity.skin * (darkness, darkness * 0.9, darkness * 0.85))


def _nose(painter: _Painter, identity: Identity) -> None:
    s = identity.shape
    y, w, lift = s["nose_y"], s["nose_w"], s["nose_z"]

    for side, factor in ((-1.0, 0.86), (1.0, 0.90)):
        ridge = np.array([[s["bridge"] * 0.9, -22.0], [s["bridge"], -10.0], [w * 0.62, y - 3.0], [w, y + 2.0],
                          [w * 0.75, y - 4.0], [s["bridge"] + 1.8, -14.0]])  # fmt: skip
        painter.shade(ridge * (side, 1.0), factor, 5, lift * np.array([0.15, 0.45, 0.7, 0.35, 0.4, 0.15]))
        painter.shade(_ellipse(side * w * 0.78, y + 1.2, w * 0.26, 2.4), 0.84, 3, 0.4 * lift)
        nostril = _ellipse(side * w * 0.45, y + 3.3, s["nostril"] * 1.25, s["nostril"] * 0.7)
        painter.fill(nostril, identity.skin * (0.34, 0.25, 0.24), 0.6 * lift)
    painter.shade(_ellipse(0.0, y - 0.5, w * 0.36, 2.4), 1.13, 5, lift)
    painter.shade(np.array([[-1.0, -20.0], [1.0, -20.0], [1.3, y - 5.0], [-1.3, y - 5.0]]), 1.08, 5, 0.7 * lift)
    painter.shade(_ellipse(0.0, y + 5.4, w * 0.8, 1.3), 0.86, 5, 0.3 * lift)


def _mouth_corner(identity: Identity, photograph: Photograph) -> tuple[float, float]:
    """Half width of the mouth and height of its corners."""
    s = identity.shape
    return s["mouth_w"] * (1.0 + 0.16 * photograph.smile), s["mouth_y"] - 2.6 * photograph.smile


def _mouth(painter: _Painter, identity: Identity, photograph: Photograph) -> None:
    s = identity.shape
    width, corner = _mouth_corner(identity, photograph)
    opened = 5.5 * photograph.mouth_open
    dip = 1.0 - _ARC**2
    x = _ARC * width
    line = corner + (s["mouth_y"] - corner) * dip
    bow = s["cupid"] * np.exp(-((_ARC / 0.18) ** 2))
    top = line - s["upper_lip"] * dip**0.7 + bow
    upper = line + 0.1 - 0.3 * opened * dip
    lower = line + 0.7 * opened * dip
    bottom = lower + s["lower_lip"] * dip**0.8

    painter.shade(_ellipse(0.0, s["mouth_y"] + 5.5 + opened, width * 0.6, 1.6), 0.87, 7)
    if opened > 0.8:
        painter.fill(_band(x, upper, lower), np.array([58.0, 20.0, 22.0]))
        painter.fill(_band(x, upper, np.minimum(lower, upper + 2.2 * dip)), np.array([228.0, 222.0, 210.0]))
    painter.fill(_band(x, top, upper), identity.lips * 0.88)
    painter.fill(_band(x, lower, bottom), identity.lips)
    if opened <= 0.8:
        painter.line([np.column_stack([x, line])], identity.lips * 0.45, 2)
    painter.shade(_band(x, lower + 0.4, lower + 0.45 * s["lower_lip"]), 1.08, 3)


def _eye(painter: _Painter, identity: Identity, photograph: Photograph, side: float) -> None:
    s = identity.shape
    height = s["eye_h"] * max(0.12, photograph.eyes_open)
    bulge = np.maximum(0.0, 1.0 - np.abs(_ARC) ** (2.0 + s["eye_round"]))
    x = _ARC * s["eye_w"]
    tilt = -s["eye_tilt"] * x
    across, middle = side * (s["eye_x"] + x), s["eye_y"] + tilt
    upper = np.column_stack([across, middle - height * bulge])
    lower = np.column_stack([across, middle + 0.75 * height * bulge])
    lid = np.column_stack([across, middle - (height + 1.0 + s["lid"]) * bulge])
    almond = np.vstack([upper, lower[::-1]])
    painter.line([lid], identity.skin * (0.62, 0.54, 0.52), 1)
    painter.fill(almond, np.array([232.0, 228.0, 224.0]))
    x0, y0, r = side * s["eye_x"] + photograph.gaze[0], s["eye_y"] + photograph.gaze[1] - 0.2, s["iris"]
    painter.within(almond, [
        (_ellipse(x0, y0, r, r), identity.iris * 0.75),
        (_ellipse(x0, y0, r * 0.8, r * 0.8), identity.iris),
        (_ellipse(x0, y0, r * 0.42, r * 0.42), np.array([14.0, 12.0, 12.0])),
        (_ellipse(x0 - 0.9, y0 - 1.0, 0.65, 0.65)[::3], np.array([250.0, 250.0, 250.0])),
    ])  # fmt: skip
    painter.line([upper], identity.brows * 0.4, 3)
    painter.line([lower], identity.skin * (0.62, 0.52, 0.50), 1)

    along = _ARC * s["brow_w"]
    arch = -s["brow_arch"] * (1.0 - (_ARC - 0.25) ** 2) - s["brow_tilt"] * along - photograph.brow_raise
    thick = s["brow_h"] * (1.05 - 0.55 * (_ARC + 1.0) / 2.0) * (1.0 - 0.9 * np.maximum(0.0, np.abs(_ARC) - 0.8))
    across, base = side * (along + s["brow_x"]), s["brow_y"] + arch
    painter.fill(_band(across, base - thick, base + thick), identity.brows)


def _band(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The closed shape between two curves over the same x."""
    return np.column_stack([np.concatenate([x, x[::-1]]), np.concatenate([top, bottom[::-1]])])


def _hair_in_front(painter: _Painter, identity: Identity, photograph: Photograph) -> None:
    if identity.bald:
        return
    s = identity.shape
    # The top of the head is rarely inside an aligned crop; the hair's outline matters at the temples.
    half, t = s["temple"] + s["hair_out"], _FINE
    curl = s["curl"] * np.sin(t * s["curl_pitch"] + s["parting"])
    outer = np.column_stack(
        [t * (half + curl), -22.0 - (58.0 + s["hair_out"]) * (1.0 - np.abs(t) ** 3.0) ** 0.5 - curl]
    )
    line = s["forehead"] + 4.0 + photograph.fringe
    height = line + (-14.0 - line) * np.abs(t) ** 4.0 + s["widow"] * np.exp(-((t / 0.3) ** 2))
    height += 0.35 * s["parting"] * t * (1.0 - t**2) + 0.7 * curl * (1.0 - t**2)
    hairline = np.column_stack([t * (s["temple"] + 0.5), height])
    painter.fill(np.vstack([outer, hairline[::-1]]), identity.hair, lift=2.0)
    swept = np.clip(np.arange(len(t)) + round(0.25 * s["parting"]), 0, len(t) - 1)
    strands = [
        np.stack([hairline[k], 0.5 * (hairline[k] + outer[k]), outer[swept[k]]]) for k in range(2, len(t) - 2, 2)
    ]
    painter.line(strands[::2], identity.hair * 1.25 + 6.0, 2, lift=2.0)
    painter.line(strands[1::2], identity.hair * 0.75, 2, lift=2.0)


def _glasses(painter: _Painter, identity: Identity, photograph: Photograph) -> None:
    s = identity.shape
    colour = np.full(3, 150.0 * (1.0 - photograph.glasses))
    frames = [_ellipse(side * s["eye_x"], s["eye_y"] + 1.0, 11.5, 8.5) for side in (-1.0, 1.0)]
    bridge = np.array([[-s["eye_x"] + 11.5, s["eye_y"]], [s["eye_x"] - 11.5, s["eye_y"]]])
    painter.line([*(np.vstack([frame, frame[:1]]) for frame in frames), bridge], colour, 3, lift=5.0)


def _light(canvas: np.ndarray, camera: _Camera, identity: Identity, photograph: Photograph) -> None:
    """Lambert's law on the average head: ambient + (1 - ambient) * cos(angle to the light), times the complexion."""
    coarse = 28
    grid = (np.arange(coarse) + 0.5) * (SIZE / coarse)
    middle = camera(np.array([[0.0, -6.0, 20.0]]))[0]
    x, y = np.meshgrid((grid - middle[0]) / 44.0, (grid - middle[1]) / 60.0)
    depth = np.sqrt(np.maximum(0.05, 1.0 - x**2 - y**2))
    cosine = (x * photograph.light[0] + y * photograph.light[1] + depth * photograph.light[2]) / np.sqrt(
        x**2 + y**2 + depth**2
    )
    gain = photograph.ambient + (1.15 - photograph.ambient) * np.maximum(0.0, cosine)
    blotches = cv2.resize(identity.complexion, (coarse, coarse), interpolation=cv2.INTER_CUBIC)
    moved = np.array([[1.0, 0.0, (middle[0] - 56.0) * coarse / SIZE], [0.0, 1.0, (middle[1] - 66.0) * coarse / SIZE]])
    blotches = cv2.warpAffine(blotches, moved, (coarse, coarse), borderMode=cv2.BORDER_REPLICATE)
    coarse_gain = cv2.merge([gain.astype(np.float32) * blotches] * 3)
    full = cv2.resize(coarse_gain, (_CANVAS, _CANVAS), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(canvas, full, dst=canvas, dtype=cv2.CV_8U)


def _expose(canvas: np.ndarray, photograph: Photograph) -> np.ndarray:
    image = cv2.resize(canvas, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    table = np.arange(256) / 255.0
    curves = 255.0 * np.clip(table[:, None] ** photograph.gamma * photograph.colour_cast, 0.0, 1.0)
    image = cv2.LUT(image, curves.round().astype(np.uint8).reshape(256, 1, 3))
    if photograph.blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), photograph.blur)
    if photograph.noise > 0.3:
        noise = _grain(photograph.noise_seed)
        image = cv2.addWeighted(image, 1.0, noise, photograph.noise / 32.0, -128.0 * photograph.noise / 32.0)
    return image


def _grain(seed: int) -> np.ndarray:
    """uint8 [112, 112, 3] about 128, standard deviation 32."""
    rng = np.random.default_rng(seed)
    total = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) >> 1
    total += rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) >> 1
    return cv2.addWeighted(total, 0.61, total, 0.0, 128.0 * 0.39)
