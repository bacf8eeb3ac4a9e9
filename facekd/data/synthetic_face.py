"""One drawn face: what belongs to the identity, what belongs to the photograph, and the picture of both.

Everything here is facekd's choice. Lengths are pixels of the 112x112 aligned face, relative to the nose tip of the
alignment template; x right, y down, z towards the camera. The face is modelled in three dimensions, so that turning the
head moves near and far features differently, and drawn at twice the size, so that edges come out smooth.
"""

from dataclasses import dataclass

import numpy as np

SIZE = 112

_SKIN = np.array(
    [[255, 226, 204], [240, 200, 170], [214, 166, 130], [170, 120, 86], [118, 78, 54], [82, 54, 40]], float
)
_HAIR = np.array([[28, 24, 24], [58, 40, 30], [104, 70, 44], [140, 76, 40], [196, 156, 98], [170, 168, 166]], float)
_IRIS = np.array([[62, 40, 26], [104, 72, 40], [96, 110, 70], [90, 120, 150], [120, 130, 136]], float)


@dataclass(frozen=True)
class Identity:
    """What stays the same in every photograph of one person. Built by `draw_identity`."""

    shape: dict[str, float]
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray
    lips: np.ndarray
    brows: np.ndarray
    freckles: np.ndarray  # [k, 4]: x, y, radius, darkness
    bald: bool
    complexion: np.ndarray  # float32 [6, 6]: blotches of the skin, about 1


@dataclass(frozen=True)
class Photograph:
    """What changes from one photograph of a person to the next. Angles in radians. Built by `draw_photograph`."""

    yaw: float
    pitch: float
    roll: float
    scale: float
    shift: tuple[float, float]
    smile: float
    mouth_open: float
    eyes_open: float
    brow_raise: float
    gaze: tuple[float, float]
    light: np.ndarray  # unit vector towards the light
    ambient: float
    colour_cast: np.ndarray  # gain a channel
    gamma: float
    blur: float
    noise: float
    fringe: float
    hair_length: float
    glasses: float  # 0: none, else darkness of the frame
    shirt: np.ndarray
    background: np.ndarray  # uint8 [4, 4, 3]
    noise_seed: int


def draw_identity(rng: np.random.Generator, variety: float) -> Identity:
    """Draws a person; `variety` scales how far people differ from the average face."""

    def around(mean: float, spread: float) -> float:
        return mean + spread * variety * float(np.clip(rng.normal(), -2.2, 2.2))

    shape = {
        "eye_x": around(17.6, 1.1), "eye_y": around(-20.4, 1.0), "eye_w": around(7.0, 0.8), "eye_h": around(3.3, 0.6),
        "eye_tilt": around(0.0, 0.09), "eye_round": around(0.0, 0.25), "lid": around(1.0, 0.5),
        "iris": around(3.1, 0.3),
        "brow_y": around(-30.0, 1.6), "brow_w": around(9.8, 1.0), "brow_h": around(2.2, 0.7),
        "brow_arch": around(1.8, 1.1), "brow_tilt": around(0.0, 0.09), "brow_x": around(18.0, 1.2),
        "nose_w": around(6.8, 1.2), "nose_y": around(1.5, 1.6), "nose_z": around(13.0, 3.0), "bridge": around(2.8, 0.7),
        "nostril": around(1.5, 0.4), "mouth_y": around(20.3, 1.5), "mouth_w": around(13.2, 1.5),
        "upper_lip": around(2.6, 0.8), "lower_lip": around(3.4, 0.9), "cupid": around(0.8, 0.6),
        "temple": around(34.0, 1.8), "cheek": around(36.0, 2.0), "jaw": around(29.5, 2.8), "chin_w": around(13.0, 2.6),
        "chin_y": around(41.0, 2.4), "ear": around(5.0, 1.5), "forehead": around(-47.0, 3.0),
        "widow": around(0.0, 2.5), "parting": around(0.0, 10.0), "beard": max(0.0, around(-0.15, 0.3)),
        "cheekbone": max(0.0, around(0.10, 0.07)), "fold": max(0.0, around(0.12, 0.12)), "socket": around(0.16, 0.07),
        "hair_out": around(4.0, 2.0), "curl": max(0.0, around(0.5, 0.9)), "curl_pitch": around(17.0, 5.0),
        "cleft": max(0.0, around(-0.1, 0.25)),
    }  # fmt: skip
    skin = _mixed(_SKIN, rng.uniform(0.0, 1.0)) + variety * rng.normal(0, 5, 3)
    hair = _mixed(_HAIR, rng.uniform(0.0, 1.0) ** 1.3) + variety * rng.normal(0, 6, 3)
    lips = 0.55 * skin + 0.45 * np.array([150.0, 62.0, 68.0]) + variety * rng.normal(0, 9, 3)
    moles = int(rng.integers(0, 3))
    count = moles + (int(rng.integers(12, 40)) if rng.random() < 0.2 else 0)
    freckles = np.column_stack([rng.normal(0, 15, count), rng.normal(2, 13, count), rng.uniform(0.35, 0.6, count)])
    freckles[:moles, 2] = rng.uniform(0.6, 1.0, moles)
    darkness = np.full(count, rng.uniform(0.78, 0.92))  # one shade for all freckles, another for the moles
    darkness[:moles] = rng.uniform(0.5, 0.75)
    freckles = np.column_stack([freckles, darkness])
    return Identity(
        shape=shape,
        skin=_valid(skin),
        hair=_valid(hair),
        iris=_valid(_mixed(_IRIS, rng.uniform(0.0, 1.0)) + variety * rng.normal(0, 6, 3)),
        lips=_valid(lips),
        brows=_valid(0.6 * hair + 0.2 * skin + variety * rng.normal(0, 8)),
        freckles=freckles,
        bald=bool(rng.random() < 0.08),
        complexion=(1.0 + 0.035 * variety * rng.normal(size=(6, 6))).clip(0.85, 1.15).astype(np.float32),
    )


