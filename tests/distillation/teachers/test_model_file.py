"""Model files as teachers: what the recipe states of their input is what their embeddings are computed from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from facekd.common.errors import UsageError
from facekd.common.hashing import file_sha256
from facekd.common.validation import explain
from facekd.distillation.build import build_task
from facekd.distillation.fill_cache import fill_cache
from facekd.distillation.teachers.model_file import ModelFileTeacher
from facekd.recipe import Recipe
from facekd.schemas.input_spec import InputSpec, StatedInput
from facekd.schemas.manifest import ArtefactInput, ArtefactOutput, BundleReference, GoldenFiles, Manifest, Parity
from facekd.training.reproducibility import seed_everything
from facekd.training.stream import BatchStream

WEIGHT = np.random.default_rng(3).normal(size=(147, 32)).astype(np.float32)


def write(
    path: Path, *, batch: int | str = "b", dtype: str = "FLOAT", shape: tuple[Any, ...] | None = None, **metadata: str
) -> Path:
    """An .onnx: means of 16x16 tiles, times WEIGHT, as embedding [b, 32]."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("AveragePool", ["x"], ["tiles"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["tiles"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
    ]
    image = helper.make_tensor_value_info("image", getattr(TensorProto, dtype), shape or [batch, 3, 112, 112])
    out = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, 32])
    graph = helper.make_graph(nodes, "g", [image], [out], [numpy_helper.from_array(WEIGHT, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {f"facekd.{key}": value for key, value in metadata.items()})
    onnx.save(model, path)
    return path


def write_manifest(folder: Path, spec: InputSpec) -> None:
    """Of an artefact whose model.onnx takes normalised images in a batch of 2."""
    zero = dict.fromkeys(("max_abs_difference", "scale", "max_abs_difference_unit", "cosine_min", "cosine_mean"), 0.0)
    manifest = Manifest(
        name="tiles",
        target="onnx",
        precision="fp32",
        created="",
        facekd_version="",
        bundle=BundleReference(name="tiles", architecture="none", sha256=""),
        model="model.onnx",
        format_version="",
        size_bytes=1,
        input=ArtefactInput(name="image", dtype="float32", layout="nchw", batch=2, preprocess="out", spec=spec),
        output=ArtefactOutput(name="embedding", width=32),
        operators={},
        parity=Parity(runtime="", faces=1, source="", bounds={}, batches=[2], **zero),
        golden=GoldenFiles(min_cosine=1),
        seconds=0,
        versions={},
        files={"model.onnx": file_sha256(folder / "model.onnx")},
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())


def expected(images: np.ndarray, *, bgr: bool = False, mean: Any = 127.5, std: Any = 127.5) -> np.ndarray:
    """The embeddings of uint8 RGB images [b, 3, 112, 112], by the definition, in double precision."""
    x = images.astype(np.float64)[:, ::-1] if bgr else images.astype(np.float64)
    x = (x - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    return x.reshape(len(x), 3, 7, 16, 7, 16).mean(axis=(3, 5)).reshape(len(x), -1) @ WEIGHT


STATED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "BGR": ({"colour": "bgr"}, {"bgr": True}),
    "another std": ({"std": 128}, {"std": 128}),
    "0 to 255": ({"mean": 0, "std": 1}, {"mean": 0, "std": 1}),
    "ImageNet in BGR": (
        {"colour": "BGR", "mean": [103.5, 116.3, 123.7], "std": "57.4,57.1,58.4"},
        {"bgr": True, "mean": [103.5, 116.3, 123.7], "std": [57.4, 57.1, 58.4]},
    ),
}


@pytest.mark.parametrize("case", STATED)
def test_a_teacher_is_fed_as_the_recipe_states(tiny: Any, tmp_path: Path, case: str) -> None:
    stated, definition = STATED[case]
    section = {"bundle": str(write(tmp_path / "t.onnx")), **stated}
    task = build_task(tiny.recipe(None, {"embedding": {}}, teacher=section), tiny.source)
    images, labels = tiny.batch()
    seen: list[torch.Tensor] = []
    assert task.teacher is not None
    task.teacher.register_forward_hook(lambda module, given, output: seen.append(output.embedding))
    task(images, labels)
    np.testing.assert_allclose(seen[0].numpy(), expected(images.numpy(), **definition), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_run_in_steps_of_it(tiny: Any, tmp_path: Path, batch: int) -> None:
    teacher = ModelFileTeacher(write(tmp_path / "t.onnx", batch=batch))
    images = tiny.batch()[0]
    x = teacher.input.normalise(images)
    np.testing.assert_allclose(teacher(x).embedding.numpy(), expected(images.numpy()), rtol=1e-3, atol=1e-3)


def test_a_file_of_pixels_is_fed_pixels(tiny: Any, tmp_path: Path) -> None:
    teacher = ModelFileTeacher(write(tmp_path / "t.onnx", dtype="UINT8"), StatedInput(colour="BGR"))
    images = tiny.batch()[0]
    x = teacher.input.normalise(images)
    np.testing.assert_allclose(
        teacher(x).embedding.numpy(), expected(images.numpy(), bgr=True, mean=0, std=1), rtol=1e-4, atol=1e-2
    )


def test_the_files_own_metadata_is_read(tiny: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What facekd export wrote into the file; what the recipe states goes before it, and the difference is said."""
    path = write(tmp_path / "t.onnx", colour="BGR", mean="10,20,30", std="50,50,50")
    images = tiny.batch()[0]
    teacher = ModelFileTeacher(path)
    want = expected(images.numpy(), bgr=True, mean=[10, 20, 30], std=50)
    np.testing.assert_allclose(teacher(teacher.input.normalise(images)).embedding.numpy(), want, rtol=1e-3, atol=1e-2)
    assert "states its input in its metadata: colour BGR, mean 10,20,30, std 50" in caplog.text
    teacher = ModelFileTeacher(path, StatedInput(colour="RGB"))
    want = expected(images.numpy(), mean=[10, 20, 30], std=50)
    np.testing.assert_allclose(teacher(teacher.input.normalise(images)).embedding.numpy(), want, rtol=1e-3, atol=1e-2)
    assert "states colour BGR in its metadata; --colour RGB is taken" in caplog.text


def test_an_artefact_teaches_as_its_manifest_states(tiny: Any, tmp_path: Path) -> None:
    folder = tmp_path / "artefact"
    folder.mkdir()
    write(folder / "model.onnx", batch=2)
    write_manifest(folder, InputSpec(colour="BGR", mean=(1.0, 2.0, 3.0), std=(100.0, 100.0, 100.0)))
    recipe = tiny.recipe(folder, {"embedding": {}})
    task = build_task(recipe, tiny.source)
    assert isinstance(task.teacher, ModelFileTeacher)
    images = tiny.batch()[0]
    x = task.teacher.input.normalise(images)
    want = expected(images.numpy(), bgr=True, mean=[1, 2, 3], std=100)
    np.testing.assert_allclose(task.teacher(x).embedding.numpy(), want, rtol=1e-3, atol=1e-3)
    stated = {"bundle": str(folder), "colour": "BGR"}
    with pytest.raises(UsageError, match=r"states its own input in manifest.json: leave teacher.colour out"):
        build_task(tiny.recipe(None, {"embedding": {}}, teacher=stated), tiny.source)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"colour": "GRB"}, "teacher.colour: valid are RGB and BGR"),
        ({"layout": "CHW"}, "teacher.layout: valid are NCHW and NHWC"),
        ({"mean": [1, 2]}, "teacher.mean: give one number or three"),
        ({"std": 0}, "teacher.std: 0 divides nothing"),
        ({"colours": "RGB"}, "unknown field 'teacher.colours', did you mean 'colour'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tiny: Any, stated: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        tiny.recipe(None, {"embedding": {}}, teacher={"bundle": "x.onnx", **stated})
    assert message in explain(caught.value, Recipe)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"output": "logits"}, "--output logits: the outputs of .* are embedding"),
        ({"layout": "NHWC"}, "which is not NHWC"),
        ({"mean": 0.5, "std": 0.5}, "pixels are 0 to 255"),
    ],
)
def test_what_the_file_contradicts_is_refused(tmp_path: Path, stated: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ModelFileTeacher(write(tmp_path / "t.onnx"), StatedInput.model_validate(stated))


def test_a_bundle_states_its_own_input(tiny: Any, teacher: Path) -> None:
    with pytest.raises(UsageError, match=r"states its own input: leave teacher.colour out"):
        build_task(tiny.recipe(None, {"embedding": {}}, teacher={"bundle": str(teacher), "colour": "BGR"}), tiny.source)


def test_a_recipe_that_states_nothing_keeps_its_hash(tiny: Any, teacher: Path) -> None:
    assert tiny.recipe(teacher, {"embedding": {}}).model_dump(mode="json")["teacher"] == {"bundle": str(teacher)}


def test_an_input_whose_layout_does_not_show_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes an input of shape .*: say --layout NCHW or --layout NHWC"):
        ModelFileTeacher(write(tmp_path / "t.onnx", shape=("b", "c", "h", "w")))


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (2, "embedding", r"has inputs \['image0', 'image1'\]: a face model with one image input is needed"),
        (1, "map", r"has outputs 'map' \[b, 3, 7, 7\]: none is an embedding"),
        (1, "probabilities", r"'probabilities' \[b, 147\] of a Softmax: probabilities of classes are no embedding"),
    ],
)
def test_a_file_that_cannot_teach_is_one_line(tmp_path: Path, inputs: int, outputs: str, message: str) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    names = [f"image{i}" for i in range(inputs)]
    images = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", 3, 112, 112]) for name in names]
    tiles = {"kernel_shape": [16, 16], "strides": [16, 16]}
    nodes = [helper.make_node("Sum", names, ["x"]), helper.make_node("AveragePool", ["x"], ["map"], **tiles)]
    nodes += [helper.make_node("Flatten", ["map"], ["embedding"])]
    nodes += [helper.make_node("Softmax", ["embedding"], ["probabilities"])]
    shape = ["b", 3, 7, 7] if outputs == "map" else ["b", 147]
    graph = helper.make_graph(nodes, "g", images, [helper.make_tensor_value_info(outputs, TensorProto.FLOAT, shape)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "t.onnx")
    with pytest.raises(UsageError, match=message) as caught:
        ModelFileTeacher(tmp_path / "t.onnx")
    assert "\n" not in str(caught.value)


def test_a_teacher_of_another_width_is_one_line(tiny: Any, tmp_path: Path) -> None:
    narrow = {"name": "mobilefacenet", "arguments": {**tiny.student, "embedding_width": 16}}
    with pytest.raises(UsageError, match=r"16.*32|32.*16") as caught:
        build_task(tiny.recipe(write(tmp_path / "t.onnx"), {"embedding": {}}, model=narrow), tiny.source)
    assert "\n" not in str(caught.value)


def test_its_outputs_can_be_stored(tiny: Any, tmp_path: Path) -> None:
    """Recalled, they teach as the file itself does; there are no tokens to store."""
    file, folder = write(tmp_path / "t.onnx"), tmp_path / "cache"
    training = {"batch_size": 6, "precision": "fp32", "channels_last": False, "device": "cpu"}
    data = {"source": "synthetic:identities=6,images=2", "workers": 0}

    def recipe(*terms: str, cache: Path | None = None) -> Recipe:
        section = {"bundle": str(file), **({"cache": str(cache)} if cache else {})}
        made: Recipe = tiny.recipe(None, *terms, teacher=section, training=training, data=data)
        return made

    filled = fill_cache(recipe("embedding"), tiny.source, folder)
    assert (filled.computed, filled.cache.card.tokens) == (12, "none")
    batch = BatchStream(recipe("embedding", cache=folder), tiny.source).first_batch()
    values = []
    for cache, stored in ((None, ()), (folder, (batch["stored"],))):
        seed_everything(0)
        task = build_task(recipe("embedding", cache=cache), tiny.source).train()
        values.append(float(task(batch["images"], batch["labels"], *stored).loss))
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    with pytest.raises(UsageError, match=r"urfm reads the teacher's tokens, and the cache at .* embeddings alone"):
        build_task(recipe("urfm", cache=folder), tiny.source)
    with pytest.raises(UsageError, match="gives embeddings alone: leave --tokens out"):
        fill_cache(recipe("embedding"), tiny.source, tmp_path / "d", tokens="float16")
