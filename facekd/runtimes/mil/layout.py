"""MIL operations that move, cut or unpack values, in torch; see mil_operators, whose table they join."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from facekd.common.errors import FacekdError
from facekd.common.validation import shown
from facekd.runtimes.mil.operators import OPERATORS, Tensor, ints, operator, tensor

__all__ = ["OPERATORS"]


@operator
def reshape(x: Tensor, shape: Any, allowzero: bool = False) -> Tensor:
    """A 0 in `shape` keeps that dimension unless `allowzero`."""
    sizes = ints(shape)
    return x.reshape([x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(sizes)])


@operator
def transpose(x: Tensor, perm: Any) -> Tensor:
    return x.permute(ints(perm))


@operator
def expand_dims(x: Tensor, axes: Any) -> Tensor:
    dims = ints(axes)
    final = x.ndim + len(dims)
    for axis in sorted(axis % final for axis in dims):
        x = x.unsqueeze(axis)
    return x


@operator
def squeeze(x: Tensor, axes: Any = None) -> Tensor:
    return x.squeeze() if axes is None else x.squeeze(tuple(ints(axes)))


@operator
def concat(values: list[Tensor], axis: int, interleave: bool = False) -> Tensor:
    if interleave:
        raise FacekdError("MIL concat with interleave is not known to the interpreter")
    return torch.cat(values, int(axis))


@operator
def stack(values: list[Tensor], axis: int) -> Tensor:
    return torch.stack(values, int(axis))


@operator
def split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Any = None) -> tuple[Tensor, ...]:
    if split_sizes is not None:
        output: tuple[Tensor, ...] = x.split(ints(split_sizes), int(axis))
        return output
    return x.chunk(int(num_splits or 1), int(axis))


@operator
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
    n = len(ints(begin))
    steps = ints(stride) if stride is not None else [1] * n
    masks = [ints(mask) if mask is not None else [0] * n for mask in (begin_mask, end_mask, squeeze_mask)]
    index: list[Any] = []
    for axis, (low, high, step) in enumerate(zip(ints(begin), ints(end), steps, strict=True)):
        if masks[2][axis]:
            index.append(low)
        else:
            index.append(slice(None if masks[0][axis] else low, None if masks[1][axis] else high, step))
    return torch.from_numpy(np.ascontiguousarray(x.numpy()[tuple(index)]))


@operator
def slice_by_size(x: Tensor, begin: Any, size: Any) -> Tensor:
    for axis, (low, length) in enumerate(zip(ints(begin), ints(size), strict=True)):
        x = x.narrow(axis, low, x.shape[axis] - low if length == -1 else length)
    return x


@operator
def pad(x: Tensor, pad: Any, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    amounts = ints(pad)
    pairs = [amounts[i : i + 2] for i in range(0, len(amounts), 2)]
    flat = [p for pair in reversed(pairs) for p in pair]
    return F.pad(x, flat, mode=mode, **({"value": float(constant_val)} if mode == "constant" else {}))


@operator
def gather(x: Tensor, indices: Any, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    del validate_indices
    if batch_dims:
        raise FacekdError("MIL gather with batch dimensions is not known to the interpreter")
    index = tensor(indices).long()
    return x.index_select(int(axis), index.reshape(-1)).reshape(
        [*x.shape[: int(axis) % x.ndim], *index.shape, *x.shape[int(axis) % x.ndim + 1 :]]
    )


@operator
def cast(x: Any, dtype: str) -> Any:
    """Rounding to float16 is applied when the result is stored, by its declared type."""
    kinds = {"fp16": torch.float32, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
    if dtype not in kinds:
        raise FacekdError(f"MIL cast to {shown(dtype)} is not known to the interpreter")
    return tensor(x).to(kinds[dtype])


@operator
def select(cond: Any, a: Any, b: Any) -> Tensor:
    return torch.where(tensor(cond).bool(), tensor(a), tensor(b))


@operator
def constexpr_affine_dequantize(quantized_data: Any, zero_point: Any, scale: Any, axis: int) -> Tensor:
    """scale * (data - zero point) along `axis` (iOS 16)."""
    data = tensor(quantized_data).float()
    shape = [1] * data.ndim
    shape[int(axis)] = -1

    def spread(value: Any) -> Tensor:
        value = tensor(value).float()
        output: Tensor = value.reshape(shape) if value.ndim else value
        return output

    return (data - spread(zero_point)) * spread(scale)


@operator
def constexpr_blockwise_shift_scale(data: Any, scale: Any, offset: Any = None) -> Tensor:
    """scale * (data - offset), scale and offset repeated to blocks of the data (iOS 18)."""
    values = tensor(data).float()

    def spread(value: Tensor) -> Tensor:
        for axis, (size, blocks) in enumerate(zip(values.shape, value.shape, strict=True)):
            value = value.repeat_interleave(size // blocks, dim=axis)
        return value

    shifted = values if offset is None else values - spread(tensor(offset).float())
    return shifted * spread(tensor(scale).float())


@operator
def constexpr_lut_to_dense(indices: Any, lut: Any, shape: Any = None, vector_axis: Any = None) -> Tensor:
    """Weights from a look-up table: bit-packed indices and a flat table (iOS 16), or an index array (iOS 18)."""
    table = tensor(lut).float()
    if shape is not None:
        sizes = ints(shape)
        bits = int(table.numel() - 1).bit_length()
        packed = np.unpackbits(tensor(indices).numpy().astype(np.uint8), bitorder="little")
        count = int(np.prod(sizes))
        unpacked = packed[: count * bits].reshape(count, bits) @ (1 << np.arange(bits))
        return table.reshape(-1)[torch.from_numpy(unpacked.astype(np.int64))].reshape(sizes)
    if vector_axis is not None:
        raise FacekdError("MIL constexpr_lut_to_dense of vectors is not known to the interpreter")
    index = tensor(indices).long()
    groups = table.shape[: index.ndim]
    if table.shape[-1] != 1:
        raise FacekdError("MIL constexpr_lut_to_dense of vectors is not known to the interpreter")
    for axis, (size, blocks) in enumerate(zip(index.shape, groups, strict=True)):
        table = table.repeat_interleave(size // blocks, dim=axis)
    return table.squeeze(-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
