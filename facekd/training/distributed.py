"""A run on several ranks: what is wrapped, what is sharded, and what of it reaches a checkpoint."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facekd.distributed import collectives
from facekd.distributed.ranks import is_lost_rank
from facekd.errors import FacekdError, UsageError
from facekd.heads import MarginHead
from facekd.heads.partial_fc import shard
from facekd.training.checkpoint import CheckpointStore
from facekd.training.optimisation import Optimisers
from facekd.training.precision import Name, Precision, unmeasured


def choose_precision(
    name: Name | Literal["auto"], channels_last: bool | Literal["auto"], device: torch.device
) -> Precision:
    """The precision of a run on several ranks; `auto` is not measured, since the ranks might not agree.

    `auto` is bf16 in NHWC on CUDA, float32 in NCHW on a CPU.

    Raises:
        UsageError: fp16, whose loss scale would have to be agreed on; more ranks here than CUDA devices.
    """
    cuda = device.type == "cuda"
    if name == "fp16":
        raise UsageError("training.precision = fp16 is for one process: use bf16 or fp32 with several ranks")
    if cuda and torch.distributed.get_node_local_rank() >= torch.cuda.device_count():
        raise UsageError(
            f"{torch.cuda.device_count()} CUDA devices here: start no more than that with --nproc-per-node, "
            "or set training.device=cpu"
        )
    return unmeasured(name, channels_last, device)


def seed_of(seed: int, step: int) -> int:
    """A seed for this rank from `step` on: dropout must not repeat from rank to rank. One process: `seed` itself."""
    if collectives.world() == 1 and step == 0:
        return seed
    return int(np.random.SeedSequence([seed, step, collectives.rank()]).generate_state(1)[0])


def shard_head(task: nn.Module) -> MarginHead | None:
    """Leaves each rank its part of the class centres; the head if that was done.

    A head that a term reads (`needs_student_classifier`) stays whole on every rank, like the student.
    """
    head = getattr(task, "head", None)
    read = any(getattr(term, "needs_student_classifier", False) for term in getattr(task, "terms", {}).values())
    if head is None or read or collectives.world() == 1:
        return None
    shard(head, collectives.rank(), collectives.world())
    return cast(MarginHead, head)


def wrap(task: nn.Module, head: MarginHead | None) -> nn.Module:
    """DistributedDataParallel over what is trained; the frozen teacher and a sharded head's centres are left alone."""
    if collectives.world() == 1:
        return task
    frozen = [name for name, parameter in task.named_parameters() if not parameter.requires_grad]
    frozen += [
        f"{path}.{name}"
        for path, module in task.named_modules()
        if not module.training
        for name, _ in module.named_buffers(recurse=False)
    ]
    sharded = [name for name, one in task.named_parameters() if head is not None and one is head.centres]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(task, [*frozen, *sharded])
    # Prompts that do not learn in every step get no gradient in the others.
    seldom = getattr(getattr(task, "apt", None), "interval", 1) > 1
    return DistributedDataParallel(task, find_unused_parameters=seldom)


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Context of a backward whose gradients are not exchanged yet, since more of the same step follow."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


class Shards:
    """The class centres in checkpoints: whole on disk, so that any number of ranks resumes from it.

    Rank 0 receives the other ranks' rows, one rank after the other, in its own memory, and writes them as one process
    would. Reading takes the own rows out of a memory-mapped file.

    Args:
        head: the sharded head, None where nothing is.
        optimisers: which hold state of the centres.
    """

    def __init__(self, head: MarginHead | None, optimisers: Optimisers) -> None:
        self.head = head
        self._optimisers = optimisers

    def whole(self, task: dict[str, Any], optimisers: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two states with all rows; on ranks above 0 they are of no use."""
        return self._mapped(task, optimisers, self._gather)

    def mine(self, task: dict[str, Any], optimisers: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The two states with this rank's rows alone."""
        if self.head is None or self.head.owned is None:
            return task, optimisers
        first, last = self.head.owned
        return self._mapped(task, optimisers, lambda rows: rows[first:last].clone())

    def make_whole(self) -> None:
        """Gives this process's head room for all centres again; their values come from a checkpoint."""
        if self.head is not None:
            shape = (self.head.num_identities, self.head.embedding_width)
            centres = self.head.centres
            self.head.centres = nn.Parameter(centres.new_zeros(shape), requires_grad=centres.requires_grad)
            self.head.owned = None

    def _mapped(self, task: dict[str, Any], optimisers: dict[str, Any], change: Any) -> tuple[Any, Any]:
        if self.head is None:
            return task, optimisers
        task = {**task, "head.centres": change(task["head.centres"])}
        changed = {}
        for kind, state in optimisers.items():
            parameters = [one for group in self._optimisers.torch[kind].param_groups for one in group["params"]]
            places = [place for place, one in enumerate(parameters) if one is self.head.centres]
            entries = dict(state["state"])
            for place in places:
                rows = entries.get(place, {})  # empty before the first step
                entries[place] = {
                    name: change(value) if isinstance(value, torch.Tensor) and value.ndim == 2 else value
                    for name, value in rows.items()
                }
            changed[kind] = {**state, "state": entries}
        return task, changed

    def _gather(self, rows: torch.Tensor) -> torch.Tensor:
        """[n of this rank, e] -> [n, e] on rank 0, on the CPU; nothing new elsewhere."""
        assert self.head is not None
        rows = rows.detach().cpu().contiguous()
        bounds = collectives.gather_numbers(*cast(tuple[int, int], self.head.owned))
        if collectives.rank() > 0:
            dist.send(rows, dst=0)
            return rows
        everyone = rows.new_empty(self.head.num_identities, rows.shape[1])
        everyone[: len(rows)] = rows
        for source, (first, last) in enumerate(bounds[1:], start=1):
            dist.recv(everyone[first:last], src=source)
        return everyone


@contextmanager
def lost_ranks_explained(out: Path, resume_command: str) -> Iterator[None]:
    """One line for people instead of a collective's error when another process of the run is gone."""
    try:
        yield
    except RuntimeError as error:
        if collectives.world() == 1 or not is_lost_rank(error):
            raise
        steps = [file.step for file in CheckpointStore(out / "checkpoints").list()]
        kept = f"the checkpoint of step {max(steps)} is intact" if steps else "there is no checkpoint yet"
        raise FacekdError(
            f"another process of this run ended, and without it rank {collectives.rank()} cannot go on; {kept}. "
            f"torchrun --max-restarts goes on by itself; by hand: {resume_command}"
        ) from error
