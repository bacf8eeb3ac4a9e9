"""MIL operations in torch, by name, after Core ML's documentation of the MIL operation set (coremltools 9).

Each takes the operation's inputs by name as the program writes them and returns a tensor (or a tuple). Inputs a program
may leave out have the defaults of the documentation.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from facekd.errors import FacekdError

Tensor = torch.Tensor
OPERATORS: dict[str, Callable[..., Any]] = {}


def _operator(function: Callable[..., Any]) -> Callable[..., Any]:
    OPERATORS[function.__name__.rstrip("_")] = function
    return function


def _ints(value: Any) -> list[int]:
    if isinstance(value, Tensor):
        return [int(v) for v in value.reshape(-1).tolist()]
    return [int(v) for v in np.atleast_1d(np.asarray(value)).tolist()]


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _padding(
    x: Tensor, pad_type: str, pad: Any, kernel: Sequence[int], strides: list[int], dilations: list[int]
) -> list[int]:
    """[before, after] for each spatial axis, in order."""
    if pad_type == "valid":
        return [0, 0] * len(kernel)
    if pad_type == "custom":
        return _ints(pad)
    if pad_type not in ("same", "same_lower"):
        raise FacekdError(f"MIL padding {pad_type!r} is not known to the interpreter")
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


@_operator
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
    strides, dilations = _ints(strides), _ints(dilations)
    padding = _padding(x, pad_type, pad, weight.shape[2:], strides, dilations)
    function = F.conv2d if weight.ndim == 4 else F.conv1d
    return function(_pad_spatial(x, padding), weight.float(), bias, strides, 0, dilations, int(groups))


@_operator
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.linear(x, weight.float(), None if bias is None else bias.float())


@_operator
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    return (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)


@_operator
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.0, float(epsilon))


@_operator
def layer_norm(
    x: Tensor, axes: Any = None, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    dims = [axis % x.ndim for axis in _ints(axes)] if axes is not None else list(range(x.ndim))
    if sorted(dims) != list(range(x.ndim - len(dims), x.ndim)):
        raise FacekdError(f"MIL layer_norm over axes {dims} of a {x.ndim}-d tensor is not known to the interpreter")
    return F.layer_norm(x, [x.shape[d] for d in sorted(dims)], gamma, beta, float(epsilon))


@_operator
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    return F.prelu(x, alpha.float())


@_operator
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    return F.leaky_relu(x, float(alpha))


@_operator
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp(float(alpha), float(beta))


@_operator
def sigmoid_hard(x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    return (float(alpha) * x + float(beta)).clamp(0, 1)


@_operator
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@_operator
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    return x.softmax(int(axis))


@_operator
def reduce_mean(x: Tensor, axes: Any = None, keep_dims: bool = False) -> Tensor:
    return x.mean(_ints(axes) if axes is not None else list(range(x.ndim)), keepdim=bool(keep_dims))


@_operator
def reduce_sum(x: Tensor, axes: Any = None, keep_dims: bool = False) -> Tensor:
    return x.sum(_ints(axes) if axes is not None else list(range(x.ndim)), keepdim=bool(keep_dims))


@_operator
def avg_pool(
    x: Tensor,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    kernel = _ints(kernel_sizes)
    steps = _ints(strides) if strides is not None else [1] * len(kernel)
    padding = _padding(x, pad_type, pad, kernel, steps, [1] * len(kernel))
    if any(padding) and exclude_padding_from_average:
        raise FacekdError("MIL avg_pool that excludes its padding is not known to the interpreter")
    return F.avg_pool2d(_pad_spatial(x, padding), kernel, steps, ceil_mode=bool(ceil_mode))


@_operator
def max_pool(
    x: Tensor,
    kernel_sizes: Any,
    strides: Any = None,
    pad_type: str = "valid",
    pad: Any = (0, 0, 0, 0),
    ceil_mode: bool = False,
) -> Tensor:
    kernel = _ints(kernel_sizes)
    steps = _ints(strides) if strides is not None else [1] * len(kernel)
    padding = _padding(x, pad_type, pad, kernel, steps, [1] * len(kernel))
    return F.max_pool2d(_pad_spatial(x, padding, float("-inf")), kernel, steps, ceil_mode=bool(ceil_mode))


@_operator
def reshape(x: Tensor, shape: Any, allowzero: bool = False) -> Tensor:
    """A 0 in `shape` keeps that dimension unless `allowzero`."""
    sizes = _ints(shape)
    return x.reshape([x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(sizes)])


@_operator
def transpose(x: Tensor, perm: Any) -> Tensor:
    return x.permute(_ints(perm))


@_operator
def expand_dims(x: Tensor, axes: Any) -> Tensor:
    dims = _ints(axes)
    final = x.ndim + len(dims)
    for axis in sorted(axis % final for axis in dims):
        x = x.unsqueeze(axis)
    return x


@_operator
def squeeze(x: Tensor, axes: Any = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes)))


@_operator
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise FacekdError("MIL concat with interleave is not known to the interpreter")
    return torch.cat(values, int(axis))


@_operator
def stack(values: list[Tensor], axis: int) -> Tensor:
    return torch.stack(values, int(axis))


@_operator
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Any = None) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        return x.split(_ints(split_sizes), int(axis))
    return x.chunk(int(num_splits or 1), int(axis))


@_operator
def slice_by_index(
    x: Tensor,
    begin: Any,
    end: Any,
    stride: Any = None,
    begin_mask: Any = None,
    end_mask: Any = None,
    squeeze_mask: Any = None,
) -> Tensor:
    """NumPy's slicing; a mask says the bound is left open, or the axis is indexed and dropped."""
    n = len(_ints(begin))
    steps = _ints(stride) if stride is not None else [1] * n
    masks = [_ints(mask) if mask is not None else [0] * n for mask in (begin_mask, end_mask, squeeze_mask)]
    index: list[Any] = []
    for axis, (low, high, step) in enumerate(zip(_ints(begin), _ints(end), steps, strict=True)):
        if masks[2][axis]:
            index.append(low)
        else:
            index.append(slice(None if masks[0][axis] else low, None if masks[1][axis] else high, step))
    return torch.from_numpy(np.ascontiguousarray(x.numpy()[tuple(index)]))


