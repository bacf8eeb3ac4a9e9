"""Every target: a real conversion of a small student, read back and run in its own runtime."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.export.faces import faces_from_source
from facekd.export.matrix import PRECISIONS
from facekd.export.options import ExportOptions
from facekd.export.pipeline import Gate, Reference, export_artefact
from facekd.export.targets.base import Target, get_target, list_targets
from facekd.models.bundle import Bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.runtimes.opening import open_artefact, open_file
from facekd.schemas.manifest import Manifest, hash_files, read_manifest

CELLS = [
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "w8"),
    ("onnx", "int8"),
    ("android", "fp32"),
    ("coreml", "fp32"),
    ("coreml", "fp16"),
    ("coreml", "w8"),
    ("coreml", "palette"),
    ("tflite", "fp32"),
    ("tflite", "fp16"),
    ("tflite", "w8"),
    ("tflite", "int8"),
    ("executorch", "fp32"),
    ("executorch", "int8"),
]


def maker_of(target: str) -> Target:
    """The target; the test is skipped where its package is not installed."""
    maker = get_target(target)
    try:
        maker.require()
    except UsageError as error:
        pytest.skip(str(error))
    return maker


def options_of(target: str, precision: str, reference: Reference) -> ExportOptions:
    maker = maker_of(target)
    return ExportOptions(
        precision=precision,  # type: ignore[arg-type]
        batch=maker.default_batch,
        layout=maker.layouts[0],
        preprocess=maker.default_preprocess,
        min_ios=16,
        calibration=reference.faces.images,
        calibration_source=reference.faces.source,
    )


@pytest.fixture(scope="module")
def artefacts(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Artefacts as they are first asked for, kept for the module."""
    folder = tmp_path_factory.mktemp("artefacts")

    class Lazily(dict):  # type: ignore[type-arg]
        def __missing__(self, cell: tuple[str, str]) -> Path:
            out = folder / "-".join(cell)
            # A random network of 16 channels loses more to int8 than a trained one: only the mechanics are judged.
            gate = Gate(min_cosine=0.5)
            export_artefact(reference, cell[0], options_of(*cell, reference), out, gate=gate)
            self[cell] = out
            return out

    return Lazily()


@pytest.mark.parametrize(("target", "precision"), CELLS, ids="-".join)
def test_artefact_is_the_bundle(
    artefacts: dict[tuple[str, str], Path], bundle: Bundle, target: str, precision: str
) -> None:
    maker_of(target)
    folder = artefacts[target, precision]
    manifest = read_manifest(folder)
    # Other people than the parity and calibration faces.
    images = faces_from_source("synthetic:identities=3,images=1,seed=11", 3, (112, 112)).images
    found = open_artefact(folder, threads=1).embed(images, batch=32)
    wanted = bundle.embed(torch.from_numpy(images)).numpy()
    cosines = torch.cosine_similarity(torch.from_numpy(found), torch.from_numpy(wanted))
    if precision == "fp32":
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert cosines.min() > {"fp32": 0.99999, "fp16": 0.999, "int8": 0.5}.get(precision, 0.9)
    assert manifest.files == hash_files(folder)
    assert manifest.bundle.sha256 == bundle.card.sha256
    assert manifest.thresholds == [{"far": 0.001, "threshold_cos": 0.31, "dataset": "drawn"}]
    assert "synthetic" in manifest.parity.source
    assert (folder / manifest.log).is_file()


