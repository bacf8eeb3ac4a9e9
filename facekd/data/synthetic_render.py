"""Draws a synthetic face: one function a feature, from what is behind to what is in front."""

import functools

import cv2
import numpy as np

from facekd.data.synthetic_face import SIZE, Identity, Photograph
from facekd.data.synthetic_painting import CANVAS, Camera, Painter, on_surface

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
    camera = Camera(photograph)
    painter = Painter(canvas, camera)
    _hair_behind(painter, identity, photograph)
    _neck_and_ears(painter, identity, photograph)
    _skin(painter, identity)
    _hair_in_front(painter, identity, photograph)
    _shading(painter, identity, photograph)
    _mouth(painter, identity, photograph)
    _nose(painter, identity)
    for side in (-1.0, 1.0):
        _eye(painter, identity, photograph, side)
    if photograph.glasses:
        _glasses(painter, identity, photograph)
    painter.paint()
    image = painter.photograph(_light(camera, identity, photograph))
    return _expose(image, photograph), _landmarks(camera, identity, photograph)


def _landmarks(camera: Camera, identity: Identity, photograph: Photograph) -> np.ndarray:
    """Eyes, nose tip, mouth corners: float64 [5, 2]."""
    s = identity.shape
    width, corner = _mouth_corner(identity, photograph)
    points = on_surface(np.array([
        [-s["eye_x"], s["eye_y"]], [s["eye_x"], s["eye_y"]], [0.0, s["nose_y"]], [-width, corner], [width, corner]
    ]))  # fmt: skip
    points[2, 2] += s["nose_z"]
    return camera(points)


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
    array: np.ndarray = _spline(len(controls)) @ controls
    return array


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
    points = np.empty_like(_CIRCLE)
    points[:, 0] = _CIRCLE[:, 0] * width + x
    points[:, 1] = _CIRCLE[:, 1] * height + y
    return points


def _background(photograph: Photograph) -> np.ndarray:
    small = cv2.resize(photograph.background, (14, 14), interpolation=cv2.INTER_CUBIC)
    return cv2.resize(small, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR)


def _hair_behind(painter: Painter, identity: Identity, photograph: Photograph) -> None:
    if identity.bald:
        return
    s = identity.shape
    outline = _contour(s, wider=s["hair_out"] + 3.0)
    long = outline[:, 1] > 0
    outline[long, 1] = outline[long, 1] * (0.1 + 0.8 * max(0.0, photograph.hair_length))
    outline[:, 1] -= 3.0 + 0.5 * s["hair_out"]
    painter.fill(outline, identity.hair * 0.7, flat=2.0)


def _neck_and_ears(painter: Painter, identity: Identity, photograph: Photograph) -> None:
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


def _skin(painter: Painter, identity: Identity) -> None:
    s = identity.shape
    outline = _contour(s)
    painter.fill(outline, identity.skin)
    for darkness in np.unique(identity.freckles[:, 3]):
        spots = [_ellipse(x, y, r, r)[::3] for x, y, r, _ in identity.freckles[identity.freckles[:, 3] == darkness]]
        painter.fill_all(spots, identity.skin * (darkness, darkness * 0.9, darkness * 0.85))


