"""SCRFD's nine outputs, made by a formula, decoded; against a decoding by loops from the definition."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.align_folder import align_folder
from facekd.data.decoding import encode_png
from facekd.data.detection import Face, YuNet, best_placed, reduced
from facekd.runtimes.detectors import open_detector
from facekd.runtimes.scrfd import Scrfd

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

RANDOM = np.random.default_rng(8)
SPREAD = np.repeat([1.0, 0.3, 1.0], [2, 8, 20])[:, None]
WEIGHTS = {s: SPREAD * RANDOM.normal(size=(30, 3)) for s in (8, 16, 32)}
"""Of a cell's mean colour: two scores, two boxes of four distances, two sets of ten offsets."""


BIAS = np.concatenate([[-2.2, -2.2], np.full(8, 1.8), np.tile([-0.6, -0.6, 0.6, -0.6, 0, 0, -0.5, 0.6, 0.5, 0.6], 2)])
"""Few scores above 0.5; boxes of two strides or more, never of a negative size; landmarks within them."""


def write(
    path: Path,
    *,
    size: tuple[Any, Any] = ("h", "w"),
    shuffle: Sequence[int] = range(9),
    batched: bool = False,
    keep: int = 9,
) -> Path:
    """An .onnx with the outputs of an SCRFD: cell means of the picture, times WEIGHTS."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, outputs = [], [], []
    for stride in (8, 16, 32):
        weight = WEIGHTS[stride].astype(np.float32).reshape(30, 3, 1, 1)
        constants += [
            numpy_helper.from_array(weight, f"w{stride}"),
            numpy_helper.from_array(BIAS.astype(np.float32), f"b{stride}"),
        ]
        cells = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes += [
            helper.make_node("AveragePool", ["input.1"], [f"p{stride}"], **cells),
            helper.make_node("Conv", [f"p{stride}", f"w{stride}", f"b{stride}"], [f"c{stride}"]),
            helper.make_node("Transpose", [f"c{stride}"], [f"t{stride}"], perm=[0, 2, 3, 1]),
            helper.make_node("Split", [f"t{stride}", "parts"], [f"s{stride}", f"d{stride}", f"k{stride}"], axis=3),
            helper.make_node("Sigmoid", [f"s{stride}"], [f"sigmoid{stride}"]),
        ]
    constants.append(numpy_helper.from_array(np.array([2, 8, 20]), "parts"))
    for kind, values in (("sigmoid", 1), ("d", 4), ("k", 10)):
        shape = np.array([1, -1, values] if batched else [-1, values])
        constants.append(numpy_helper.from_array(shape, f"shape{kind}"))
        for stride in (8, 16, 32):
            nodes.append(helper.make_node("Reshape", [f"{kind}{stride}", f"shape{kind}"], [f"{kind}_{stride}_out"]))
            outputs.append(helper.make_tensor_value_info(f"{kind}_{stride}_out", TensorProto.FLOAT, None))
    image = helper.make_tensor_value_info("input.1", TensorProto.FLOAT, [1, 3, *size])
    graph = helper.make_graph(nodes, "g", [image], [outputs[i] for i in shuffle][:keep], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def by_definition(picture: np.ndarray, *, height: int, width: int, least: float) -> list[Face]:
    """The faces of a picture in the corner of a black canvas of that size, one anchor after the other."""
    canvas = np.zeros((height, width, 3))
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    canvas = (canvas - 127.5) / 128
    found = []
    for stride in (8, 16, 32):
        for row in range(height // stride):
            for column in range(width // stride):
                cell = canvas[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
                values = WEIGHTS[stride] @ cell.mean(axis=(0, 1)) + BIAS
                for anchor in range(2):
                    score = 1 / (1 + np.exp(-values[anchor]))
                    x, y = column * stride, row * stride
                    left, top, right, bottom = values[2 + 4 * anchor : 6 + 4 * anchor] * stride
                    offsets = values[10 + 10 * anchor : 20 + 10 * anchor] * stride
                    points = np.array([[x + offsets[2 * k], y + offsets[2 * k + 1]] for k in range(5)])
                    if score >= least:
                        found.append(Face(np.array([x - left, y - top, left + right, top + bottom]), points, score))
    kept: list[Face] = []
    for face in sorted(found, key=lambda face: -face.score):
        if all(iou(face.box, other.box) <= 0.4 for other in kept):
            kept.append(face)
    return kept


def iou(a: np.ndarray, b: np.ndarray) -> float:
    across = max(0.0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    both = across * down
    return float(both / (a[2] * a[3] + b[2] * b[3] - both))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blotches of 8 pixels, so that cells differ."""
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.ascontiguousarray(small.repeat(8, 0).repeat(8, 1)[:height, :width])


