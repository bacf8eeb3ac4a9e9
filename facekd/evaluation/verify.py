"""`facekd verify`: one decision about two images, with the threshold's origin."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError
from facekd.evaluation.embed_files import read_crop
from facekd.evaluation.embedding import embed_images
from facekd.evaluation.thresholds import find_threshold
from facekd.evaluation.verification import pair_distances
from facekd.runtimes.detectors import open_detector
from facekd.runtimes.opening import open_model
from facekd.schemas.card import read_card


@dataclass(frozen=True)
class Decision:
    """What two images were judged to be.

    Attributes:
        same: score_cos > threshold_cos.
        score_cos: cosine of the two embeddings, flips summed, as in the evaluation that gave the threshold.
        threshold_cos: the threshold.
        far: false accept rate the threshold was measured at.
        dataset: what it was measured on.
        faces: faces found in each image; the largest central one was taken.
        detection_scores: the detector's for each; 1 for aligned crops.
    """

    same: bool
    score_cos: float
    threshold_cos: float
    far: float
    dataset: str
    faces: tuple[int, int]
    detection_scores: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return asdict(self)


def verify_images(
    first: Path, second: Path, *, bundle: Path, detector: Path | None, far: float = 1e-3, threads: int | None = None
) -> Decision:
    """Judges whether two images show one person.

    Args:
        first: an image file.
        second: an image file.
        bundle: the model; its card holds the thresholds.
        detector: a YuNet or SCRFD .onnx file; None if both images are aligned crops of the model's size.
        far: which threshold.
        threads: CPU threads; default: all.

    Raises:
        UsageError: a file that is not there, a model that is no bundle, no threshold at this FAR.
        UnreadableImage: no face found, or not an image.
    """
    # Everything cheap that can be wrong is said before the weights are read.
    for path in (first, second):
        if not path.is_file():
            raise UsageError(f"image {path} does not exist: give two image files")
    threshold = find_threshold(read_card(bundle), far, bundle=bundle)
    find = None if detector is None else open_detector(detector)
    embedder = open_model(bundle, threads=threads)
    crops = [read_crop(path, embedder, find) for path in (first, second)]
    embeddings = embed_images(embedder, [crop.image for crop in crops], batch_size=2)
    score = float(1 - pair_distances(embeddings)[0] / 2)
    return Decision(
        same=score > threshold.threshold_cos,
        score_cos=score,
        threshold_cos=threshold.threshold_cos,
        far=threshold.far,
        dataset=threshold.dataset,
        faces=(crops[0].faces, crops[1].faces),
        detection_scores=(crops[0].score, crops[1].score),
    )
