"""The golden crop: a face and the embedding this artefact gives for it, so that a device can check itself at start."""

import json
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.schemas.manifest import GoldenFiles, Manifest

# Below these cosines to the exporting machine's own result a device's delegate computes something else (facekd's
# choice): float delegates differ by rounding, an int8 one by its kernels' rounding modes as well.
MIN_COSINE = {"fp32": 0.9999, "fp16": 0.999, "w8": 0.999, "palette": 0.999, "int8": 0.98}


def write_golden(
    folder: Path, crop: np.ndarray, embedding: np.ndarray, reference: np.ndarray, *, precision: str
) -> GoldenFiles:
    """Writes golden/crop.png and golden/embedding.json.

    Args:
        crop: uint8 RGB [h, w, 3].
        embedding: what the artefact gave for it here, raw [e].
        reference: what the bundle gives in float32, raw [e].
    """
    import cv2

    files = GoldenFiles(min_cosine=MIN_COSINE[precision])
    (folder / "golden").mkdir()
    if not cv2.imwrite(str(folder / files.crop), crop[:, :, ::-1]):
        raise FacekdError(f"{folder / files.crop} cannot be written")
    record = {
        "crop": "crop.png",
        "colour": "RGB",
        "normalised": False,
        "embedding": [float(value) for value in embedding],
        "bundle_embedding": [float(value) for value in reference],
        "cosine_to_bundle": cosine(embedding, reference),
        "min_cosine": files.min_cosine,
    }
    (folder / files.embedding).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return files


def read_golden(folder: Path, manifest: Manifest) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(crop uint8 RGB [3, h, w], the artefact's embedding [e], the bundle's embedding [e]).

    Raises:
        FacekdError: a file is missing or damaged.
    """
    import cv2

    image = cv2.imread(str(folder / manifest.golden.crop), cv2.IMREAD_COLOR)
    if image is None:
        raise FacekdError(f"{folder / manifest.golden.crop} cannot be read; export the bundle again")
    try:
        record = json.loads((folder / manifest.golden.embedding).read_text(encoding="utf-8"))
        vectors = [np.array(record[key], np.float32) for key in ("embedding", "bundle_embedding")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise FacekdError(f"{folder / manifest.golden.embedding} is damaged ({error}): export again") from error
    return np.ascontiguousarray(image[:, :, ::-1].transpose(2, 0, 1)), vectors[0], vectors[1]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
