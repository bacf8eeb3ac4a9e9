"""Foreign files and artefacts: whatever layout, type and batch a file has, the embedding is that of the formula."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.runtimes.encoding import find_layout
from facekd.runtimes.opening import open_file, open_model
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import (
    ArtefactInput,
    ArtefactOutput,
    BundleReference,
    GoldenFiles,
    Manifest,
    Parity,
    read_manifest,
)

SPEC = InputSpec(size=(4, 4), colour="BGR", mean=(100, 110, 120), std=(50, 60, 70))
WEIGHT = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
IMAGES = np.random.default_rng(1).integers(0, 256, (7, 3, 4, 4), dtype=np.uint8)


def expected(normalised: bool = True) -> np.ndarray:
    """[7, 5] by hand: BGR, normalised, flattened in NCHW order, times WEIGHT."""
    x = IMAGES[:, ::-1].astype(np.float64)
    if normalised:
        x = (x - np.reshape(SPEC.mean, (1, 3, 1, 1))) / np.reshape(SPEC.std, (1, 3, 1, 1))
    return x.reshape(7, 48) @ WEIGHT


def write_onnx(
    path: Path, *, layout: str = "NCHW", batch: int | str = "b", kind: str = "float", flat: str = "free"
) -> Path:
    """A linear model as .onnx. `flat`: how it is flattened: "free", or "baked" to batch 1 as view(1, -1) would."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    types = {"float": TensorProto.FLOAT, "half": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
    shape = [batch, 3, 4, 4] if layout == "NCHW" else [batch, 4, 4, 3]
    nodes = []
    last = "x"
    if kind != "float":
        nodes.append(helper.make_node("Cast", [last], ["cast"], to=TensorProto.FLOAT))
        last = "cast"
    if layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [last], ["nchw"], perm=[0, 3, 1, 2]))
        last = "nchw"
    target = np.array([0 if flat == "free" else 1, 48], dtype=np.int64)
    nodes.append(helper.make_node("Reshape", [last, "shape"], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "weight"], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", types[kind], shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(target, "shape"), numpy_helper.from_array(WEIGHT, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("batch", [1, 3, "b"])
def test_onnx_of_any_layout_and_batch(tmp_path: Path, layout: str, batch: int | str) -> None:
    runner = open_file(write_onnx(tmp_path / "m.onnx", layout=layout, batch=batch), input_spec=SPEC, threads=1)
    assert runner.layout == layout
    assert runner.embedding_width == 5
    assert runner.fixed_batch == (None if batch == "b" else batch)
    np.testing.assert_allclose(runner(torch.from_numpy(IMAGES)).numpy(), expected(), rtol=1e-4, atol=1e-4)


def test_a_batch_baked_in_is_found_out_and_worked_around(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    runner = open_file(write_onnx(tmp_path / "m.onnx", flat="baked"), input_spec=SPEC, threads=1)
    assert "only with batch 1" in caplog.text
    np.testing.assert_allclose(runner(torch.from_numpy(IMAGES)).numpy(), expected(), rtol=1e-4, atol=1e-4)


def test_a_model_of_nan_is_called_that_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(
        globals(), "WEIGHT", np.where(np.arange(240).reshape(48, 5) == 7, np.nan, WEIGHT).astype(np.float32)
    )
    with pytest.raises(FacekdError, match="an embedding with NaN or infinity"):
        open_file(write_onnx(tmp_path / "m.onnx"), threads=1)
    assert caplog.text == ""


def test_half_and_raw_pixel_inputs(tmp_path: Path) -> None:
    half = open_file(write_onnx(tmp_path / "half.onnx", kind="half"), input_spec=SPEC, threads=1)
    np.testing.assert_allclose(half(torch.from_numpy(IMAGES)).numpy(), expected(), atol=0.05)
    raw = open_file(write_onnx(tmp_path / "raw.onnx", kind="uint8"), input_spec=SPEC, threads=1)
    np.testing.assert_allclose(raw(torch.from_numpy(IMAGES)).numpy(), expected(normalised=False), rtol=1e-5)


def test_size_is_the_files_own_and_the_default_spec_is_the_fields(tmp_path: Path) -> None:
    runner = open_file(write_onnx(tmp_path / "m.onnx"), threads=1)
    assert runner.input == InputSpec(size=(4, 4))


@pytest.mark.parametrize(
    ("shape", "stated", "layout"),
    [
        (["b", 3, 112, 112], None, "NCHW"),
        ([1, 112, 112, 3], None, "NHWC"),
        ([1, 3, "h", "w"], None, "NCHW"),
        (["b", "c", "h", "w"], "NHWC", "NHWC"),
    ],
)
def test_layout(shape: list, stated: str | None, layout: str) -> None:
    assert find_layout(Path("m"), shape, stated) == layout  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "stated", "words"),
    [
        (["b", 512], None, "takes images"),
        (["b", "c", "h", "w"], None, "say --layout"),
        (["b", 1, 112, 112], None, "say --layout"),
        (["b", 3, 112, 112], "NHWC", "not NHWC"),
    ],
)
def test_inputs_that_are_no_images(shape: list, stated: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_layout(Path("m"), shape, stated)  # type: ignore[arg-type]


Quantisation = tuple[float, int]


def write_tflite(
    path: Path, *, input_q: Quantisation | None, output_q: Quantisation | None, unsigned: bool = False
) -> np.ndarray:
    """A linear NHWC model as .tflite, written by its schema; returns the weights it holds, [48, 5] in NHWC order.

    With quantisation (scale, zero point) of input and output it is int8 (or uint8) throughout.
    """
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    weight = WEIGHT.reshape(3, 4, 4, 5).transpose(1, 2, 0, 3).reshape(48, 5)
    kind = schema.TensorType.FLOAT32
    stored = weight.T.copy()
    parameters: list[Quantisation | None] = [input_q, output_q, None]
    if input_q is not None:
        kind = schema.TensorType.UINT8 if unsigned else schema.TensorType.INT8
        scale, zero = float(np.abs(weight).max() / 127), 128 if unsigned else 0
        stored = (np.rint(weight.T / scale) + zero).astype(np.uint8 if unsigned else np.int8)
        weight = (stored.T.astype(np.float64) - zero) * scale
        parameters[2] = (scale, zero)
    model, graph, operator, code, options = (
        schema.ModelT(),
        schema.SubGraphT(),
        schema.OperatorT(),
        schema.OperatorCodeT(),
        schema.FullyConnectedOptionsT(),
    )
    buffers = [schema.BufferT() for _ in range(2)]
    buffers[1].data = np.frombuffer(stored.tobytes(), np.uint8)
    graph.tensors = []
    for name, shape, buffer, q in zip("xyw", ([1, 4, 4, 3], [1, 5], [5, 48]), (0, 0, 1), parameters, strict=True):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
        if q is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [q[0]], [q[1]]
        graph.tensors.append(tensor)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 4
    operator.inputs, operator.outputs = [0, 2, -1], [1]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.FullyConnectedOptions, options
    graph.inputs, graph.outputs, graph.operators = [0], [1], [operator]
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], buffers
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return weight