def _shading(painter: Painter, identity: Identity, photograph: Photograph) -> None:
    """Hollows and ridges of the face, which take part in the light."""
    s = identity.shape
    outline = _contour(s)
    if s["beard"] > 0.05:
        beard = outline[(outline[:, 1] > 8.0)]
        rim = np.array([[-s["mouth_w"] - 5, 14.0], [0.0, 10.5], [s["mouth_w"] + 5, 14.0]])
        painter.shade(np.vstack([beard, rim]), 1.0 - min(0.6, s["beard"]) * (1.0 - identity.hair / 400.0))
    if s["cleft"] > 0.05:
        painter.shade(_ellipse(0.0, s["chin_y"] - 6.0, 1.0, 2.6), 1.0 - min(0.4, s["cleft"]), fine=True)
    for side in (-1.0, 1.0):
        painter.shade(_ellipse(side * 22.0, 3.0, 8.0, 5.0), 1.0 + s["cheekbone"] * np.array([1.3, 0.5, 0.5]))
        fold = np.array([[8.0, 4.0], [11.5, 9.0], [14.5, 17.0], [13.0, 17.0], [10.0, 10.0]]) * (side, 1.0)
        painter.shade(fold, 1.0 - s["fold"], fine=True)
        painter.shade(_ellipse(side * s["eye_x"], s["eye_y"] + 0.5, 10.5, 6.5), 1.0 - s["socket"])
    y, w, lift = s["nose_y"], s["nose_w"], s["nose_z"]
    for side, factor in ((-1.0, 0.84), (1.0, 0.89)):
        ridge = np.array([[s["bridge"] * 0.9, -22.0], [s["bridge"], -10.0], [w * 0.62, y - 3.0], [w, y + 2.0],
                          [w * 0.75, y - 4.0], [s["bridge"] + 1.8, -14.0]])  # fmt: skip
        depth = lift * np.array([0.15, 0.45, 0.7, 0.35, 0.4, 0.15])
        painter.shade(ridge * (side, 1.0), factor, depth, fine=True)
        painter.shade(_ellipse(side * w * 0.78, y + 1.2, w * 0.26, 2.4), 0.82, 0.4 * lift, fine=True)
    painter.shade(np.array([[-1.0, -20.0], [1.0, -20.0], [1.3, y - 5.0], [-1.3, y - 5.0]]), 1.1, 0.7 * lift, fine=True)
    painter.shade(_ellipse(0.0, y - 0.5, w * 0.36, 2.4), 1.14, lift, fine=True)
    painter.shade(_ellipse(0.0, y + 5.4, w * 0.8, 1.3), 0.82, 0.3 * lift, fine=True)
    below = s["mouth_y"] + s["lower_lip"] + 2.2 + 3.8 * photograph.mouth_open
    painter.shade(_ellipse(0.0, below, s["mouth_w"] * 0.6, 1.5), 0.85, fine=True)


def _nose(painter: Painter, identity: Identity) -> None:
    s = identity.shape
    y, w, lift = s["nose_y"], s["nose_w"], s["nose_z"]

    for side in (-1.0, 1.0):
        nostril = _ellipse(side * w * 0.45, y + 3.3, s["nostril"] * 1.25, s["nostril"] * 0.7)
        painter.fill(nostril, identity.skin * (0.30, 0.22, 0.21), 0.6 * lift)


def _mouth_corner(identity: Identity, photograph: Photograph) -> tuple[float, float]:
    """Half width of the mouth and height of its corners."""
    s = identity.shape
    return s["mouth_w"] * (1.0 + 0.16 * photograph.smile), s["mouth_y"] - 2.6 * photograph.smile


def _mouth(painter: Painter, identity: Identity, photograph: Photograph) -> None:
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

    if opened > 0.8:
        painter.fill(_band(x, upper, lower), np.array([58.0, 20.0, 22.0]))
        painter.fill(_band(x, upper, np.minimum(lower, upper + 2.2 * dip)), np.array([228.0, 222.0, 210.0]))
    painter.fill(_band(x, top, upper), identity.lips * 0.88)
    painter.fill(_band(x, lower, bottom), identity.lips)
    if opened <= 0.8:
        painter.line([np.column_stack([x, line])], identity.lips * 0.45, 2)


def _eye(painter: Painter, identity: Identity, photograph: Photograph, side: float) -> None:
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


def _hair_in_front(painter: Painter, identity: Identity, photograph: Photograph) -> None:
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


def _glasses(painter: Painter, identity: Identity, photograph: Photograph) -> None:
    s = identity.shape
    colour = np.full(3, 150.0 * (1.0 - photograph.glasses))
    frames = [_ellipse(side * s["eye_x"], s["eye_y"] + 1.0, 11.5, 8.5) for side in (-1.0, 1.0)]
    bridge = np.array([[-s["eye_x"] + 11.5, s["eye_y"]], [s["eye_x"] - 11.5, s["eye_y"]]])
    painter.line([*(np.vstack([frame, frame[:1]]) for frame in frames), bridge], colour, 3, lift=5.0)


def _light(camera: Camera, identity: Identity, photograph: Photograph) -> np.ndarray:
    """Lambert's law on the average head, ambient + (1 - ambient) * cos, times the complexion: float32 [28, 28]."""
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
    array: np.ndarray = gain.astype(np.float32) * blotches
    return array


def _expose(image: np.ndarray, photograph: Photograph) -> np.ndarray:
    """Exposure and colour cast, focus, sensor noise."""
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
    """uint8 [112, 112, 3] about 128, standard deviation 32: a window of one large tile, which is cheap to take."""
    y, x = divmod(seed % (400 * 400), 400)
    return _grain_tile()[y : y + SIZE, x : x + SIZE]


@functools.cache
def _grain_tile() -> np.ndarray:
    return np.random.default_rng(0).normal(128.0, 32.0, (512, 512, 3)).clip(0, 255).astype(np.uint8)
