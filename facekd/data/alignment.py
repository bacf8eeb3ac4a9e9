"""Five-point alignment: the field's template, Umeyama's similarity transform, the warp.

Coordinates are (x, y) in pixels, the centre of the top left pixel at (0, 0). Landmarks are in image order: left eye,
right eye, nose, left mouth corner, right mouth corner, as the viewer sees them.
"""

import cv2
import numpy as np

from facekd.common.errors import FacekdError, UsageError

TEMPLATE_112 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)
"""float64 [5, 2]: where the landmarks lie in a 112x112 aligned face (ArcFace's template, used across the field)."""


def template(size: int) -> np.ndarray:
    """The template for a square of `size` pixels, float64 [5, 2].

    A size divisible by 112 scales it by size / 112; any other by size / 128, moved right by 8 * size / 128, as the
    field's common code does.
    """
    if size < 1:
        raise UsageError(f"the aligned size must be at least 1 pixel, got {size}")
    if size % 112 == 0:
        return TEMPLATE_112 * (size / 112)
    return TEMPLATE_112 * (size / 128) + [8.0 * size / 128, 0.0]


def similarity_transform(src: np.ndarray, dst: np.ndarray) -> np.ndarray:
    """Least-squares rotation, uniform scale and translation from `src` to `dst` (Umeyama 1991, equations 40 to 43).

    Args:
        src: [n, 2] points, n >= 2.
        dst: [n, 2] where they should go.

    Returns:
        float64 [2, 3]: x' = matrix[:, :2] @ x + matrix[:, 2]. Never a reflection.

    Raises:
        FacekdError: the points do not determine a transform (all in one place, not finite).
    """
    src, dst = np.asarray(src, dtype=np.float64), np.asarray(dst, dtype=np.float64)
    if src.shape != dst.shape or src.ndim != 2 or src.shape[1] != 2 or len(src) < 2:
        raise UsageError(f"similarity_transform needs two arrays [n, 2] with n >= 2, got {src.shape} and {dst.shape}")
    if not (np.isfinite(src).all() and np.isfinite(dst).all()):
        raise FacekdError("landmarks are not finite: the face cannot be aligned")
    src_mean, dst_mean = src.mean(0), dst.mean(0)
    src_centred, dst_centred = src - src_mean, dst - dst_mean
    variance = (src_centred**2).sum() / len(src)
    if variance < 1e-6 * max(1.0, float(np.abs(src_mean).max())) ** 2 * 1e-6 + 1e-12:
        raise FacekdError(f"landmarks {src.round(1).tolist()} lie in one point: the face cannot be aligned")
    covariance = dst_centred.T @ src_centred / len(src)
    u, singular, vt = np.linalg.svd(covariance)
    sign = np.ones(2)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[1] = -1.0
    if singular[0] < 1e-12:
        raise FacekdError("landmarks do not determine a rotation: the face cannot be aligned")
    rotation = (u * sign) @ vt
    scale = (singular * sign).sum() / variance
    linear = scale * rotation
    return np.column_stack([linear, dst_mean - linear @ src_mean])


def align(image: np.ndarray, landmarks: np.ndarray, size: int = 112) -> np.ndarray:
    """Warps a photograph so that its landmarks lie on the template; what is outside the photograph is 0.

    Args:
        image: uint8 RGB [h, w, 3].
        landmarks: [5, 2].
        size: side of the result in pixels.

    Returns:
        uint8 RGB [size, size, 3].
    """
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (5, 2):
        raise UsageError(f"align needs five landmarks [5, 2], got {landmarks.shape}; for 68 use five_from_68")
    matrix = similarity_transform(landmarks, template(size))
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=(0, 0, 0))


def five_from_68(landmarks: np.ndarray) -> np.ndarray:
    """Five points from iBUG 300-W's 68: eyes from their corners, then 30, 48, 54. [68, 2] -> float64 [5, 2]."""
    landmarks = np.asarray(landmarks, dtype=np.float64)
    if landmarks.shape != (68, 2):
        raise UsageError(f"five_from_68 needs 68 landmarks [68, 2], got {landmarks.shape}")
    return np.stack([
        landmarks[[36, 39]].mean(0), landmarks[[42, 45]].mean(0), landmarks[30], landmarks[48], landmarks[54]
    ])  # fmt: skip