def test_tflite_float(tmp_path: Path) -> None:
    write_tflite(tmp_path / "m.tflite", input_q=None, output_q=None)
    runner = open_file(tmp_path / "m.tflite", input_spec=SPEC, threads=1)
    assert (runner.layout, runner.fixed_batch, runner.input.size, runner.embedding_width) == ("NHWC", 1, (4, 4), 5)
    np.testing.assert_allclose(runner(torch.from_numpy(IMAGES)).numpy(), expected(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("unsigned", [False, True])
def test_tflite_integer_input_and_output_go_through_their_quantisation(tmp_path: Path, unsigned: bool) -> None:
    shift = 128 if unsigned else 0
    low, high = (0, 255) if unsigned else (-128, 127)
    (in_scale, in_zero), (out_scale, out_zero) = (0.025, 11 + shift), (0.3, -7 + shift)
    weight = write_tflite(
        tmp_path / "m.tflite", input_q=(in_scale, in_zero), output_q=(out_scale, out_zero), unsigned=unsigned
    )
    runner = open_file(tmp_path / "m.tflite", input_spec=SPEC, threads=1)
    # By the definition of affine quantisation, real = scale * (stored - zero), in double precision.
    x = IMAGES[:, ::-1].astype(np.float64).transpose(0, 2, 3, 1)
    x = ((x - SPEC.mean) / SPEC.std).reshape(7, 48)
    stored = np.clip(np.rint(x / in_scale) + in_zero, low, high)
    real = (stored - in_zero) * in_scale @ weight
    output = runner(torch.from_numpy(IMAGES)).numpy()
    steps = output / out_scale + out_zero
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-3)
    np.testing.assert_allclose(steps, np.clip(np.rint(real / out_scale) + out_zero, low, high), atol=1.01)
    assert (np.abs(output - real) < 0.51 * out_scale).mean() > 0.9


@pytest.mark.parametrize(
    ("scale", "zero", "unsigned", "fed"),
    [
        (1.0, 0, True, lambda pixels: pixels),
        (1 / 255, 0, True, lambda pixels: pixels / 255),
        (1 / 255, -128, False, lambda pixels: pixels / 255),
        (1.0, -128, False, lambda pixels: pixels),
        (1.0, 0, False, lambda pixels: pixels - 128),
        (2 / 255, 128, True, lambda pixels: (pixels - 127.5) / 127.5),
        (1 / 128, 0, False, lambda pixels: (pixels - 127.5) / 127.5),
    ],
)
def test_a_quantised_input_is_fed_what_its_range_holds_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: float, zero: int, unsigned: bool, fed: object
) -> None:
    output = (4.0 * max(scale * 127, 1), 128 if unsigned else 0)
    weight = write_tflite(tmp_path / "m.tflite", input_q=(scale, zero), output_q=output, unsigned=unsigned)
    runner = open_file(tmp_path / "m.tflite", threads=1)
    x = fed(IMAGES.astype(np.float64)).transpose(0, 2, 3, 1).reshape(7, 48)  # type: ignore[operator]
    span = np.abs(x @ weight).max()
    # Half a step of the output, and of the input times all weights.
    allowed = 0.51 * output[0] + 0.51 * scale * np.abs(weight).sum(0).max() * (1 if span else 0)
    limits = (np.iinfo(np.uint8 if unsigned else np.int8).max - output[1]) * output[0]
    np.testing.assert_allclose(
        runner(torch.from_numpy(IMAGES)).numpy(), np.clip(x @ weight, -limits - output[0], limits), atol=allowed
    )
    usual = runner.input.mean == (127.5,) * 3
    assert usual == (scale in (2 / 255, 1 / 128))
    assert ("quantised input" in caplog.text) == (not usual)


