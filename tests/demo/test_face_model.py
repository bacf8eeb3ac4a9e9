"""What the page is told of a foreign .onnx is what the evaluation feeds it; what the page cannot make is refused."""

from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import UsageError
from facekd.demo.face_model import open_face_model
from facekd.runtimes.opening import open_file
from facekd.schemas.input_spec import InputSpec


def write(path: Path, kind: str) -> Path:
    """An .onnx whose input is of this type, NHWC, with two outputs."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    weight = np.random.default_rng(0).normal(size=(48, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["embedding"]),
            helper.make_node("Softmax", ["embedding"], ["p"]),
        ],
        "face",
        [value("x", getattr(TensorProto, kind), ["b", 4, 4, 3])],
        [value("p", TensorProto.FLOAT, ["b", 5]), value("embedding", TensorProto.FLOAT, ["b", 5])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "UINT8"])
def test_the_page_is_told_what_the_evaluation_knows(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "m.onnx", kind)
    spec = InputSpec(colour="BGR", mean=(1, 2, 3), std=(4, 5, 6))
    model, known = open_face_model(path, input_spec=spec), open_file(path, input_spec=spec).encoding
    assert (model.dtype, model.layout, model.input_spec) == (known.dtype, "NHWC", known.spec)
    assert (model.dtype, model.output) == ("uint8" if kind == "UINT8" else "float32", "embedding")
    assert open_face_model(path, output="p").output == "p"


def test_what_the_page_cannot_make_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes float16: the demo's page makes float32 and uint8"):
        open_face_model(write(tmp_path / "m.onnx", "FLOAT16"))