def check_alike(found: Sequence[Face], expected: Sequence[Face]) -> None:
    assert len(found) == len(expected) > 0
    for face, other in zip(
        sorted(found, key=lambda face: -face.score), sorted(expected, key=lambda face: -face.score), strict=True
    ):
        np.testing.assert_allclose(face.score, other.score, rtol=1e-4)
        np.testing.assert_allclose(face.box, other.box, rtol=1e-3, atol=1e-2)
        np.testing.assert_allclose(face.landmarks, other.landmarks, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (100, 75), (32, 32)])
@pytest.mark.parametrize("batched", [False, True])
def test_any_size(tmp_path: Path, height: int, width: int, batched: bool) -> None:
    detector = open_detector(write(tmp_path / "det.onnx", batched=batched))
    assert isinstance(detector, Scrfd)
    image = picture(height, width)
    padded = {"height": -(-height // 32) * 32, "width": -(-width // 32) * 32}
    check_alike(detector.search(image, 1.0), by_definition(image, **padded, least=0.5))


def test_a_fixed_size(tmp_path: Path) -> None:
    """Pictures are reduced until they fit, and stand in the corner."""
    detector = open_detector(write(tmp_path / "det.onnx", size=(64, 128)), score_threshold=0.4)
    image = picture(48, 64)
    check_alike(detector.search(image, 1.0), by_definition(image, height=64, width=128, least=0.4))
    large = picture(160, 320, 2)
    scale = 320 / 64  # the larger side that fits into 64 x 128 whichever way the picture lies
    faces = by_definition(reduced(large, 1 / scale), height=64, width=128, least=0.4)
    once = [Face(face.box * scale, face.landmarks * scale, face.score) for face in faces]
    check_alike(detector.detect(large), best_placed([(once, 1 / scale)], 0.4))


def test_outputs_in_any_order(tmp_path: Path) -> None:
    image = picture(64, 96, 1)
    plain = open_detector(write(tmp_path / "a.onnx")).search(image, 1.0)
    check_alike(
        open_detector(write(tmp_path / "b.onnx", shuffle=[8, 3, 1, 0, 6, 5, 2, 7, 4])).search(image, 1.0), plain
    )


def test_photographs_are_aligned_with_it(tmp_path: Path) -> None:
    (tmp_path / "photographs" / "Ada").mkdir(parents=True)
    for i in range(3):
        (tmp_path / "photographs" / "Ada" / f"{i}.png").write_bytes(encode_png(picture(96, 96, i)))
    detector = open_detector(write(tmp_path / "det.onnx"))
    assert align_folder(tmp_path / "photographs", tmp_path / "out", detector).aligned == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"keep": 6}, r"has 6 outputs .*without the landmarks that alignment needs: not an SCRFD"),
        ({"keep": 8}, r"has 8 outputs .*: not an SCRFD detector with five landmarks"),
    ],
)
def test_other_outputs_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_detector(write(tmp_path / "det.onnx", **given))
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path, shared: Path) -> None:
    with pytest.raises(UsageError, match="no face detector at"):
        open_detector(tmp_path / "nothing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(FacekdError, match="is not a readable ONNX model"):
        open_detector(tmp_path / "text.onnx")
    with pytest.raises(UsageError, match="has 1 outputs"):
        open_detector(shared / "weights" / "edgeface_xs.onnx")
    assert isinstance(open_detector(shared / "weights" / "yunet_n_640_640.onnx"), YuNet)
    old = shared / "cases" / "09-not-the-file-but-its-pointer" / "face_detection_yunet_2022mar.onnx"
    with pytest.raises(UsageError, match=r"2022 or earlier|Git LFS pointer"):
        open_detector(old)