def test_a_quantised_input_that_cannot_hold_what_was_asked_for_is_refused(tmp_path: Path) -> None:
    write_tflite(tmp_path / "m.tflite", input_q=(1.0, 0), output_q=(1.0, 0), unsigned=True)
    given = InputSpec(mean=(127.5,) * 3, std=(128.0,) * 3)
    with pytest.raises(UsageError, match=r"holds values from 0 to 255 .* give --mean 0 --std 1"):
        open_file(tmp_path / "m.tflite", input_spec=given, threads=1)
    write_tflite(tmp_path / "wide.tflite", input_q=(1000.0, 0), output_q=(1.0, 0))
    with pytest.raises(UsageError, match="in 0 steps; give those it was made with"):
        open_file(tmp_path / "wide.tflite", threads=1)


def write_artefact(folder: Path, *, preprocess: str, **changes: object) -> Path:
    """An artefact folder around write_onnx's model, with a manifest that fits it but for `changes`."""
    folder.mkdir()
    pixels = preprocess == "in"
    model = write_onnx(folder / "model.onnx", layout="NHWC", batch=1, kind="uint8" if pixels else "float")
    manifest = Manifest(
        name="linear",
        target="onnx",
        precision="fp32",
        created="",
        facekd_version="",
        bundle=BundleReference(name="linear", architecture="none", sha256=""),
        model=model.name,
        format_version="",
        size_bytes=1,
        input=ArtefactInput(
            name="x",
            dtype="uint8" if pixels else "float32",
            layout="nhwc",
            batch=1,
            preprocess="in" if pixels else "out",
            spec=SPEC,
        ),
        output=ArtefactOutput(name="embedding", width=5),
        operators={},
        parity=Parity(
            runtime="", faces=1, source="", max_abs_difference=0, scale=1, max_abs_difference_unit=0, cosine_min=1,
            cosine_mean=1, bounds={}, batches=[1],
        ),
        golden=GoldenFiles(min_cosine=1),
        seconds=0,
        versions={},
        files={model.name: hashlib.sha256(model.read_bytes()).hexdigest()},
    )  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json") | changes))
    return folder


