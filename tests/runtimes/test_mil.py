"""The MIL interpreter: each operation against torch or NumPy, packed weights against their definition, unknown ones."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from facekd.common.errors import FacekdError
from facekd.runtimes.mil.layout import OPERATORS

X = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 4, 6, 7, generator=torch.Generator().manual_seed(1))
POSITIVE = X.abs() + 0.1
W = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(2))
B = torch.randn(6, generator=torch.Generator().manual_seed(3))
C = torch.rand(4, generator=torch.Generator().manual_seed(4)) + 0.5
MASK = torch.randn(6, 6, generator=torch.Generator().manual_seed(6))
M = torch.randn(5, 7, generator=torch.Generator().manual_seed(5))


def _gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


# operation -> list of (inputs as MIL names them, expected result)
CASES: dict[str, list[tuple[dict[str, Any], Any]]] = {
    "conv": [
        (
            {"x": X, "weight": W, "bias": B, "strides": [2, 1], "pad_type": "custom", "pad": [1, 1, 1, 1], "groups": 2},
            F.conv2d(X, W, B, (2, 1), 1, 1, 2),
        ),
        ({"x": X, "weight": W, "groups": 2, "dilations": [1, 2]}, F.conv2d(X, W, groups=2, dilation=(1, 2))),
        (
            {"x": X, "weight": W, "groups": 2, "pad_type": "custom", "pad": [0, 2, 1, 0]},
            F.conv2d(F.pad(X, (1, 0, 0, 2)), W, groups=2),
        ),
        ({"x": X, "weight": W, "groups": 2, "pad_type": "same"}, F.conv2d(X, W, groups=2, padding=1)),
        # An even input at stride 2 needs one line: `same` adds it behind, `same_lower` before.
        (
            {"x": X, "weight": W, "groups": 2, "pad_type": "same_lower", "strides": [2, 2]},
            F.conv2d(F.pad(X, (1, 1, 1, 0)), W, stride=2, groups=2),
        ),
    ],
    "linear": [({"x": X, "weight": M, "bias": M[:, 0]}, X @ M.T + M[:, 0]), ({"x": X, "weight": M}, X @ M.T)],
    "matmul": [
        ({"x": X, "y": Y, "transpose_x": False, "transpose_y": True}, X @ Y.transpose(-1, -2)),
        ({"x": X, "y": Y, "transpose_x": True, "transpose_y": False}, X.transpose(-1, -2) @ Y),
    ],
    "batch_norm": [
        (
            {"x": X, "mean": C - 1, "variance": C, "gamma": C + 1, "beta": C - 2, "epsilon": 1e-3},
            (X - (C - 1).view(4, 1, 1)) / (C.view(4, 1, 1) + 1e-3).sqrt() * (C + 1).view(4, 1, 1)
            + (C - 2).view(4, 1, 1),
        )
    ],
    "layer_norm": [
        (
            {"x": X, "axes": [-1], "gamma": M[0], "beta": M[1], "epsilon": 1e-5},
            (X - X.mean(-1, keepdim=True)) / (X.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt() * M[0] + M[1],
        )
    ],
    "prelu": [({"x": X, "alpha": C}, torch.where(X > 0, X, X * C.view(4, 1, 1)))],
    "leaky_relu": [({"x": X, "alpha": 0.1}, torch.where(X > 0, X, 0.1 * X))],
    "relu": [({"x": X}, X.clamp(min=0))],
    "thresholded_relu": [({"x": X, "alpha": -0.5}, X * (X >= -0.5))],
    "rsqrt": [({"x": POSITIVE, "epsilon": 0.5}, (POSITIVE + 0.5) ** -0.5)],
    "scaled_dot_product_attention": [
        (
            {"query": X, "key": Y, "value": X + Y, "attn_mask": MASK},
            (X @ Y.mT / math.sqrt(7) + MASK).softmax(-1) @ (X + Y),
        )
    ],
    "relu6": [({"x": 5 * X}, (5 * X).clamp(0, 6))],
    "clip": [({"x": X, "alpha": -0.3, "beta": 0.4}, X.clamp(-0.3, 0.4))],
    "sigmoid": [({"x": X}, 1 / (1 + (-X).exp()))],
    "sigmoid_hard": [({"x": X, "alpha": 1 / 6, "beta": 0.5}, (X / 6 + 0.5).clamp(0, 1))],
    "silu": [({"x": X}, X / (1 + (-X).exp()))],
    "tanh": [({"x": X}, torch.tanh(X))],
    "gelu": [
        ({"x": X, "mode": "EXACT"}, _gelu(X)),
        ({"x": X, "mode": "TANH_APPROXIMATION"}, F.gelu(X, approximate="tanh")),
        ({"x": X, "mode": "SIGMOID_APPROXIMATION"}, X * torch.sigmoid(1.702 * X)),
    ],
    "softmax": [({"x": X, "axis": 1}, X.exp() / X.exp().sum(1, keepdim=True))],
    "exp": [({"x": X}, X.exp())],
    "erf": [({"x": X}, torch.erf(X))],
    "sqrt": [({"x": POSITIVE}, POSITIVE**0.5)],
    "square": [({"x": X}, X * X)],
    "abs": [({"x": X}, X.abs())],
    "identity": [({"x": X}, X)],
    "add": [({"x": X, "y": C.view(4, 1, 1)}, X + C.view(4, 1, 1))],
    "sub": [({"x": X, "y": 2.0}, X - 2)],
    "mul": [({"x": X, "y": Y}, X * Y)],
    "real_div": [({"x": X, "y": POSITIVE}, X / POSITIVE)],
    "maximum": [({"x": X, "y": Y}, torch.where(X > Y, X, Y))],
    "minimum": [({"x": X, "y": Y}, torch.where(X < Y, X, Y))],
    "pow": [({"x": POSITIVE, "y": 1.5}, POSITIVE**1.5)],
    "reduce_mean": [
        ({"x": X, "axes": [-2, -1], "keep_dims": True}, X.mean((2, 3), keepdim=True)),
        ({"x": X, "axes": [1], "keep_dims": False}, X.mean(1)),
    ],
    "reduce_sum": [({"x": X, "axes": [-1], "keep_dims": False}, X.sum(-1))],
    "avg_pool": [
        ({"x": X, "kernel_sizes": [2, 3], "strides": [2, 2]}, F.avg_pool2d(X, (2, 3), 2)),
        (
            {"x": X, "kernel_sizes": [3, 3], "strides": [1, 1], "pad_type": "custom", "pad": [1, 1, 1, 1]},
            F.avg_pool2d(X, 3, 1, 1),
        ),
    ],
    "max_pool": [
        (
            {"x": X - 9, "kernel_sizes": [3, 3], "strides": [2, 2], "pad_type": "custom", "pad": [1, 1, 1, 1]},
            F.max_pool2d(X - 9, 3, 2, 1),
        )
    ],
    "reshape": [({"x": X, "shape": [2, -1]}, X.flatten(1)), ({"x": X, "shape": [0, 24, 0]}, None)],
    "transpose": [({"x": X, "perm": [0, 2, 3, 1]}, X.permute(0, 2, 3, 1))],
    "expand_dims": [({"x": X, "axes": [0, -1]}, X[None, ..., None]), ({"x": M, "axes": [1]}, M[:, None])],
    "squeeze": [({"x": X[:, :1], "axes": [1]}, X[:, 0])],
    "concat": [({"values": [X, Y], "axis": -1, "interleave": False}, torch.cat([X, Y], 3))],
    "stack": [({"values": [X, Y], "axis": 1}, torch.stack([X, Y], 1))],
    "split": [
        ({"x": X, "axis": 1, "num_splits": 2}, (X[:, :2], X[:, 2:])),
        ({"x": X, "axis": 3, "split_sizes": [3, 4]}, (X[..., :3], X[..., 3:])),
    ],
    "slice_by_index": [
        (
            {"x": X, "begin": [0, 1, 0, 6], "end": [0, 3, 5, 0], "stride": [1, 1, 2, -2], "begin_mask": [1, 0, 0, 0]}
            | {"end_mask": [1, 0, 0, 0]},
            X[:, 1:3, 0:5:2].flip(3)[..., 0:6:2],
        ),
        (
            {"x": X, "begin": [0, 2, 0, 0], "end": [0, 0, 0, 0], "begin_mask": [1, 0, 1, 1], "end_mask": [1, 0, 1, 1]}
            | {"squeeze_mask": [0, 1, 0, 0]},
            X[:, 2],
        ),
    ],
    "slice_by_size": [({"x": X, "begin": [0, 1, 2, 3], "size": [2, 2, -1, 3]}, X[:, 1:3, 2:, 3:6])],
    "pad": [
        (
            {"x": X, "pad": [0, 0, 0, 0, 1, 2, 3, 0], "mode": "constant", "constant_val": 5.0},
            F.pad(X, (3, 0, 1, 2), value=5.0),
        )
    ],
    "gather": [
        ({"x": X, "indices": torch.tensor([2, 0]), "axis": 1}, X[:, [2, 0]]),
        ({"x": X, "indices": 3, "axis": -1}, X[..., 3]),
    ],
    "cast": [({"x": X, "dtype": "int32"}, X.to(torch.int32)), ({"x": M.int(), "dtype": "fp32"}, M.int().float())],
    "select": [({"cond": X > 0, "a": X, "b": Y}, torch.where(X > 0, X, Y))],
    "constexpr_affine_dequantize": [
        (
            {
                "quantized_data": torch.tensor([[-128, 0, 127], [1, 2, 3]], dtype=torch.int8),
                "zero_point": torch.tensor([0, 1], dtype=torch.int8),
                "scale": torch.tensor([0.5, 2.0]),
                "axis": 0,
            },
            torch.tensor([[-64.0, 0.0, 63.5], [0.0, 2.0, 4.0]]),
        )
    ],
    "constexpr_blockwise_shift_scale": [
        (
            {
                "data": torch.tensor([[1, 2, 3, 4]], dtype=torch.int8),
                "scale": torch.tensor([[0.5, 10.0]]),
                "offset": torch.tensor([[1, 0]], dtype=torch.int8),
            },
            torch.tensor([[0.0, 0.5, 30.0, 40.0]]),
        )
    ],
    "constexpr_lut_to_dense": [
        # iOS 16: 2-bit indices 3, 0, 2, 1, 3 packed from the low end of each byte.
        (
            {
                "indices": torch.tensor([0b01100011, 0b00000011], dtype=torch.uint8),
                "lut": torch.tensor([-1.0, 0.0, 0.5, 7.0]),
                "shape": [1, 5],
            },
            torch.tensor([[7.0, -1.0, 0.5, 0.0, 7.0]]),
        ),
        # iOS 18: the indices are an array, the table has one entry set a block.
        (
            {
                "indices": torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8),
                "lut": torch.tensor([[[[1.0], [2.0]]], [[[3.0], [4.0]]]]),
            },
            torch.tensor([[1.0, 2.0], [4.0, 3.0]]),
        ),
    ],
}
CASES["reshape"][1] = ({"x": X, "shape": [0, 24, 7]}, X.reshape(2, 24, 7))


@pytest.mark.parametrize("operation", sorted(OPERATORS))
def test_operation(operation: str) -> None:
    assert operation in CASES, f"operation {operation} has no test"
    for arguments, wanted in CASES[operation]:
        found = OPERATORS[operation](**arguments)
        for one, other in zip(
            found if isinstance(found, tuple) else (found,),
            wanted if isinstance(wanted, tuple) else (wanted,),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def _package(module: nn.Module, shape: tuple[int, ...], path: Path, **options: Any) -> Path:
    ct = pytest.importorskip("coremltools")
    with torch.no_grad():
        traced = torch.jit.trace(module.eval(), torch.rand(shape))
    model = ct.convert(
        traced,
        inputs=[ct.TensorType(name="image", shape=shape)],
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS15,
        skip_model_load=True,
        **options,
    )
    model.save(str(path))
    return path


class _Mixture(nn.Module):
    """What MobileFaceNet has not: pooling, hard-swish, attention, layer norm, a roll."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.hardswish(self.conv(x))
        x = x.roll((1, 2), (2, 3))
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        q, k, v = self.qkv(tokens).chunk(3, -1)
        tokens = ((q @ k.transpose(1, 2)) / math.sqrt(8)).softmax(-1) @ v
        return F.gelu(tokens.mean(1)) + F.adaptive_avg_pool2d(x, 1).flatten(1)


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
def test_saved_program_against_torch(tmp_path: Path, precision: str) -> None:
    ct = pytest.importorskip("coremltools")
    from facekd.runtimes.mil.program import MilProgram

    module = _Mixture().eval()
    program = MilProgram(
        _package(module, (1, 3, 8, 8), tmp_path / "m.mlpackage", compute_precision=getattr(ct.precision, precision))
    )
    x = torch.randn(1, 3, 8, 8)
    found = program(x.numpy())
    with torch.no_grad():
        wanted = module(x).numpy()
    difference = np.abs(found - wanted).max()
    assert difference < (1e-5 if precision == "FLOAT32" else 1e-2)
    # float16 must leave its mark: an interpreter that ignored the program's types would be exact.
    assert precision == "FLOAT32" or difference > 1e-6


def test_unknown_operation_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facekd.runtimes.mil.program import MilProgram

    path = _package(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (1, 3, 8, 8), tmp_path / "m.mlpackage")
    monkeypatch.delitem(OPERATORS, "relu")
    with pytest.raises(FacekdError, match="does not know the operation relu"):
        MilProgram(path)


def test_a_damaged_package_is_an_error(tmp_path: Path) -> None:
    from facekd.runtimes.mil.program import MilProgram

    path = _package(nn.Conv2d(3, 4, 3), (1, 3, 8, 8), tmp_path / "m.mlpackage")
    next(path.rglob("*.mlmodel")).write_bytes(b"not a model")
    with pytest.raises(FacekdError, match="cannot read it back"):
        MilProgram(path)
