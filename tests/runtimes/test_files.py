"""Which files are a model: an .onnx file with external data is both, in hash, size, caches and in the browser."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from facekd.benchmarks.accuracy import cache_key
from facekd.benchmarks.phone_run import PhoneRun, run_on_phones
from facekd.benchmarks.subject import find_subjects
from facekd.common.errors import FacekdError, UsageError
from facekd.demo.face_model import open_face_model
from facekd.demo.site import build_site
from facekd.evaluation.feature_cache import model_sha256
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.opening import open_file

onnx = pytest.importorskip("onnx")


def write_model(folder: Path, *, location: str = "model.onnx.data", seed: int = 0) -> Path:
    """[b, 3, 4, 4] -> [b, 5], a product whose weights lie in `location`."""
    folder.mkdir(exist_ok=True)
    weights = np.random.default_rng(seed).normal(size=(48, 5)).astype(np.float32)
    tensor = onnx.numpy_helper.from_array(weights, "weight")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["embedding"])],
        "linear",
        [helper.make_tensor_value_info("x", kind, ["b", 3, 4, 4])],
        [helper.make_tensor_value_info("embedding", kind, ["b", 5])],
        [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    (folder / location).write_bytes(weights.tobytes())
    return folder / "model.onnx"


def test_external_data_counts_in_hash_and_size(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    data = path.with_name("model.onnx.data")
    found = ModelFiles.of(path)
    assert found.files == (path, data)
    assert found.size_bytes == path.stat().st_size + 4 * 48 * 5
    lines = [f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in (path, data)]
    assert found.sha256 == hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_single_files_hash_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(b"model")
    found = ModelFiles.of(tmp_path / "m.tflite")
    assert (found.sha256, found.size_bytes) == (hashlib.sha256(b"model").hexdigest(), 5)


def test_a_folder_is_all_its_files(tmp_path: Path) -> None:
    package = tmp_path / "m.mlpackage"
    (package / "Data").mkdir(parents=True)
    (package / "Manifest.json").write_bytes(b"{}")
    (package / "Data" / "weight.bin").write_bytes(b"123")
    before = ModelFiles.of(package).sha256
    assert ModelFiles.of(package).size_bytes == 5
    (package / "Data" / "weight.bin").write_bytes(b"124")
    assert ModelFiles.of(package).sha256 != before


def test_changed_weights_are_another_model_everywhere(tmp_path: Path) -> None:
    path = write_model(tmp_path)
    (before,) = find_subjects([path])
    features = model_sha256(path)
    assert before.facts.sha256 == ModelFiles.of(path).sha256
    assert before.facts.size_bytes == ModelFiles.of(path).size_bytes
    graph = path.read_bytes()
    write_model(tmp_path, seed=1)
    assert path.read_bytes() == graph, "only the weights change"
    (after,) = find_subjects([path])
    assert after.facts.sha256 != before.facts.sha256
    assert cache_key(after, "set") != cache_key(before, "set")
    assert model_sha256(path) != features


def test_data_that_is_missing_or_elsewhere_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "inside")
    path.with_name("model.onnx.data").unlink()
    with pytest.raises(FacekdError, match=r"keeps weights in 'model\.onnx\.data', which is not beside it"):
        ModelFiles.of(path)
    outside = write_model(tmp_path / "outside", location="../stolen.data")
    with pytest.raises(FacekdError, match=r"keeps weights in '\.\./stolen\.data', outside of its folder"):
        ModelFiles.of(outside)
    linked = write_model(tmp_path / "linked")
    linked.with_name("model.onnx.data").rename(tmp_path / "elsewhere.data")
    linked.with_name("model.onnx.data").symlink_to(tmp_path / "elsewhere.data")
    with pytest.raises(FacekdError, match="outside of its folder"):
        ModelFiles.of(linked)


def test_the_demo_serves_the_data_too(tmp_path: Path, shared: Path) -> None:
    path = write_model(tmp_path)
    site = build_site(open_face_model(path), shared / "weights" / "yunet_n_640_640.onnx", {})
    assert json.loads(site["/config.json"].data)["weights"] == ["model.onnx.data"]
    assert site["/weights/0"].data == path.with_name("model.onnx.data").read_bytes()


def test_a_phone_takes_models_of_one_file(tmp_path: Path) -> None:
    (subject,) = find_subjects([write_model(tmp_path)])
    assert subject.other_files == (tmp_path / "model.onnx.data",)
    with pytest.raises(UsageError, match=r"demo app|keeps weights in model\.onnx\.data"):
        run_on_phones([], [subject], PhoneRun())


def test_the_model_runs_with_its_data(tmp_path: Path) -> None:
    embedder = open_file(write_model(tmp_path), threads=1)
    images = np.random.default_rng(1).integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
    weights = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    expected = ((images.astype(np.float64) - 127.5) / 127.5).reshape(3, 48) @ weights
    np.testing.assert_allclose(embedder.embed(images), expected, rtol=1e-4, atol=1e-4)
