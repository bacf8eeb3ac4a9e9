"""What a plan says of memory beside what two training steps really allocate; as a script, on two ranks.

python planned_memory.py RECIPE IDENTITIES    ->  "planned measured" in bytes, a line a rank
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.distributed import collectives
from facekd.planning.measured import measure_network
from facekd.planning.plan import memory_of
from facekd.recipe import Recipe, load_recipe
from facekd.training.data import StepBatches
from facekd.training.distributed import shard_head, wrap
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.precision import Precision
from facekd.training.step import TrainStep


def planned_and_measured(recipe: Recipe, identities: int) -> tuple[int, int]:
    """Bytes of this rank: of tensors, when most of them are there. The recipe's batch is of all ranks."""
    ranks, rate, accumulation = collectives.world(), recipe.head.sample_rate, recipe.training.accumulation
    batch = recipe.training.batch_size // ranks
    network = measure_network(recipe)
    planned = memory_of(recipe, network, gpus=ranks, identities=identities, batch=batch, sample_rate=rate)

    task = build_task(recipe, SyntheticSource(identities=identities, images=1))
    task.train()
    head = shard_head(task)
    precision = Precision(name="fp32", channels_last=False, device=torch.device("cpu"))
    batches = [
        {
            "images": torch.randint(0, 256, (batch, 3, 112, 112), dtype=torch.uint8),
            "labels": torch.randint(0, identities, (batch,)),
            "keys": [""] * batch,
        }
        for _ in range(accumulation)
    ]

    def train() -> None:
        sharded = [] if head is None else [head.centres]
        groups, schedule = task.parameter_groups(), Schedule(total_steps=9)
        optimisers = Optimisers(groups, schedule=schedule, clip_norm=5.0, sharded=sharded)
        train_step = TrainStep(task, optimisers, precision, None, wrap(task, head))
        for step in (0, 1):  # from the second on the momenta are there
            train_step.step(StepBatches(batches, 0, accumulation, elsewhere=batch * accumulation * (ranks - 1)), step)

    held = sum(one.nbytes for one in [*task.parameters(), *task.buffers()])
    return planned.total, held + peak_bytes(train)


def peak_bytes(work: Callable[[], object]) -> int:
    """Bytes that CPU tensors made in `work()` take at its fullest moment, by torch's profiler."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == "[memory]")
    held = highest = 0
    for _, change in changes:
        held += change
        highest = max(highest, held)
    return highest


if __name__ == "__main__":
    import forked_ranks

    sys.path.insert(0, str(Path(__file__).parent / "training"))
    identities, recipes = int(sys.argv[1]), [load_recipe(name) for name in sys.argv[2:]]

    def print_both() -> None:
        for recipe in recipes:
            planned, measured = planned_and_measured(recipe, identities)
            sys.stdout.write(f"{planned} {measured}\n")  # in one piece, since the other rank writes too
            sys.stdout.flush()

    sys.exit(max(forked_ranks.run(print_both, 2)))
