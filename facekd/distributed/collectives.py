"""What ranks exchange inside a step. With one process every function here is free and does nothing.

Small numbers travel as CPU tensors (gloo), so that a CUDA rank does not wait for its queue to agree on a count.
"""

from typing import Any

import torch
from torch import distributed as dist


def world() -> int:
    """Processes of the run; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process among them; 0 without a process group."""
    return dist.get_rank() if world() > 1 else 0


def gather_numbers(*numbers: int) -> list[list[int]]:
    """The same count of integers from every rank, by rank."""
    if world() == 1:
        return [list(numbers)]
    mine = torch.tensor(numbers, dtype=torch.int64)
    everyone = [torch.empty_like(mine) for _ in range(world())]
    dist.all_gather(everyone, mine)
    return [one.tolist() for one in everyone]


def gather_objects(value: Any) -> list[Any]:
    """Any picklable value from every rank, by rank. The ranks are copies of one program, so pickle is safe here."""
    if world() == 1:
        return [value]
    everyone: list[Any] = [None] * world()
    dist.all_gather_object(everyone, value)
    return everyone


def mean_by_name(values: dict[str, float]) -> dict[str, float]:
    """The mean over the ranks of each value; the names are the same on all."""
    if world() == 1:
        return values
    numbers = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(numbers)
    return dict(zip(values, (numbers / world()).tolist(), strict=True))


def anywhere(flag: bool) -> bool:
    """Whether any rank's flag is set."""
    return any(one for (one,) in gather_numbers(int(flag)))


def from_first(value: Any) -> Any:
    """Rank 0's value, on every rank; what the others give is not looked at."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def sum_(tensor: torch.Tensor) -> torch.Tensor:
    """Adds a tensor up over the ranks, in place."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def max_(tensor: torch.Tensor) -> torch.Tensor:
    """The elementwise maximum over the ranks, in place."""
    if world() > 1:
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return tensor


def concatenate(rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    """Every rank's rows [b_r, ...] in the order of the ranks, [sum of b_r, ...]; the gradient reaches their owner.

    Args:
        rows: this rank's.
        sizes: b_r of every rank.
    """
    return rows if world() == 1 else _Concatenate.apply(rows, sizes)


class _Concatenate(torch.autograd.Function):
    """All-gather; its transpose adds the gradients of every rank and keeps the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        ctx.sizes = sizes
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        everyone = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(everyone, padded)
        return torch.cat([one[:size] for one, size in zip(everyone, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        summed = sum_(gradients[0].contiguous())
        return summed.split(ctx.sizes)[rank()], None
