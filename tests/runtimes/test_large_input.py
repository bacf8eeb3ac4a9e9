"""A foreign model with an input of 200,000 x 200,000 pixels is refused by its name and that size."""

from pathlib import Path

import pytest

from facekd.common.errors import UsageError
from facekd.runtimes.opening import open_file


@pytest.mark.parametrize("side", [5_000, 200_000])
def test_an_input_that_fills_the_memory(tmp_path: Path, side: int) -> None:
    """Seen: "Unable to allocate 224. GiB for an array with shape (2, 3, 200000, 200000)"."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["e"])],
        "mean",
        [value("x", TensorProto.FLOAT, ["b", 3, side, side])],
        [value("e", TensorProto.FLOAT, ["b", 3])],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    with pytest.raises(UsageError) as refused:
        open_file(path, threads=1)
    assert str(refused.value).startswith(f"{path} takes images of {side:,} x {side:,} pixels: ")