def test_an_artefact_that_normalises_itself_is_fed_rgb_pixels(tmp_path: Path) -> None:
    outside = open_model(write_artefact(tmp_path / "out", preprocess="out"), threads=1)
    np.testing.assert_allclose(outside(torch.from_numpy(IMAGES)).numpy(), expected(), rtol=1e-4, atol=1e-4)
    inside = open_model(write_artefact(tmp_path / "in", preprocess="in"), threads=1)
    pixels = IMAGES.astype(np.float64).reshape(7, 48) @ WEIGHT
    np.testing.assert_allclose(inside(torch.from_numpy(IMAGES)).numpy(), pixels, rtol=1e-5)
    assert inside.input == SPEC


def test_a_damaged_artefact_is_refused(tmp_path: Path) -> None:
    changed = write_artefact(tmp_path / "changed", preprocess="out", files={"model.onnx": "0" * 64})
    with pytest.raises(FacekdError, match="was changed after it was exported"):
        open_model(changed)
    incomplete = write_artefact(tmp_path / "incomplete", preprocess="out", input={"spec": {}})
    with pytest.raises(FacekdError, match="is not an artefact's manifest"):
        open_model(incomplete)
    (incomplete / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(FacekdError, match="is not an artefact's manifest"):
        open_model(incomplete)
    elsewhere = write_artefact(tmp_path / "elsewhere", preprocess="out", model="model.xyz", target="xyz")
    with pytest.raises(UsageError, match="is for xyz"):
        open_model(elsewhere)
    with pytest.raises(UsageError, match=r"states its own input spec in manifest\.json"):
        open_model(elsewhere, input_spec=SPEC)


STAND_INS = [
    (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        r"is a Git LFS pointer, not .*git lfs pull",
    ),
    (b"<!DOCTYPE html><html>Quota exceeded</html>", r"is a web page, not .*download the file again"),
    (b"", r"is empty, not .*get the file again"),
]


@pytest.mark.parametrize(("content", "words"), STAND_INS)
@pytest.mark.parametrize(
    ("suffix", "module"), [("onnx", "onnxruntime"), ("tflite", "ai_edge_litert"), ("pte", "executorch")]
)
def test_what_stands_in_for_a_model_is_called_by_its_name(
    tmp_path: Path, content: bytes, words: str, suffix: str, module: str
) -> None:
    pytest.importorskip(module)
    path = tmp_path / f"m.{suffix}"
    path.write_bytes(content)
    with pytest.raises(FacekdError, match=words) as refused:
        open_model(path)
    assert refused.value.exit_code == 1


# Of an empty file its hash says more: it was not empty when it was written.
@pytest.mark.parametrize(("content", "words"), [*STAND_INS[:2], (b"", "was changed")])
def test_what_stands_in_for_the_file_of_an_artefact_or_a_bundle(tmp_path: Path, content: bytes, words: str) -> None:
    from facekd.models.bundle import _read_weights
    from facekd.schemas.manifest import verify_files

    folder = write_artefact(tmp_path / "artefact", preprocess="out")
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(FacekdError, match=words) as refused:
        open_model(folder)
    with pytest.raises(FacekdError, match=words) as refused:
        verify_files(folder, read_manifest(folder))
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(FacekdError, match=words) as refused:
        _read_weights(tmp_path / "weights.safetensors", "0" * 64)
    assert refused.value.exit_code == 1


def test_a_manifest_may_state_the_space_of_its_embeddings(tmp_path: Path) -> None:
    """Without it the file's own hash; ids are hashes, since the app names files by them."""
    new, old, other = (digit * 64 for digit in "1ef")
    assert read_manifest(write_artefact(tmp_path / "own", preprocess="out")).embedding_space is None
    stated = {"id": new, "compatible_with": [old]}
    space = read_manifest(write_artefact(tmp_path / "new", preprocess="out", embedding_space=stated)).embedding_space
    assert space is not None
    assert [space.accepts(stored) for stored in (new, old, other)] == [True, True, False]
    for place, wrong in enumerate(
        ({"id": "../x"}, {"id": new.upper()[:-1] + "F"}, {"id": new, "compatible_with": ["3"]}, {})
    ):
        folder = write_artefact(tmp_path / str(place), preprocess="out", embedding_space=wrong)
        with pytest.raises(FacekdError, match=r"embedding_space\.(id|compatible_with)") as caught:
            read_manifest(folder)
        assert "\n" not in str(caught.value)