@_operator
def slice_by_size(x: Tensor, begin: Any, size: Any) -> Tensor:
    for axis, (low, length) in enumerate(zip(_ints(begin), _ints(size), strict=True)):
        x = x.narrow(axis, low, x.shape[axis] - low if length == -1 else length)
    return x


@_operator
def pad(x: Tensor, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    amounts = _ints(pad)
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    flat = [p for pair in reversed(pairs) for p in pair]
    return F.pad(x, flat, mode=mode, **({"value": float(constant_val)} if mode == "constant" else {}))


@_operator
def gather(x: Tensor, indices: Any, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    del validate_indices
    if batch_dims:
        raise FacekdError("MIL gather with batch dimensions is not known to the interpreter")
    index = _tensor(indices).long()
    return x.index_select(int(axis), index.reshape(-1)).reshape(
        [*x.shape[: int(axis) % x.ndim], *index.shape, *x.shape[int(axis) % x.ndim + 1 :]]
    )


@_operator
def cast(x: Any, dtype: str) -> Any:
    """Rounding to float16 is applied when the result is stored, by its declared type."""
    kinds = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
    if dtype not in kinds:
        raise FacekdError(f"MIL cast to {dtype!r} is not known to the interpreter")
    return _tensor(x).to(kinds[dtype])


@_operator
def select(cond: Any, a: Any, b: Any) -> Tensor:
    return torch.where(_tensor(cond).bool(), _tensor(a), _tensor(b))


@_operator
def constexpr_affine_dequantize(quantized_data: Any, zero_point: Any, scale: Any, axis: int) -> Tensor:
    """scale * (data - zero point) along `axis` (iOS 16)."""
    data = _tensor(quantized_data).float()
    shape = [1] * data.ndim
    shape[int(axis)] = -1

    def spread(value: Any) -> Tensor:
        value = _tensor(value).float()
        return value.reshape(shape) if value.ndim else value

    return (data - spread(zero_point)) * spread(scale)


@_operator
def constexpr_blockwise_shift_scale(data: Any, scale: Any, offset: Any = None) -> Tensor:
    """scale * (data - offset), scale and offset repeated to blocks of the data (iOS 18)."""
    values = _tensor(data).float()

    def spread(value: Tensor) -> Tensor:
        for axis, (size, blocks) in enumerate(zip(values.shape, value.shape, strict=True)):
            value = value.repeat_interleave(size // blocks, dim=axis)
        return value

    shifted = values if offset is None else values - spread(_tensor(offset).float())
    return shifted * spread(_tensor(scale).float())


@_operator
def constexpr_lut_to_dense(indices: Any, lut: Any, shape: Any = None, vector_axis: Any = None) -> Tensor:
    """Weights from a look-up table: bit-packed indices and a flat table (iOS 16), or an index array (iOS 18)."""
    table = _tensor(lut).float()
    if shape is not None:
        sizes = _ints(shape)
        bits = int(table.numel() - 1).bit_length()
        packed = np.unpackbits(_tensor(indices).numpy().astype(np.uint8), bitorder="little")
        count = int(np.prod(sizes))
        index = packed[: count * bits].reshape(count, bits) @ (1 << np.arange(bits))
        return table.reshape(-1)[torch.from_numpy(index.astype(np.int64))].reshape(sizes)
    if vector_axis is not None:
        raise FacekdError("MIL constexpr_lut_to_dense of vectors is not known to the interpreter")
    index = _tensor(indices).long()
    groups = table.shape[: index.ndim]
    if table.shape[-1] != 1:
        raise FacekdError("MIL constexpr_lut_to_dense of vectors is not known to the interpreter")
    for axis, (size, blocks) in enumerate(zip(index.shape, groups, strict=True)):
        table = table.repeat_interleave(size // blocks, dim=axis)
    return table.squeeze(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)


def _elementwise(name: str, function: Callable[..., Tensor], *inputs: str) -> None:
    def apply(**arguments: Any) -> Tensor:
        return function(*(_tensor(arguments[key]) for key in inputs))

    OPERATORS[name] = apply


for _name, _function in {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "real_div": torch.true_divide,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
}.items():
    _elementwise(_name, _function, "x", "y")
for _name, _function in {
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
}.items():
    _elementwise(_name, _function, "x")