@pytest.mark.parametrize("target", [target for target, precision in CELLS if precision == "fp32"])
def test_the_file_alone_shows_what_its_manifest_says(artefacts: dict[tuple[str, str], Path], target: str) -> None:
    """Opened as a foreign file, by what its own input and output declare."""
    maker_of(target)
    folder = artefacts[target, "fp32"]
    manifest = read_manifest(folder)
    images = faces_from_source("synthetic:identities=3,images=1,seed=11", 3, (112, 112)).images
    stated = open_artefact(folder, threads=1)
    shown = open_file(folder / manifest.model, input_spec=manifest.input.spec, threads=1)
    assert (shown.embedding_width, shown.layout, shown.fixed_batch) == (
        stated.embedding_width,
        stated.layout,
        stated.fixed_batch,
    )
    np.testing.assert_array_equal(shown.embed(images), stated.embed(images))


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("target", ["tflite", "executorch"])
def test_prelu_runs_in_one_xnnpack_partition(
    artefacts: dict[tuple[str, str], Path], target: str, precision: str
) -> None:
    maker_of(target)
    assert read_manifest(artefacts[target, precision]).partitions == 1


def test_golden_is_what_the_artefact_computes(artefacts: dict[tuple[str, str], Path], bundle: Bundle) -> None:
    folder = artefacts["android", "fp32"]
    manifest = read_manifest(folder)
    golden = json.loads((folder / manifest.golden.embedding).read_text())
    crop = cv2.imread(str(folder / manifest.golden.crop))[:, :, ::-1].transpose(2, 0, 1).copy()
    wanted = bundle.embed(torch.from_numpy(crop)[None])[0].numpy()
    np.testing.assert_allclose(golden["embedding"], wanted, atol=1e-4)
    assert golden["min_cosine"] == manifest.golden.min_cosine > 0.99
    # The app relies on these, whatever else the manifest says.
    assert (manifest.input.batch, manifest.input.layout, manifest.input.dtype) == (1, "nchw", "float32")
    assert set(manifest.usability) == {"NNAPI", "Core ML"}


def test_onnx_file_states_its_meaning(artefacts: dict[tuple[str, str], Path], bundle: Bundle) -> None:
    onnx = pytest.importorskip("onnx")
    folder = artefacts["onnx", "fp32"]
    assert not list(folder.glob("*.data")), "weights must be in the one file"
    model = onnx.load(folder / "model.onnx")
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["facekd.bundle_sha256"] == bundle.card.sha256
    assert facts["facekd.colour"] == "RGB"
    assert facts["facekd.mean"] == "127.5,127.5,127.5"
    assert facts["facekd.embedding_width"] == "32"
    assert "0.3100" in facts["facekd.threshold_cos"]
    assert [entry.version for entry in model.opset_import] == [20]
    details = read_manifest(folder).details
    assert details["nodes_simplified"] == len(model.graph.node) <= details["nodes_exported"]


