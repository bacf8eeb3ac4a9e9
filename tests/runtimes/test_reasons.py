"""A runtime's message keeps its cause and loses paths, C++ signatures and source locations."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import FacekdError
from facekd.runtimes.opening import open_file
from facekd.runtimes.reasons import reason


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            "[ONNXRuntimeError] : 1 : FAIL : Load model from /a b/m.onnx failed:"
            "/onnxruntime_src/core/graph/model.cc:192 onnxruntime::Model::Model(onnx::ModelProto&&, "
            "const std::list<std::shared_ptr<X> >*, "
            "const onnxruntime::ModelOptions&) Unsupported model IR version: 99, max supported IR version: 13",
            "Unsupported model IR version: 99, max supported IR version: 13",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running PRelu node. Name:'act_3' "
            "Status Message: /src/cpu/element_wise_ops.h:563 void "
            "onnxruntime::BroadcastIterator::Init(ptrdiff_t, ptrdiff_t) "
            "axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension "
            "other than 1. 8 by 16",
            "PRelu act_3: Attempting to broadcast an axis by a dimension other than 1. 8 by 16",
        ),
        (
            "tensorflow/lite/kernels/conv.cc:343 input->dims->size != 4 (3 != 4)\n"
            "Node number 0 (CONV_2D) failed to prepare.",
            "input->dims->size != 4 (3 != 4) Node number 0 (CONV_2D) failed to prepare.",
        ),
        ("Protobuf parsing failed.", "Protobuf parsing failed."),
        ("", "ValueError"),
    ],
)
def test_the_cause_is_kept(said: str, kept: str) -> None:
    assert reason(ValueError(said)) == kept


def write_broken(path: Path, *, ir_version: int = 9) -> Path:
    """An .onnx whose PRelu has a slope that does not broadcast, which shows when it runs."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("PRelu", ["x", "slope"], ["activated"], name="act"),
            helper.make_node("Flatten", ["activated"], ["e"]),
        ],
        "broken",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info("e", TensorProto.FLOAT, ["b", 48])],
        [numpy_helper.from_array(np.ones((5, 1, 1), np.float32), "slope")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=ir_version), path)
    return path


def test_a_file_from_the_future_is_called_newer(tmp_path: Path) -> None:
    with pytest.raises(FacekdError, match=r"is newer than ONNX Runtime \S+ here: Unsupported model IR version: 99"):
        open_file(write_broken(tmp_path / "m.onnx", ir_version=99))


def test_the_runtime_itself_says_nothing(tmp_path: Path) -> None:
    path = write_broken(tmp_path / "m.onnx")
    code = f"""
from pathlib import Path
from facekd.common.errors import FacekdError
from facekd.runtimes.opening import open_file
try:
    open_file(Path({str(path)!r}))
except FacekdError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "PRelu act: " in done.stdout and "3 by 5" in done.stdout
    assert "::" not in done.stdout and ".h:" not in done.stdout
