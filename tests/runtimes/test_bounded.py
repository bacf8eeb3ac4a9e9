"""A foreign model that never ends is ended: after a time that the message names, and by Ctrl-C within a second."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import FacekdError
from facekd.runtimes import base
from facekd.runtimes.bounded import run_bounded
from facekd.runtimes.opening import open_file


def write_endless(path: Path) -> Path:
    """An .onnx whose Loop has no bound."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["a"], ["b"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("a", TensorProto.FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("b", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Loop", ["", "yes", "f"], ["e"], body=body)],
        "endless",
        [value("x", TensorProto.FLOAT, ["b", 3, 4, 4])],
        [value("e", TensorProto.FLOAT, ["b", 48])],
        [numpy_helper.from_array(np.array(True), "yes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def test_an_endless_loop_ends_with_the_limit_in_the_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_endless(tmp_path / "m.onnx")
    monkeypatch.setattr(base, "LIMIT_S", 0.5)
    start = time.monotonic()
    with pytest.raises(FacekdError, match=r"m\.onnx on 1 image took more than 0\.5 s and was ended"):
        open_file(path, threads=1)
    assert time.monotonic() - start < 50  # it has no end of its own


def test_ctrl_c_ends_it_within_a_second(tmp_path: Path) -> None:
    path = write_endless(tmp_path / "m.onnx")
    code = f"""
import facekd.runtimes.base as base
from pathlib import Path
from facekd.runtimes.opening import open_file
run = base.run_bounded
def told(*given, **options):
    print('running', flush=True)
    return run(*given, **options)
base.run_bounded = told
try:
    open_file(Path({str(path)!r}), threads=1)
except KeyboardInterrupt:
    print('interrupted', flush=True)
"""

    def seconds() -> float:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "running\n"
            time.sleep(0.3)
            start = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            taken = time.monotonic() - start
            assert process.wait(timeout=60) == 0
            return taken
        finally:
            process.kill()
            process.stdout.close()

    assert any(seconds() < 1 for _ in range(5))  # a busy machine may be late once, not five times


def test_results_and_errors_come_through() -> None:
    assert run_bounded(lambda: 3, seconds=10, what="it") == 3
    with pytest.raises(ZeroDivisionError):
        run_bounded(lambda: 1 // 0, seconds=10, what="it")
