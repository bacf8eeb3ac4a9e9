"""The app's detection, alignment and embedding on real photographs, against Python's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.data.alignment import align
from facekd.data.detection import YuNet

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "android_demo"
DETECTOR = "weights/yunet_n_640_640.onnx"


@pytest.fixture(scope="module")
def desktop() -> list[str]:
    if not (DEMO / "build.py").is_file():
        pytest.skip("not run from a checkout: there is no android_demo")
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH")
    result = subprocess.run(
        [sys.executable, str(DEMO / "build.py"), "desktop"], capture_output=True, text=True, check=False
    )
    if "build.py fetch" in result.stderr:
        pytest.skip(result.stderr.strip())
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fixed network of batch 1 with the part of the manifest that the app reads."""
    onnx = pytest.importorskip("onnx", reason="facekd[onnx] is not installed")
    folder = tmp_path_factory.mktemp("artefact")
    rng = np.random.default_rng(0)
    tensors = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.2, (16, 3, 5, 5)).astype(np.float32), "w"),
        onnx.numpy_helper.from_array(rng.normal(0, 0.1, (16 * 7 * 7, 32)).astype(np.float32), "g"),
    ]
    make = onnx.helper.make_node
    nodes = [
        make("Conv", ["image", "w"], ["c"], strides=[4, 4], pads=[2, 2, 2, 2]),
        make("Relu", ["c"], ["r"]),
        make("AveragePool", ["r"], ["p"], kernel_shape=[4, 4], strides=[4, 4]),
        make("Flatten", ["p"], ["f"]),
        make("MatMul", ["f", "g"], ["embedding"]),
    ]
    value = onnx.helper.make_tensor_value_info
    ends = ([value("image", 1, [1, 3, 112, 112])], [value("embedding", 1, [1, 32])])
    graph = onnx.helper.make_graph(nodes, "fixed", *ends, tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    spec = {"size": [112, 112], "colour": "RGB", "mean": [127.5] * 3, "std": [127.5] * 3}
    manifest = {
        "schema_version": 1,
        "name": "fixed",
        "precision": "fp32",
        "bundle": {"sha256": "0" * 64},
        "model": "model.onnx",
        "input": {"dtype": "float32", "layout": "nchw", "batch": 1, "preprocess": "out", "spec": spec},
        "output": {"name": "embedding", "width": 32},
        "thresholds": [],
        "golden": {"crop": "golden/crop.png", "embedding": "golden/embedding.json", "min_cosine": 0.9999},
        "files": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def embed(folder: Path, crop: np.ndarray) -> np.ndarray:
    """L2norm(f(x) + f(flip(x))) of a uint8 RGB crop [112, 112, 3], float64 [32]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    both = [((c.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5) for c in (crop, crop[:, ::-1])]
    summed = sum(session.run(None, {"image": x})[0][0].astype(np.float64) for x in both)
    return summed / np.linalg.norm(summed)


def test_the_apps_own_code_on_photographs(desktop: list[str], artefact: Path, shared: Path, tmp_path: Path) -> None:
    paths = sorted((shared / "data" / "lfw_raw").glob("*/*.jpg"))[::60]
    if not paths:
        pytest.skip(f"no photographs in {shared / 'data' / 'lfw_raw'}")
    images = []
    lines = []
    for i, path in enumerate(paths):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None
        images.append(np.ascontiguousarray(image[:, :, ::-1]))
        images[-1].tofile(tmp_path / f"{i}.rgb")
        lines.append(f"{image.shape[1]} {image.shape[0]} {tmp_path / f'{i}.rgb'}")
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = [*desktop, artefact, shared / DETECTOR, tmp_path / "list.txt", tmp_path / "out"]
    subprocess.run([str(word) for word in words], check=True)
    records = [
        json.loads(line) for line in (tmp_path / "out/photographs.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(records) == len(images)
    crops = np.fromfile(tmp_path / "out/crops.bin", np.uint8).reshape(-1, 112, 112, 3)
    detector = YuNet(shared / DETECTOR)
    compared = 0
    for image, record in zip(images, records, strict=True):
        # The app's network has a fixed input, the photograph in its corner. At another size the borders' zeros lie
        # elsewhere, which moves the boxes of faces at the edge by up to 15 pixels, in OpenCV as well.
        padded = np.zeros((640, 640, 3), np.uint8)
        padded[: image.shape[0], : image.shape[1]] = image
        faces = detector.detect(padded)
        assert len(faces) == len(record["faces"])
        for expected, found in zip(faces, record["faces"], strict=True):
            np.testing.assert_allclose(found["box"], expected.box, atol=0.05)
            np.testing.assert_allclose(found["landmarks"], expected.landmarks, atol=0.05)
        if not faces:
            continue
        crop = crops[compared]
        compared += 1
        expected_crop = align(image, np.array(record["faces"][0]["landmarks"]))
        assert np.abs(crop.astype(int) - expected_crop.astype(int)).mean() < 1.0
        np.testing.assert_allclose(record["embedding"], embed(artefact, crop), atol=1e-4)
        np.testing.assert_allclose(record["embedding"], embed(artefact, expected_crop), atol=1e-2)
    assert compared == len(crops) >= 10