def test_fp16_keeps_float32_at_the_door_and_halves_the_file(artefacts: dict[tuple[str, str], Path]) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(artefacts["onnx", "fp16"] / "model.onnx")
    ends = [*model.graph.input, *model.graph.output]
    assert {end.type.tensor_type.elem_type for end in ends} == {onnx.TensorProto.FLOAT}
    kinds = {tensor.data_type for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_unwanted_opset_is_refused_and_leaves_nothing(reference: Reference, tmp_path: Path) -> None:
    options = dataclasses.replace(options_of("onnx", "fp32", reference), opset=13)
    with pytest.raises(FacekdError, match="opset 13 was asked for, the exporter wrote 18"):
        export_artefact(reference, "onnx", options, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_native_prelu_slope_is_per_channel_3d(reference: Reference, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    options = dataclasses.replace(options_of("onnx", "fp32", reference), prelu_form="native", layout="nhwc", batch=1)
    manifest = export_artefact(reference, "onnx", options, tmp_path / "out")
    model = onnx.load(tmp_path / "out" / "model.onnx")
    slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
    shapes = [tuple(tensor.dims) for tensor in model.graph.initializer if tensor.name in slopes]
    assert shapes
    assert all(len(shape) == 3 and shape[1:] == (1, 1) for shape in shapes)
    assert manifest.input.layout == "nhwc"


@pytest.mark.parametrize("colour", ["RGB", "BGR"])
@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_normalisation_inside_takes_rgb_pixels(
    bundle: Bundle, reference: Reference, tmp_path: Path, target: str, colour: str
) -> None:
    # A BGR model with unequal channels: any mix-up of order, mean or std changes the embedding.
    spec = bundle.card.input.model_copy(
        update={
            "colour": colour,
            "mean": (100.0, 127.5, 140.0),
            "std": (128.0,) * 3 if target == "coreml" else (60.0, 128.0, 90.0),
        }
    )
    other = Bundle(
        model=bundle.model, card=bundle.card.model_copy(update={"input": spec}), head_centres=None, path=bundle.path
    )
    options = dataclasses.replace(options_of(target, "fp32", reference), preprocess="in")
    manifest = export_artefact(Reference(bundle=other, faces=reference.faces), target, options, tmp_path / "out")
    assert manifest.input.dtype == {"onnx": "uint8", "coreml": "image"}[target]
    assert manifest.parity.max_abs_difference < 1e-3


@pytest.mark.parametrize("target", ["onnx", "coreml"])
def test_a_transformer_with_shifted_windows(reference: Reference, tmp_path: Path, target: str) -> None:
    """Swin computes its windows from shapes, which a converter must find as numbers."""
    options = options_of(target, "fp32", reference)
    arguments = {"patch_size": 8, "embed_dim": 16, "depths": [2], "num_heads": [2], "embedding_width": 32}
    torch.manual_seed(3)
    model = create_model("swin_teacher", **arguments).eval()
    card = describe(model, kind="teacher", name="swin", architecture="swin_teacher", arguments=arguments)
    other = Bundle(model=model, card=card, head_centres=None, path=tmp_path)
    manifest = export_artefact(Reference(bundle=other, faces=reference.faces), target, options, tmp_path / "out")
    assert manifest.parity.max_abs_difference < 1e-3


def test_core_ml_specification_follows_min_ios(artefacts: dict[tuple[str, str], Path]) -> None:
    maker_of("coreml")
    assert read_manifest(artefacts["coreml", "fp16"]).format_version == "specification 7 (iOS 16)"


@pytest.mark.parametrize(
    ("target", "changes", "message"),
    [
        ("coreml", {"precision": "int8"}, "needs macOS"),
        ("coreml", {"precision": "w8", "min_ios": 15}, "--min-ios 16"),
        ("coreml", {"min_ios": 12}, "valid: 15, 16, 17, 18, 26"),
        ("executorch", {"precision": "w8"}, "valid: fp32, fp16, int8"),
        ("tflite", {"batch": None}, "fixed batch"),
        ("executorch", {"layout": "nhwc"}, "valid: nchw"),
    ],
)
def test_what_a_target_cannot_do_is_said_before_anything_is_computed(
    reference: Reference, tmp_path: Path, target: str, changes: dict[str, object], message: str
) -> None:
    maker = get_target(target)
    base = ExportOptions(precision="fp32", layout=maker.layouts[0], preprocess=maker.default_preprocess)
    with pytest.raises(UsageError, match=message):
        export_artefact(reference, target, dataclasses.replace(base, **changes), tmp_path / "out")  # type: ignore[arg-type]


def test_every_precision_is_offered_or_refused_with_a_reason() -> None:
    for name in list_targets():
        maker = get_target(name)
        assert set(maker.precisions) | set(maker.refused) == set(PRECISIONS), name


def test_manifest_refuses_unknown_fields_and_newer_schemas(
    artefacts: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    data = json.loads((artefacts["android", "fp32"] / "manifest.json").read_text())
    Manifest.model_validate(data)
    for change, message in (
        ({"sha": "x"}, "'sha'"),
        ({"schema_version": 2}, "upgrade facekd"),
        ({"target": 3}, "target"),
    ):
        (tmp_path / "manifest.json").write_text(json.dumps(data | change))
        with pytest.raises(FacekdError, match=message):
            read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(FacekdError, match="is not valid JSON"):
        read_manifest(tmp_path)
