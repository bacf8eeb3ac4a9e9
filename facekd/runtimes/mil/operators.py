"""MIL operations in torch, by name, after Core ML's documentation of the MIL operation set (coremltools 9).

Each takes the operation's inputs by name as the program writes them and returns a tensor (or a tuple). Inputs a program
may leave out have the defaults of the documentation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from facekd.common.errors import FacekdError
from facekd.common.validation import shown

Tensor = torch.Tensor
OPERATORS: dict[str, Callable[..., Any]] = {}


def operator(function: Callable[..., Any]) -> Callable[..., Any]:
    OPERATORS[function.__name__.rstrip("_")] = function
    return function


def ints(value: Any) -> list[int]:
    if isinstance(value, Tensor):
        return [int(v) for v in value.reshape(-1).tolist()]
    return [int(v) for v in np.atleast_1d(np.asarray(value)).tolist()]


def tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _padding(
    x: Tensor, pad_type: str, pad: Any, kernel: Sequence[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """[before, after] for each spatial axis, in order."""
    if pad_type == "valid":
        return [0, 0] * len(kernel)
    if pad_type == "custom":
        return ints(pad)
    if pad_type not in ("same", "same_lower"):
        raise FacekdError(f"MIL padding {shown(pad_type)} is not known to the interpreter")
    result = []
    for size, k, stride, dilation in zip(x.shape[2:], kernel, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + dilation * (k - 1) + 1 - size)
        small, large = total // 2, total - total // 2
        result += [small, large] if pad_type == "same" else [large, small]
    return result


def _pad_spatial(x: Tensor, padding: list[int], value: float = 0.0) -> Tensor:
    """Torch lists the last axis first; MIL lists the first spatial axis first."""
    if not any(padding):
        return x
    pairs = [padding[i : i + 2] for i in range(0, len(padding), 2)]
    return F.pad(x, [p for pair in reversed(pairs) for p in pair], value=value)


@operator
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Any = (1, 1),
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    dilations: Any = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Cross-correlation [b, c, h, w] with weight [o, c / groups, kh, kw]."""
    strides, dilations = ints(strides), ints(dilations)
    padding = _padding(x, pad_type, pad, weight.shape[2:], strides, dilations)
    function = F.conv2d if weight.ndim == 4 else F.conv1d
    return function(_pad_spatial(x, padding), weight.float(), bias, strides, 0, dilations, int(groups))


@operator
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight.float(), None if bias is None else bias.float())


@operator
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


@operator
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


@operator
def layer_norm(
    x: Tensor, axes: Any = None, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    dims = [axis % x.ndim for axis in ints(axes)] if axes is not None else list(range(x.ndim))
    if sorted(dims) != list(range(x.ndim - len(dims), x.ndim)):
        raise FacekdError(f"MIL layer_norm over axes {dims} of a {x.ndim}-d tensor is not known to the interpreter")
    return F.layer_norm(x, [x.shape[d] for d in sorted(dims)], gamma, beta, float(epsilon))


@operator
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.prelu(x, alpha.float())


@operator
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, float(alpha))


@operator
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    return torch.where(x >= float(alpha), x, torch.zeros_like(x))


@operator
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(float(alpha), float(beta))


@operator
def sigmoid_hard(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (float(alpha) * x + float(beta)).clamp(0, 1)


@operator
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@operator
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(int(axis))


@operator
def scaled_dot_product_attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)


@operator
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    return torch.rsqrt(x + float(epsilon))


@operator
def reduce_mean(x: Tensor, axes: Any = None, keep_dims: bool = False) -> Tensor:
    return x.mean(ints(axes) if axes is not None else list(range(x.ndim)), keepdim=bool(keep_dims))


@operator
def reduce_sum(x: Tensor, axes: Any = None, keep_dims: bool = False) -> Tensor:
    return x.sum(ints(axes) if axes is not None else list(range(x.ndim)), keepdim=bool(keep_dims))


@operator
def avg_pool(
    x: Tensor,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    kernel = ints(kernel_sizes)
    steps = ints(strides) if strides is not None else [1] * len(kernel)
    padding = _padding(x, pad_type, pad, kernel, steps, [1] * len(kernel))
    if any(padding) and exclude_padding_from_average:
        raise FacekdError("MIL avg_pool that excludes its padding is not known to the interpreter")
    return F.avg_pool2d(_pad_spatial(x, padding), kernel, steps, ceil_mode=bool(ceil_mode))


@operator
def max_pool(
    x: Tensor,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    ceil_mode: bool = False,
) -> Tensor:
    kernel = ints(kernel_sizes)
    steps = ints(strides) if strides is not None else [1] * len(kernel)
    padding = _padding(x, pad_type, pad, kernel, steps, [1] * len(kernel))
    return F.max_pool2d(_pad_spatial(x, padding, float("-inf")), kernel, steps, ceil_mode=bool(ceil_mode))


def _elementwise(name: str, function: Callable[..., Tensor], *inputs: str) -> None:
    def apply(**arguments: Any) -> Tensor:
        return function(*(tensor(arguments[key]) for key in inputs))

    OPERATORS[name] = apply


_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
}
_UNARY: dict[str, Callable[..., Tensor]] = {
    "relu": torch.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "erf": torch.erf,
    "abs": torch.abs,
    "identity": torch.clone,
    "silu": F.silu,
}
for _name, _function in _BINARY.items():
    _elementwise(_name, _function, "x", "y")
for _name, _function in _UNARY.items():
    _elementwise(_name, _function, "x")
