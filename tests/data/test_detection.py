"""Faces are found and placed at any size of face and photograph."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.data.alignment import align
from facekd.data.detection import (
    BEST_FACE_PIXELS,
    MOST_FACE_PIXELS,
    Face,
    YuNet,
    best_placed,
    choose_face,
    search_sides,
)

DETECTOR = "weights/yunet_n_640_640.onnx"


@pytest.fixture(scope="module")
def detector(shared: Path) -> YuNet:
    return YuNet(shared / DETECTOR)


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[np.ndarray]:
    """Twenty photographs, uint8 RGB [250, 250, 3], of twenty people."""
    folders = sorted(path for path in (shared / "data" / "lfw_raw").iterdir() if path.is_dir())[::20][:20]
    return [np.ascontiguousarray(cv2.imread(str(min(folder.glob("*.jpg"))))[:, :, ::-1]) for folder in folders]


def face(left: float, size: float, score: float = 0.9) -> Face:
    return Face(np.array([left, 0.0, size, size]), np.zeros((5, 2)), score)


@pytest.mark.parametrize(
    ("longest", "largest", "sides"),
    [
        (250, 3072, [250]),
        (320, 3072, [320]),
        (321, 3072, [321, 160]),
        (1600, 3072, [1600, 800, 400, 200]),
        (9000, 640, [640, 320]),
        (9000, 100, [100]),
    ],
)
def test_search_sides(longest: int, largest: int, sides: list[int]) -> None:
    assert search_sides(longest, largest) == sides


def test_a_face_of_any_size_is_in_range_at_one_of_the_searches() -> None:
    for longest in (250, 640, 1000, 1600, 4000):
        for size in np.geomspace(40, longest, 50):
            seen = [size * side / longest for side in search_sides(longest, 3072)]
            assert min(seen) <= MOST_FACE_PIXELS + 20  # a face as large as the picture, at 320 pixels
            # Between two searches its size halves, so one of them is within half an octave of the best size,
            # unless it is smaller than that in the largest one.
            nearest = min(abs(np.log2(pixels / BEST_FACE_PIXELS)) for pixels in seen)
            assert nearest <= 1.01 or max(seen) < BEST_FACE_PIXELS / 2


def test_of_one_face_the_best_placed_stays_and_others_are_kept() -> None:
    whole, quarter, eighth = face(0, 800, 0.99), face(5, 810, 0.7), face(0, 790, 0.9)
    small = face(2000, 40, 0.8)
    levels = [([whole, small], 1.0), ([quarter, face(2001, 44, 0.95)], 0.25), ([eighth], 0.125)]
    kept = best_placed(levels, 0.3)
    assert {id(one) for one in kept} == {id(quarter), id(small)}  # of 200 and of 40 pixels: nearest to 160
    assert best_placed([([whole], 1.0)], 0.3) == [whole]  # the only search keeps what it finds
    assert best_placed([([], 1.0), ([], 0.5)], 0.3) == []


def test_a_photograph_that_is_searched_once_gives_what_opencv_gives(
    detector: YuNet, photographs: list[np.ndarray], shared: Path
) -> None:
    opencv = cv2.FaceDetectorYN.create(str(shared / DETECTOR), "", (250, 250), 0.6, 0.3, 5000)
    for image in photographs:
        _, rows = opencv.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        found = detector.detect(image)
        assert len(found) == len(rows)
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        np.testing.assert_allclose([one.box for one in found], rows[:, :4], atol=1e-4)
        np.testing.assert_allclose([one.landmarks.ravel() for one in found], rows[:, 4:14], atol=1e-4)


def enlarged(image: np.ndarray, found: Face, side: int) -> np.ndarray:
    """The face of a photograph, as large as a picture of side x side pixels."""
    left, top, width, height = found.box
    seen = 1.15 * max(width, height)
    corner = np.array([left + width / 2 - seen / 2, top + height / 2 - seen / 2])
    matrix = np.array([[side / seen, 0, -corner[0] * side / seen], [0, side / seen, -corner[1] * side / seen]])
    return cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


@pytest.mark.parametrize("side", [1600, 3000])
def test_faces_that_fill_a_large_picture(
    detector: YuNet, photographs: list[np.ndarray], shared: Path, side: int
) -> None:
    """Seen at 1,600 pixels: cosine to the same photograph 0.03 at the least, 6 of 20 below 0.3."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(shared / "weights/edgeface_xs.onnx"), providers=["CPUExecutionProvider"])

    def embed(image: np.ndarray) -> np.ndarray:
        chosen = choose_face(detector.detect(image), image.shape[1], image.shape[0])
        assert chosen is not None
        crop = align(image, chosen.landmarks).transpose(2, 0, 1)[None].astype(np.float32)
        embedding = session.run(None, {session.get_inputs()[0].name: (crop - 127.5) / 127.5})[0][0]
        return embedding / np.linalg.norm(embedding)

    cosines = []
    for image in photographs:
        chosen = choose_face(detector.detect(image), 250, 250)
        assert chosen is not None
        cosines.append(float(embed(image) @ embed(enlarged(image, chosen, side))))
    assert np.median(cosines) > 0.95
    assert min(cosines) > 0.8


def test_small_faces_in_a_large_picture(detector: YuNet, photographs: list[np.ndarray]) -> None:
    """Faces of 30 pixels in one of 4,000 x 3,000, on a ground of soft colours."""
    rng = np.random.default_rng(1)
    scene = cv2.resize(rng.integers(60, 190, (30, 40, 3), dtype=np.uint8), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    wanted = []
    for number, image in enumerate(photographs):
        chosen = choose_face(detector.detect(image), 250, 250)
        assert chosen is not None
        scale = 30 / max(chosen.box[2:])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x, y = 200 + 700 * (number % 5), 200 + 700 * (number // 5)
        scene[y : y + small.shape[0], x : x + small.shape[1]] = small
        wanted.append(chosen.landmarks * scale + [x, y])
    found = np.array([one.landmarks for one in detector.detect(scene)])
    for landmarks in wanted:
        error = np.abs(found - landmarks).max(axis=(1, 2)).min()
        assert error < 0.25 * np.linalg.norm(landmarks[1] - landmarks[0]) + 2
