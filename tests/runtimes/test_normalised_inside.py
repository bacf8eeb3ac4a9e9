"""A file that normalises its input itself is fed pixels, and whatever would be normalised twice is said."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.runtimes.opening import open_file
from facekd.schemas.input_spec import InputSpec

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
WEIGHT = np.random.default_rng(2).normal(size=(48, 6)).astype(np.float32)
SHAPE = (3, 1, 1)


def write(path: Path, steps: list[tuple[str, list[np.ndarray]]]) -> Path:
    """An .onnx that applies `steps` (operator, constants) to its input, then a product."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, last = [], [numpy_helper.from_array(WEIGHT, "weight")], "x"
    for i, (operator, values) in enumerate(steps):
        names = [f"c{i}_{k}" for k in range(len(values))]
        constants += [numpy_helper.from_array(v.astype(np.float32), n) for v, n in zip(values, names, strict=True)]
        nodes.append(helper.make_node(operator, [last, *names], [f"y{i}"]))
        last = f"y{i}"
    nodes += [helper.make_node("Flatten", [last], ["f"]), helper.make_node("MatMul", ["f", "weight"], ["e"])]
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 4, 4])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["b", 6])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


MEAN, STD = np.array([123.7, 116.3, 103.5]), np.array([58.4, 57.1, 57.4])
INSIDE = {
    "sub and mul": [("Sub", [MEAN.reshape(SHAPE)]), ("Mul", [(1 / STD).reshape(SHAPE)])],
    "div, sub, div": [
        ("Div", [np.array(255.0)]), ("Sub", [(MEAN / 255).reshape(SHAPE)]), ("Div", [(STD / 255).reshape(SHAPE)]),
    ],
    "batch normalisation": [("BatchNormalization", [np.ones(3), np.zeros(3), MEAN, STD**2])],
    "mul and add": [("Mul", [(1 / STD).reshape(SHAPE)]), ("Add", [(-MEAN / STD).reshape(SHAPE)])],
}  # fmt: skip


@pytest.mark.parametrize("form", INSIDE)
def test_pixels_are_fed_to_a_file_that_normalises_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    path = write(tmp_path / "m.onnx", INSIDE[form])
    model = open_file(path, input_spec=InputSpec(colour="RGB"), threads=1)
    x = ((IMAGES - MEAN.reshape(SHAPE)) / STD.reshape(SHAPE)).reshape(3, 48)
    np.testing.assert_allclose(model(torch.from_numpy(IMAGES)).numpy(), x @ WEIGHT, rtol=1e-3, atol=1e-3)
    assert "computes (x - 123.7,116.3,103.5) / 58.4,57.1,57.4" in caplog.text
    assert "fed the pixels 0 to 255" in caplog.text
    caplog.clear()
    open_file(path, input_spec=InputSpec(mean=(127.5,) * 3, std=(127.5,) * 3), threads=1)
    assert "normalised twice?" in caplog.text
    caplog.clear()
    open_file(path, input_spec=InputSpec(mean=(0,) * 3, std=(1,) * 3), threads=1)
    assert caplog.text == ""


@pytest.mark.parametrize(
    "steps", [[], [("BatchNormalization", [np.ones(3), np.zeros(3), np.full(3, 0.1), np.ones(3)])]]
)
def test_a_file_for_normalised_pixels_gets_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, steps: list[tuple[str, list[np.ndarray]]]
) -> None:
    path = write(tmp_path / "m.onnx", steps)
    assert open_file(path, threads=1).input.mean == (127.5,) * 3
    assert caplog.text == ""
    open_file(path, input_spec=InputSpec(mean=(0,) * 3, std=(1,) * 3), threads=1)
    assert ("cannot be meant for pixels" in caplog.text) == bool(steps)


@pytest.mark.parametrize(("mean", "std", "advice"), [(0.5, 0.5, "--mean 127.5 --std 127.5"), (0.4, 1.0, "--std 255")])
def test_a_mean_of_pixels_from_0_to_1_is_refused(tmp_path: Path, mean: float, std: float, advice: str) -> None:
    with pytest.raises(UsageError, match=advice):
        open_file(write(tmp_path / "m.onnx", []), input_spec=InputSpec(mean=(mean,) * 3, std=(std,) * 3))
