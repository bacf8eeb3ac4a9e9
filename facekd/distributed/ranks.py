"""The process group of a run that torchrun started: begun, ended, and what happens when a process is lost."""

import gc
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist

from facekd.common.errors import FacekdError

_TIMEOUT = timedelta(hours=1)  # rank 0 evaluates while the others wait; a rank that died is noticed without it


def launched() -> bool:
    """Whether this process is one of several that torchrun (or whoever sets the same variables) started."""
    wanted = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and all(name in os.environ for name in wanted)


def restarted() -> bool:
    """Whether torchrun has started this run again after a failure (`--max-restarts`)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def process_group() -> Iterator[None]:
    """The ranks' connection, by gloo for CPU tensors and NCCL for CUDA ones; nothing at all in a single process.

    An error leaves the block on one rank alone, the first that meets one: the others end without a word, so that people
    read it once.
    """
    if not launched():
        yield
        return
    # Imported later, as DDP does it, this module would keep the group forever: in the defaults of its functions.
    importlib.import_module("torch.distributed.nn.functional")
    cuda = torch.cuda.is_available()
    local = int(os.environ["LOCAL_RANK"])
    if cuda and local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    store, rank, world = next(dist.rendezvous("env://", timeout=_TIMEOUT))
    # A restarted run must not read the keys of the attempt before.
    store = dist.PrefixStore(f"facekd/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_TIMEOUT)
    try:
        yield
    except Exception as error:
        if not _first_to_speak(store):
            raise SystemExit(error.exit_code if isinstance(error, FacekdError) else 1) from error
        raise
    # The group's threads must end while the interpreter lives: one that lets go of a tensor later aborts the process.
    gc.collect()  # whatever still holds the group in a cycle, such as DDP
    dist.destroy_process_group()


def _first_to_speak(store: dist.Store) -> bool:
    try:
        return store.add("spoken", 1) == 1
    except RuntimeError:  # the store went with its process: nobody else can be asked
        return True


def is_lost_rank(error: BaseException) -> bool:
    """Whether an error of a collective says that another process is gone."""
    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "Connection", "NCCL"))
    )
