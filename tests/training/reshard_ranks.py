"""Keeps the centres of one head on 2 ranks, reads them on 1 to 4, and fills the disk of one rank.

    python reshard_ranks.py OUT

The ranks are forks of this interpreter. In OUT: `checkpoints`; `read-RANKS-RANK.pt`, what each rank of so many read;
`said-RANK.txt`, what each of two ranks said when rank 1 might not write files of more than 100 kB.
"""

import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import forked_ranks
import torch

from facekd.common.errors import FacekdError
from facekd.distillation.parameter_group import ParameterGroup
from facekd.distributed import collectives
from facekd.heads import ArcFace
from facekd.heads.partial_fc import shard
from facekd.training.checkpoint import CheckpointStore
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.shards import Shards, State

IDENTITIES, WIDTH = 1_999, 64  # no number of ranks divides them


def values() -> dict[str, torch.Tensor]:
    """Centres and their momentum, the same in every process."""
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(IDENTITIES, WIDTH, generator=generator) for name in ("centres", "momentum")}


def made() -> tuple[Shards, State, State]:
    """A head as the loop shards it, and the two states of its rank."""
    head = ArcFace(embedding_width=WIDTH, num_identities=IDENTITIES)
    head.centres.data.copy_(values()["centres"])
    first, last = 0, IDENTITIES
    if collectives.world() > 1:
        shard(head, collectives.rank(), collectives.world())
        first, last = head.owned or (first, last)
    group = ParameterGroup("head", [head.centres], "sgd", 0.1, 0.0, 0.9)
    optimisers = Optimisers([group], schedule=Schedule(total_steps=1), clip_norm=None, sharded=[head.centres])
    optimisers.torch["sgd"].state[head.centres]["momentum_buffer"] = values()["momentum"][first:last].clone()
    return Shards(head, optimisers), {"head.centres": head.centres.detach()}, optimisers.state_dict()


def save(store: CheckpointStore, step: int) -> None:
    """As the loop saves."""
    shards, task, optimisers = made()
    task, optimisers, rows = shards.split(task, optimisers)
    ranks = shards.write(rows, store, step)
    if collectives.rank() == 0:
        store.save({"task": task, "optimisers": optimisers}, step=step, ranks=ranks)


def read(out: Path) -> None:
    """As the loop resumes."""
    (file,) = CheckpointStore(out / "checkpoints").list()
    state = CheckpointStore(out / "checkpoints").load(file)
    task, optimisers = made()[0].join(state["task"], state["optimisers"], file.folder)
    found = {"centres": task["head.centres"], "momentum": optimisers["sgd"]["state"][0]["momentum_buffer"]}
    torch.save(found, out / f"read-{collectives.world()}-{collectives.rank()}.pt")


def fail(out: Path) -> None:
    """A second checkpoint for which rank 1 has no room."""
    if collectives.rank() == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        save(CheckpointStore(out / "checkpoints"), 2)
    except FacekdError as error:
        (out / f"said-{collectives.rank()}.txt").write_text(str(error), encoding="utf-8")


def main() -> int:
    out = Path(sys.argv[1])
    status = forked_ranks.run(lambda: save(CheckpointStore(out / "checkpoints"), 1), 2)
    for ranks in (1, 2, 3, 4):
        status += forked_ranks.run(lambda: read(out), ranks)
    return any(status + forked_ranks.run(lambda: fail(out), 2))


if __name__ == "__main__":
    sys.exit(main())
