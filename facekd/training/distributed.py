"""A run on several ranks: what is wrapped, what is sharded, and what is said when one is lost."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from facekd.common.errors import FacekdError, UsageError
from facekd.distributed import collectives
from facekd.distributed.ranks import is_lost_rank
from facekd.heads import MarginHead
from facekd.heads.partial_fc import shard
from facekd.training.checkpoint import CheckpointStore
from facekd.training.precision import Name, Precision, unmeasured
from facekd.training.task import TrainingTask, as_module


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


def shard_head(task: TrainingTask) -> MarginHead | None:
    """Leaves each rank its part of the class centres; the head if that was done.

    Where the task needs them whole (`head_may_be_sharded`), they stay so on every rank, like the student.
    """
    if task.head is None or not task.head_may_be_sharded or collectives.world() == 1:
        return None
    shard(task.head, collectives.rank(), collectives.world())
    return task.head


def wrap(task: TrainingTask, head: MarginHead | None) -> nn.Module:
    """DistributedDataParallel over what is trained; what is frozen and a sharded head's centres are left alone."""
    module = as_module(task)
    if collectives.world() == 1:
        return module
    frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    frozen += [
        f"{path}.{name}"
        for path, part in module.named_modules()
        if not part.training
        for name, _ in part.named_buffers(recurse=False)
    ]
    sharded = [name for name, one in module.named_parameters() if head is not None and one is head.centres]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, [*frozen, *sharded])
    return DistributedDataParallel(module, find_unused_parameters=task.rests)


def without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Context of a backward whose gradients are not exchanged yet, since more of the same step follow."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


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
