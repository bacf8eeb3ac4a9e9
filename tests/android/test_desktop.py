"""The app's detection, alignment and embedding on real photographs, against Python's."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from facekd.data.alignment import align
from facekd.data.detection import YuNet, choose_face
from facekd.export.liveness import write_liveness
from facekd.runtimes.liveness import open_liveness_files
from facekd.runtimes.opening import open_file

DETECTOR = "weights/yunet_n_640_640.onnx"


@pytest.fixture(scope="module")
def desktop(demo: Path, fetched: Path) -> list[str]:
    words = [sys.executable, str(demo / "build.py"), "desktop", "--cache", str(fetched)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def manifest(width: int) -> dict[str, Any]:
    """The part of an artefact's manifest that the app reads."""
    spec = {"size": [112, 112], "colour": "RGB", "mean": [127.5] * 3, "std": [127.5] * 3}
    return {
        "schema_version": 1,
        "name": "fixed",
        "precision": "fp32",
        "bundle": {"sha256": "0" * 64},
        "model": "model.onnx",
        "input": {"dtype": "float32", "layout": "nchw", "batch": 1, "preprocess": "out", "spec": spec},
        "output": {"name": "embedding", "width": width},
        "thresholds": [],
        "golden": {"crop": "golden/crop.png", "embedding": "golden/embedding.json", "min_cosine": 0.9999},
        "files": {"model.onnx": "0" * 64},
    }


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
    (folder / "manifest.json").write_text(json.dumps(manifest(32)), encoding="utf-8")
    return folder


def embed(folder: Path, crop: np.ndarray) -> np.ndarray:
    """L2norm(f(x) + f(flip(x))) of a uint8 RGB crop [112, 112, 3], float64 [32]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    both = [((c.transpose(2, 0, 1)[None].astype(np.float32) - 127.5) / 127.5) for c in (crop, crop[:, ::-1])]
    summed = sum(session.run(None, {"image": x})[0][0].astype(np.float64) for x in both)
    return summed / np.linalg.norm(summed)


@dataclass(frozen=True)
class Recognised:
    """What the app's code found on photographs.

    Attributes:
        images: uint8 RGB [h, w, 3], as they were given.
        records: of desktop/.../Main.kt, one a photograph.
        crops: uint8 RGB [n, 112, 112, 3], of the photographs with a face.
    """

    images: list[np.ndarray]
    records: list[dict[str, Any]]
    crops: np.ndarray


def recognise(
    desktop: list[str], artefact: Path, detector: Path, photographs: Sequence[Path], work: Path
) -> Recognised:
    """Runs the app's detector, alignment and embedding on `photographs`."""
    images, lines = [], []
    for i, path in enumerate(photographs):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        assert image is not None
        images.append(np.ascontiguousarray(image[:, :, ::-1]))
        images[-1].tofile(work / f"{i}.rgb")
        lines.append(f"{image.shape[1]} {image.shape[0]} {work / f'{i}.rgb'}")
    (work / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    subprocess.run([*desktop, str(artefact), str(detector), str(work / "list.txt"), str(work / "out")], check=True)
    for file in work.glob("*.rgb"):
        file.unlink()
    text = (work / "out/photographs.jsonl").read_text(encoding="utf-8")
    crops = np.fromfile(work / "out/crops.bin", np.uint8).reshape(-1, 112, 112, 3)
    return Recognised(images, [json.loads(line) for line in text.splitlines()], crops)


def test_the_apps_own_code_on_photographs(desktop: list[str], artefact: Path, shared: Path, tmp_path: Path) -> None:
    paths = sorted((shared / "data" / "lfw_raw").glob("*/*.jpg"))[::60]
    if not paths:
        pytest.skip(f"no photographs in {shared / 'data' / 'lfw_raw'}")
    found = recognise(desktop, artefact, shared / DETECTOR, paths, tmp_path)
    detector = YuNet(shared / DETECTOR)
    crops = iter(found.crops)
    for image, record in zip(found.images, found.records, strict=True):
        faces = detector.detect(image)
        assert len(faces) == len(record["faces"]) >= 1
        for expected, face in zip(faces, record["faces"], strict=True):
            np.testing.assert_allclose(face["box"], expected.box, atol=0.05)
            np.testing.assert_allclose(face["landmarks"], expected.landmarks, atol=0.05)
        chosen = choose_face(faces, image.shape[1], image.shape[0])
        assert chosen is faces[record["chosen"]]
        crop = next(crops)
        expected_crop = align(image, chosen.landmarks)
        assert np.abs(crop.astype(int) - expected_crop.astype(int)).mean() < 1.0
        np.testing.assert_allclose(record["embedding"], embed(artefact, crop), atol=1e-4)
        np.testing.assert_allclose(record["embedding"], embed(artefact, expected_crop), atol=1e-3)
    assert next(crops, None) is None


def test_a_large_photograph_is_searched_reduced(
    desktop: list[str], artefact: Path, shared: Path, tmp_path: Path
) -> None:
    """At 640 and 320 pixels; two pixels of 1000, because the app reduces by a triangle filter and OpenCV by area."""
    (path,) = sorted((shared / "data" / "lfw_raw").glob("*/*.jpg"))[:1]
    large = cv2.resize(cv2.imread(str(path)), (1000, 1000), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "large.png"), large)
    found = recognise(desktop, artefact, shared / DETECTOR, [tmp_path / "large.png"], tmp_path)
    expected = YuNet(shared / DETECTOR, largest_side=640).detect(np.ascontiguousarray(large[:, :, ::-1]))
    assert len(found.records[0]["faces"]) == len(expected) >= 1
    np.testing.assert_allclose(found.records[0]["faces"][0]["box"], expected[0].box, atol=2.0)
    np.testing.assert_allclose(found.records[0]["faces"][0]["landmarks"], expected[0].landmarks, atol=2.0)


