"""This machine's own matrix product: the limit that a model's arithmetic is held against."""

import time
from collections.abc import Callable, Iterator

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.runtimes.onnxruntime import OnnxRuntime, inference_session

# Large enough to amortise packing, small enough for the second-level cache to matter as it does in a network.
SIZES = (512, 1024)
_PRECISION = {"fp32": "fp32", "fp16": "fp32", "w8": "fp32", "palette": "fp32", "int8": "int8"}


def arithmetic_of(precision: str) -> str:
    """The precision a CPU computes in: float16 files are computed in float32 here, compressed weights as well."""
    return _PRECISION.get(precision, "fp32")


def best_gemm(precision: str, *, threads: int, seconds: float) -> tuple[float, str]:
    """(GFLOP/s, kernel) of the fastest product found; for int8, of operations, two to a multiply-accumulate.

    Each library is tried at each size, and its fastest run counts: a limit is what the machine can do, not what it
    does when a neighbour is busy.

    Args:
        precision: fp32 or int8.
        threads: of every library.
        seconds: for all tries together.
    """
    candidates = list(_candidates(precision, threads))
    if not candidates:
        raise FacekdError(f"no library here multiplies {precision} matrices: pip install 'facekd[onnx]'")
    best, kernel = 0.0, ""
    for name, size, call in candidates:
        call()
        deadline = time.perf_counter() + seconds / len(candidates)
        while True:
            start = time.perf_counter()
            call()
            gflops = 2 * size**3 / (time.perf_counter() - start) / 1e9
            if gflops > best:
                best, kernel = gflops, f"{name} {size}x{size}x{size}"
            if time.perf_counter() > deadline:
                break
    return best, kernel


def _candidates(precision: str, threads: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    generator = np.random.default_rng(0)
    for size in SIZES:
        if precision == "fp32":
            a, b = (generator.standard_normal((size, size)).astype(np.float32) for _ in range(2))
            yield from _torch_float(a, b, threads)
            yield from _onnx("MatMul", a, b, threads)
        else:
            a = generator.integers(0, 127, (size, size)).astype(np.uint8)
            b = generator.integers(-127, 127, (size, size)).astype(np.int8)
            yield from _torch_int(b, threads)
            yield from _onnx("MatMulInteger", a, b, threads)


def _torch_float(a: np.ndarray, b: np.ndarray, threads: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    import torch

    torch.set_num_threads(threads)
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    out = torch.empty(len(a), len(b))
    yield "torch mm", len(a), lambda: torch.mm(x, y, out=out)


def _torch_int(b: np.ndarray, threads: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    import torch

    torch.set_num_threads(threads)
    x = torch.from_numpy(b)
    yield "torch _int_mm", len(b), lambda: torch._int_mm(x, x)


def _onnx(operator: str, a: np.ndarray, b: np.ndarray, threads: int) -> Iterator[tuple[str, int, Callable[[], object]]]:
    try:
        OnnxRuntime().require()
        from onnx import TensorProto, helper, numpy_helper
    except (ImportError, UsageError):  # an optional extra: the other libraries remain
        return
    result = TensorProto.FLOAT if operator == "MatMul" else TensorProto.INT32
    graph = helper.make_graph(
        # The right side is a constant, as a network's weights are, so that it is packed once.
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "gemm",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", result, a.shape)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = inference_session(model.SerializeToString(), threads=threads)
    yield f"ONNX Runtime {operator}", len(a), lambda: session.run(None, {"a": a})