def draw_photograph(
    rng: np.random.Generator, *, pose: float, light: float, expression: float, blur: float, noise: float, clutter: float
) -> Photograph:
    """Draws the circumstances of one photograph; each argument scales how far they stray from a studio portrait."""
    direction = np.array([0.0, -0.35, 1.0]) + light * rng.normal(0, [0.75, 0.45, 0.15])
    direction[2] = max(direction[2], 0.15)
    return Photograph(
        yaw=float(np.clip(pose * rng.normal(0, 0.30), -0.8, 0.8)),
        pitch=float(np.clip(pose * rng.normal(0, 0.15), -0.45, 0.45)),
        roll=float(pose * rng.normal(0, 0.05)),
        scale=float(np.clip(1.0 + pose * rng.normal(0, 0.03), 0.88, 1.12)),
        shift=(float(pose * rng.normal(0, 1.2)), float(pose * rng.normal(0, 1.2))),
        smile=float(expression * np.clip(rng.normal(0.25, 0.45), -0.6, 1.0)),
        mouth_open=float(expression * max(0.0, rng.normal(-0.1, 0.45))),
        eyes_open=float(1.0 - expression * min(0.85, abs(rng.normal(0, 0.22)))),
        brow_raise=float(expression * rng.normal(0, 1.2)),
        gaze=(float(expression * rng.uniform(-2.2, 2.2)), float(expression * rng.uniform(-0.6, 0.6))),
        light=direction / np.linalg.norm(direction),
        ambient=float(np.clip(0.62 - light * abs(rng.normal(0, 0.16)), 0.2, 0.9)),
        colour_cast=np.exp(light * (rng.normal(0, 0.12) + rng.normal(0, 0.06, 3))),
        gamma=float(np.exp(light * rng.normal(0, 0.15))),
        blur=float(blur * max(0.0, rng.normal(0.3, 0.5))),
        noise=float(noise * abs(rng.normal(2.0, 3.0))),
        fringe=float(clutter * rng.normal(0, 3.5)),
        hair_length=float(rng.uniform(-1.0, 1.0)),
        glasses=float(rng.uniform(0.3, 1.0)) if rng.random() < 0.12 * clutter else 0.0,
        shirt=rng.uniform(20, 235, 3),
        background=_backdrop(rng, clutter),
        noise_seed=int(rng.integers(1 << 31)),
    )


def _mixed(table: np.ndarray, at: float) -> np.ndarray:
    """A colour between the rows of `table`, `at` in [0, 1]."""
    place = at * (len(table) - 1)
    low = min(int(place), len(table) - 2)
    array: np.ndarray = table[low] + (table[low + 1] - table[low]) * (place - low)
    return array


def _valid(colour: np.ndarray) -> np.ndarray:
    array: np.ndarray = np.clip(colour, 6.0, 250.0)
    return array


def _backdrop(rng: np.random.Generator, clutter: float) -> np.ndarray:
    """uint8 [4, 4, 3]: one tone, lighter and darker places, some colour."""
    tone = 128.0 + clutter * (rng.uniform(-90, 90) + rng.normal(0, 14, 3))
    places = clutter * (rng.normal(0, 36, (4, 4, 1)) + rng.normal(0, 14, (4, 4, 3)))
    return np.clip(tone + places, 0, 255).astype(np.uint8)