@pytest.mark.slow
def test_lfw_fold_1_from_photographs(desktop: list[str], shared: Path, tmp_path: Path) -> None:
    """The app's code and Python's, by a model that knows faces, at one threshold; the differences are printed.

    Every third pair of the 600, for the time it takes; all of them with FACEKD_WHOLE_FOLD=1.
    """
    lines = (shared / "data" / "lfw_pairs.txt").read_text(encoding="utf-8").splitlines()[1:601]
    pairs = [pair_of(line.split("\t")) for line in lines][:: 1 if "FACEKD_WHOLE_FOLD" in os.environ else 3]
    names = sorted({name for a, b, _ in pairs for name in (a, b)})
    paths = [shared / "data" / "lfw_raw" / name[:-5] / f"{name}.jpg" for name in names]
    if not all(path.is_file() for path in paths):
        pytest.skip(f"no photographs of LFW's fold 1 in {shared / 'data' / 'lfw_raw'}")
    model = shared / "weights" / "edgeface_xs.onnx"
    folder = tmp_path / "artefact"
    folder.mkdir()
    shutil.copy(model, folder / "model.onnx")
    (folder / "manifest.json").write_text(json.dumps(manifest(512)), encoding="utf-8")
    found = recognise(desktop, folder, shared / DETECTOR, paths, tmp_path)
    detector = YuNet(shared / DETECTOR)
    crops, pixels, levels = [], [], []
    for image, record, crop in zip(found.images, found.records, found.crops, strict=True):
        faces = detector.detect(image)
        for expected, face in zip(faces, record["faces"], strict=True):
            pixels.append(np.abs(np.array(face["box"]) - expected.box).max())
            pixels.append(np.abs(np.array(face["landmarks"]) - expected.landmarks).max())
        chosen = choose_face(faces, image.shape[1], image.shape[0])
        assert chosen is not None
        crops.append(align(image, chosen.landmarks))
        levels.append(np.abs(crop.astype(int) - crops[-1].astype(int)).mean())
    assert max(pixels) < 1.0
    assert max(levels) < 1.0
    batches = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).split(64)
    runner = open_file(model, threads=1)
    reference = torch.cat([runner(batch) + runner(batch.flip(3)) for batch in batches]).numpy()
    reference /= np.linalg.norm(reference, axis=1, keepdims=True)
    ours = np.array([record["embedding"] for record in found.records])
    np.testing.assert_allclose(ours, reference, atol=1e-3)
    scores = [scores_of(pairs, names, embeddings) for embeddings in (reference, ours)]
    np.testing.assert_allclose(scores[1], scores[0], atol=5e-3)
    same = np.array([pair[2] for pair in pairs])
    candidates = np.sort(scores[0])
    correct = [int(((scores[0] > threshold) == same).sum()) for threshold in candidates]
    threshold = candidates[int(np.argmax(correct))]
    counts = [int(((score > threshold) == same).sum()) for score in scores]
    assert counts[0] >= 0.98 * len(pairs)
    assert abs(counts[0] - counts[1]) <= 2
    embedding = np.abs(ours - reference).max()
    print(
        f"\n{len(paths)} photographs, {len(pixels) // 2} faces: boxes and landmarks within {max(pixels):.5f} pixels, "
        f"crops within {max(levels):.5f} grey levels on average, embeddings within {embedding:.5f}; "
        f"right pairs of {len(pairs)}: Python {counts[0]}, Kotlin {counts[1]}"
    )


def pair_of(words: list[str]) -> tuple[str, str, bool]:
    """Two photographs of LFW's pairs.txt, and whether they are of one person."""
    if len(words) == 3:
        return f"{words[0]}_{int(words[1]):04}", f"{words[0]}_{int(words[2]):04}", True
    return f"{words[0]}_{int(words[1]):04}", f"{words[2]}_{int(words[3]):04}", False


def scores_of(pairs: Sequence[tuple[str, str, bool]], names: Sequence[str], embeddings: np.ndarray) -> np.ndarray:
    """Cosine of each pair, float64 [p]."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    place = {name: i for i, name in enumerate(names)}
    return np.array([unit[place[a]] @ unit[place[b]] for a, b, _ in pairs])


def test_liveness_scores_are_pythons(desktop: list[str], artefact: Path, shared: Path, tmp_path: Path) -> None:
    """The two MiniFASNets on their sample photographs: the real face is live, the screens are not."""
    networks = open_liveness_files([shared / f"weights/minifasnet_{name}.onnx" for name in ("v2", "v1se")])
    folder = shutil.copytree(artefact, tmp_path / "artefact")
    liveness = write_liveness(folder, networks).model_dump(mode="json")
    (folder / "manifest.json").write_text(json.dumps({**manifest(32), "liveness": liveness}), encoding="utf-8")
    photographs = sorted((shared / "data/liveness").glob("*.jpg"))
    found = recognise(desktop, folder, shared / DETECTOR, photographs, tmp_path)
    detector, scores = YuNet(shared / DETECTOR), []
    for image in found.images:
        face = choose_face(detector.detect(image), image.shape[1], image.shape[0])
        assert face is not None
        scores.append(networks.score(image, face.box))
    kotlin = [record["live"] for record in found.records]
    np.testing.assert_allclose(kotlin, scores, atol=0.01)
    assert [score > networks.threshold for score in kotlin] == [path.stem == "real" for path in photographs]
