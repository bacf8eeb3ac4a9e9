"""Training augmentation on one image, NumPy and OpenCV only: each kind with its probability and strength in the recipe.

The order is that of the camera: geometry, light, what covers the face, resolution, compression. The kinds and their
strengths are facekd's choice; cropping, low resolution and colour at probability 0.2 are AdaFace's (Kim et al. 2022).
"""

import math

import cv2
import numpy as np

from facekd.recipe.augmentation import Affine, AugmentationConfig, Colour, Crop, Jpeg, LowResolution, Occlusion


def augment(image: np.ndarray, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """Augments one image.

    Args:
        image: uint8 RGB [h, w, 3]; not changed.
        config: what may happen, how likely, how strongly.
        rng: the only source of randomness: the same state gives the same image.

    Returns:
        uint8 RGB [h, w, 3]; `image` itself where nothing happened.
    """
    # One draw decides every kind, so that switching one kind on does not change which images another one takes.
    happens = rng.random(8)
    if happens[0] < config.flip:
        image = cv2.flip(image, 1)
    if happens[1] < config.affine.probability:
        image = _affine(image, config.affine, rng)
    if happens[2] < config.crop.probability:
        image = _crop(image, config.crop, rng)
    if happens[3] < config.colour.probability:
        image = _colour(image, config.colour, rng)
    if happens[4] < config.grey.probability:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if happens[5] < config.occlusion.probability:
        image = _occlude(image, config.occlusion, rng)
    if happens[6] < config.low_resolution.probability:
        image = _lower_resolution(image, config.low_resolution, rng)
    if happens[7] < config.jpeg.probability:
        image = _jpeg(image, config.jpeg, rng)
    return image


def _affine(image: np.ndarray, config: Affine, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    turn, grow, right, down = rng.uniform(-1.0, 1.0, 4)
    angle = math.radians(turn * config.rotation_degrees)
    scale = (1.0 + config.scale) ** grow
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    x, y = (width - 1) / 2, (height - 1) / 2
    matrix = np.array(
        [
            [cosine, -sine, x - cosine * x + sine * y + right * config.translation * width],
            [sine, cosine, y - sine * x - cosine * y + down * config.translation * height],
        ]
    )
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))


def _crop(image: np.ndarray, config: Crop, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    across, down = rng.uniform(config.smallest, 1.0, 2)
    rows, columns = max(1, round(down * height)), max(1, round(across * width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    out = np.zeros_like(image)
    out[top : top + rows, left : left + columns] = image[top : top + rows, left : left + columns]
    return out


def _colour(image: np.ndarray, config: Colour, rng: np.random.Generator) -> np.ndarray:
    """All three at once: brightness and contrast are affine in the pixel, saturation mixes with the luminance."""
    brightness, contrast, saturation = 1.0 + rng.uniform(-1.0, 1.0, 3) * (
        config.brightness,
        config.contrast,
        config.saturation,
    )
    luminance = np.array([0.299, 0.587, 0.114])
    mean = float(np.dot(cv2.mean(image)[:3], luminance)) * brightness
    gain = brightness * contrast
    matrix = np.empty((3, 4))
    matrix[:, :3] = gain * (saturation * np.eye(3) + (1.0 - saturation) * luminance)
    matrix[:, 3] = (1.0 - contrast) * mean
    return cv2.transform(image, matrix)  # saturates to 0..255


def _occlude(image: np.ndarray, config: Occlusion, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    across, down = rng.uniform(0.1, config.largest, 2)
    rows, columns = max(1, round(down * height)), max(1, round(across * width))
    top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    out = image.copy()
    out[top : top + rows, left : left + columns] = rng.integers(0, 256, 3)
    return out


_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def _lower_resolution(image: np.ndarray, config: LowResolution, rng: np.random.Generator) -> np.ndarray:
    height, width = image.shape[:2]
    side = rng.uniform(config.smallest, 1.0)
    down, up = rng.integers(len(_INTERPOLATIONS), size=2)
    small = cv2.resize(
        image, (max(1, round(side * width)), max(1, round(side * height))), interpolation=_INTERPOLATIONS[down]
    )
    return cv2.resize(small, (width, height), interpolation=_INTERPOLATIONS[up])


def _jpeg(image: np.ndarray, config: Jpeg, rng: np.random.Generator) -> np.ndarray:
    quality = int(rng.integers(config.lowest, config.highest + 1))
    encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [int(cv2.IMWRITE_JPEG_QUALITY), quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded just now
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
