"""Of several outputs the embedding is taken, said and can be chosen; probabilities never are."""

from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.runtimes.base import Tensor
from facekd.runtimes.graph_ends import GraphEnds
from facekd.runtimes.opening import open_file
from facekd.runtimes.outputs import choose_output

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 3, 4, 4), dtype=np.uint8)
HIDDEN = np.random.default_rng(2).normal(size=(48, 6)).astype(np.float32)
HEAD = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)
X = ((IMAGES.astype(np.float64) - 127.5) / 127.5).reshape(3, 48)


def write(path: Path, *, outputs: dict[str, str]) -> Path:
    """A network with its classifier as .onnx. `outputs`: the name of each output -> e, z (= e HEAD) or p (softmax)."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    widths = {"e": 6, "z": 4, "p": 4}
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "hidden"], ["e"]),
        helper.make_node("MatMul", ["e", "head"], ["z"]),
        helper.make_node("Softmax", ["z"], ["p"], axis=1),
        *(helper.make_node("Identity", [inner], [name]) for name, inner in outputs.items()),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 3, 4, 4])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", widths[inner]]) for n, inner in outputs.items()],
        [numpy_helper.from_array(HIDDEN, "hidden"), numpy_helper.from_array(HEAD, "head")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


@pytest.mark.parametrize(
    "outputs",
    [
        {"logits": "p", "embedding": "e"},
        {"a": "p", "b": "e"},
        {"a": "z", "b": "e"},
        {"683": "z", "features": "e", "prob": "p"},
        {"class": "z", "1": "e"},
        {"only": "e"},
    ],
)
def test_the_embedding_is_taken_and_a_choice_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, outputs: dict[str, str]
) -> None:
    model = open_file(write(tmp_path / "m.onnx", outputs=outputs), threads=1)
    np.testing.assert_allclose(model(torch.from_numpy(IMAGES)).numpy(), X @ HIDDEN, rtol=1e-4, atol=1e-4)
    taken = next(name for name, inner in outputs.items() if inner == "e")
    assert (f"'{taken}' is taken; --output NAME" in caplog.text) == (len(outputs) > 1)


def test_the_one_named_is_taken_whatever_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "m.onnx", outputs={"embedding": "e", "logits": "z", "prob": "p"})
    model = open_file(path, output="logits", threads=1)
    np.testing.assert_allclose(model(torch.from_numpy(IMAGES)).numpy(), X @ HIDDEN @ HEAD, rtol=1e-4, atol=1e-4)
    assert caplog.text == ""
    assert open_file(path, output="prob", threads=1).embedding_width == 4
    with pytest.raises(UsageError, match=r"--output none: the outputs of .* are embedding, logits, prob"):
        open_file(path, output="none", threads=1)


def test_probabilities_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'y' \[b, 4\] of a Softmax: probabilities of classes are no embedding"):
        open_file(write(tmp_path / "m.onnx", outputs={"y": "p"}), threads=1)


def test_an_operator_of_tflite_is_known_by_its_own_name() -> None:
    outputs = [Tensor(name=name, dtype="float32", shape=(1, 4)) for name in ("y:0", "y:1")]
    ends = GraphEnds(operators={"y:0": "LOGISTIC", "y:1": "FULLY_CONNECTED"})
    chosen, note = choose_output(Path("m.tflite"), outputs, ends)
    assert chosen.name == "y:1"
    assert note is not None and "'y:0' [1, 4] of a LOGISTIC" in note
