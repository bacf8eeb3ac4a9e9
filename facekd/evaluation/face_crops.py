"""Images to the aligned crops that a model takes: read, decoded, checked or aligned, in a pool of processes."""

import functools
from collections.abc import Generator, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from facekd.common.parallel import CHUNK, SMALL_CHUNK, Shared, ordered_map, share
from facekd.data.decoding import check_size
from facekd.data.detection import FaceDetector
from facekd.data.source import UnreadableImage
from facekd.evaluation.embed_inputs import NamedImages
from facekd.evaluation.photographs import FaceCrop, crop_face


def face_crop(pixels: np.ndarray, name: str, size: tuple[int, int], detector: FaceDetector | None) -> FaceCrop:
    """An image as a crop; without a detector it must be one already (then score 1, 1 face).

    Args:
        pixels: uint8 RGB [h, w, 3].
        name: for the error.
        size: (height, width) of the crop.
        detector: finds the face.

    Raises:
        UnreadableImage: no face was found, or the image has another size.
    """
    if detector is None:
        check_size(pixels, name, size)
        return FaceCrop(image=pixels, score=1.0, faces=1)
    crop = crop_face(pixels, detector, size)
    if crop is None:
        raise UnreadableImage(name, "no face found")
    return crop


def read_crops(
    pool: Executor | None,
    images: NamedImages,
    indices: Iterable[int],
    *,
    size: tuple[int, int],
    detector: FaceDetector | None,
    ahead: int,
) -> Generator[np.ndarray | str]:
    """For each image its crop, uint8 RGB [h, w, 3], or why it has none; in order.

    Args:
        pool: see facekd.common.parallel; None reads each as it is asked for.
        images: aligned crops, or photographs where `detector` is given.
        indices: which of them.
        size: (height, width) of the crops.
        detector: finds and aligns the most prominent face.
        ahead: crops that are made before they are asked for, so that a model that is busy does not hold up the pool.
    """
    with share(pool, _Work(images, size, detector)) as work:
        read = functools.partial(_crop_or_reason, work)
        yield from ordered_map(pool, read, indices, chunk=CHUNK if detector else SMALL_CHUNK, ahead=ahead)


@dataclass(frozen=True)
class _Work:
    images: NamedImages
    size: tuple[int, int]
    detector: FaceDetector | None


def _crop_or_reason(work: Shared[_Work], i: int) -> np.ndarray | str:
    given = work.value
    try:
        return face_crop(given.images.read(i), "", given.size, given.detector).image
    except UnreadableImage as error:
        return error.reason
