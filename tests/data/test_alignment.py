"""Alignment against scikit-image, against known transforms, and against the shared, already aligned LFW."""

from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.alignment import TEMPLATE_112, align, five_from_68, similarity_transform, template
from facekd.data.detection import Face, YuNet, choose_face
from facekd.data.opening import load_verification_set

transform = pytest.importorskip("skimage.transform")


@pytest.mark.parametrize("seed", range(10))
def test_agrees_with_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    src = TEMPLATE_112 * rng.uniform(0.5, 4) + rng.normal(0, 6, (5, 2)) + rng.uniform(0, 500, 2)
    expected = transform.SimilarityTransform()
    expected.estimate(src, TEMPLATE_112)
    np.testing.assert_allclose(similarity_transform(src, TEMPLATE_112), expected.params[:2], atol=1e-8)


def test_agrees_with_scikit_image_where_a_reflection_would_fit_better() -> None:
    src = TEMPLATE_112 * [-1, 1]
    expected = transform.SimilarityTransform()
    expected.estimate(src, TEMPLATE_112)
    found = similarity_transform(src, TEMPLATE_112)
    np.testing.assert_allclose(found, expected.params[:2], atol=1e-8)
    assert np.linalg.det(found[:, :2]) > 0


@pytest.mark.parametrize(
    ("angle", "scale", "shift"), [(0.0, 1.0, (0, 0)), (2.0, 0.3, (40, -7)), (-0.4, 5.0, (900, 300))]
)
def test_recovers_a_known_transform(angle: float, scale: float, shift: tuple[float, float]) -> None:
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    src = TEMPLATE_112 @ linear.T + shift
    matrix = similarity_transform(src, TEMPLATE_112)
    np.testing.assert_allclose(matrix[:, :2] @ linear, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(src @ matrix[:, :2].T + matrix[:, 2], TEMPLATE_112, atol=1e-9)


@pytest.mark.parametrize(
    "points", [np.zeros((5, 2)), np.full((5, 2), 700.0), np.full((5, 2), np.nan), np.full((5, 2), np.inf)]
)
def test_degenerate_landmarks_are_an_error(points: np.ndarray) -> None:
    with pytest.raises(FacekdError, match="cannot be aligned"):
        similarity_transform(points, TEMPLATE_112)


def test_wrong_shapes_are_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"\(68, 2\)"):
        align(np.zeros((10, 10, 3), np.uint8), np.zeros((68, 2)))
    with pytest.raises(UsageError):
        similarity_transform(np.zeros((5, 2)), np.zeros((4, 2)))
    with pytest.raises(UsageError):
        five_from_68(np.zeros((5, 2)))


def test_sizes_follow_the_protocol() -> None:
    np.testing.assert_array_equal(template(112), TEMPLATE_112)
    np.testing.assert_allclose(template(224), TEMPLATE_112 * 2)
    np.testing.assert_allclose(template(128), TEMPLATE_112 + np.array([8, 0]))
    np.testing.assert_allclose(template(256), TEMPLATE_112 * 2 + np.array([16, 0]))


def test_aligning_an_aligned_face_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    np.testing.assert_array_equal(align(image, TEMPLATE_112), image)


def test_a_dot_on_each_landmark_lands_on_the_template() -> None:
    landmarks = np.array([[210.0, 190.0], [300.0, 210.0], [250.0, 260.0], [200.0, 300.0], [280.0, 320.0]])
    ideal = landmarks @ (matrix := similarity_transform(landmarks, TEMPLATE_112))[:, :2].T + matrix[:, 2]
    for point, goal in zip(landmarks, ideal, strict=True):
        y, x = np.mgrid[:480, :480]
        blob = 255 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * 8.0**2))
        weights = align(np.repeat(blob[..., None], 3, 2).astype(np.uint8), landmarks)[..., 0].astype(float)
        rows, columns = np.mgrid[:112, :112]
        centre = np.array([(weights * columns).sum(), (weights * rows).sum()]) / weights.sum()
        np.testing.assert_allclose(centre, goal, atol=0.1)


def test_outside_the_photograph_is_black() -> None:
    assert align(np.full((112, 112, 3), 255, np.uint8), TEMPLATE_112 + 40)[80:, 80:].max() == 0


def test_five_points_from_68() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (68, 2))
    expected = [(points[36] + points[39]) / 2, (points[42] + points[45]) / 2, points[30], points[48], points[54]]
    np.testing.assert_allclose(five_from_68(points), expected)


def test_the_prominent_face_is_chosen() -> None:
    points = np.zeros((5, 2))
    large_aside = Face(np.array([0.0, 0.0, 50.0, 50.0]), points, 0.7)
    middle = Face(np.array([180.0, 180.0, 40.0, 40.0]), points, 0.9)
    larger_near = Face(np.array([150.0, 150.0, 90.0, 90.0]), points, 0.6)
    assert choose_face([], 400, 400) is None
    assert choose_face([large_aside, middle], 400, 400) is middle
    assert choose_face([middle, larger_near], 400, 400) is larger_near


def test_photographs_align_as_the_published_set_is_aligned(shared: Path) -> None:
    """Detected and aligned here, the photographs of LFW's fold 1 equal the .bin's crops up to its JPEG."""
    detector = YuNet(shared / "weights/yunet_n_640_640.onnx")
    photographs = load_verification_set(shared / "data/lfw_pairs.txt", shared / "data/lfw_raw", folds=[1], size=None)
    aligned = load_verification_set(shared / "data/lfw.bin")
    differences = []
    for i in range(0, 1200, 60):
        image = photographs.image(i)
        face = choose_face(detector.detect(image), image.shape[1], image.shape[0])
        assert face is not None
        differences.append(np.abs(align(image, face.landmarks).astype(float) - aligned.image(i)).mean())
    assert np.median(differences) < 3.0


def test_what_is_no_detector_is_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no face detector at"):
        YuNet(tmp_path / "nowhere.onnx")
    with pytest.raises(UsageError, match="is not a YuNet detector"):
        YuNet(shared / "weights/edgeface_xs.onnx")
    with pytest.raises(UsageError, match=r"uint8 RGB image \[h, w, 3\]"):
        YuNet(shared / "weights/yunet_n_640_640.onnx").detect(np.zeros((9, 9), np.uint8))


def test_no_face_is_an_empty_list(shared: Path) -> None:
    detector = YuNet(shared / "weights/yunet_n_640_640.onnx")
    for shape in ((1, 1, 3), (112, 112, 3), (37, 1500, 3)):
        assert detector.detect(np.zeros(shape, np.uint8)) == []
