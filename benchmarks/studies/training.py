"""What training costs: loader against step, distillation against plain training, formats and layouts, memory.

    python -m facekd.benchmarks.studies.training celeba-urfm-apt [--set a.b=c ...] [--threads 1] [--repeats 5] [--json]

Everything runs on the recipe's own data, networks and batch size. Alternatives are interleaved, so that a
disturbance of the machine meets all of them, and reported as the median with the lowest and highest value.
"""

import argparse
import copy
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch

from facekd.benchmarks.machine import processor_name
from facekd.common.errors import FacekdError
from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.data.dataset import FaceDataset
from facekd.data.source import Source
from facekd.data.subset import Subset
from facekd.distillation.build import build_task
from facekd.distillation.task import DistillationTask
from facekd.distillation.teachers.apt import AptTeacher
from facekd.distillation.teachers.prompting import PromptedTransformer
from facekd.distillation.teachers.transformer import FrozenTransformer
from facekd.recipe import Recipe, load_recipe
from facekd.training.data import StepBatches
from facekd.training.log import resident_mib
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.precision import Precision, candidates, choose_device, synchronise
from facekd.training.reproducibility import seed_everything
from facekd.training.run import open_recipe_source
from facekd.training.step import TrainStep
from facekd.training.stream import BatchStream


@dataclass(frozen=True)
class Timing:
    """Seconds of one pass over one batch.

    Attributes:
        median_s, lowest_s, highest_s: by the clock, over the repeats.
        median_cpu_s: of processor time, all threads of this process: what other processes take does not count.
    """

    median_s: float
    lowest_s: float
    highest_s: float
    median_cpu_s: float
    repeats: int

    def each(self, count: int) -> "Timing":
        """The same for one of `count` passes that were timed together."""
        return Timing(
            self.median_s / count,
            self.lowest_s / count,
            self.highest_s / count,
            self.median_cpu_s / count,
            self.repeats,
        )


def measure(recipe: Recipe, *, repeats: int = 5, epochs: int = 6) -> dict[str, Any]:
    """All figures of a recipe on this machine.

    Args:
        recipe: its data, networks, batch size and device are what is measured.
        repeats: timed passes of each variant, after one that is not timed.
        epochs: short epochs over which resident memory is followed.
    """
    seed_everything(recipe.seed)
    device = choose_device(recipe.training.device)
    source = open_recipe_source(recipe.data)
    batch = BatchStream(recipe, source).first_batch()
    plain = build_task(undistilled(recipe), source).train()
    distilled = build_task(recipe, source).train() if recipe.distillation else None
    nhwc = recipe.training.channels_last if recipe.training.channels_last != "auto" else False
    usual = Precision(name="fp32", channels_last=bool(nhwc), device=device)

    work = {"loader": _loader(source, recipe), "plain step": whole_step(plain, batch, usual)}
    interval = 1
    if distilled is not None:
        # The prompts learn from every so many batches: one round of them is timed, and a step is its mean.
        interval = distilled.teacher.settings.interval if isinstance(distilled.teacher, AptTeacher) else 1
        work["distillation step"] = whole_step(distilled, batch, usual, steps=interval)
        if isinstance(distilled.teacher, FrozenTransformer):
            work["teacher forward + prompt backward"] = _teacher(distilled, batch, usual)
    options = candidates("auto", "auto", device)
    work |= {option.describe(): whole_step(copy.deepcopy(plain), batch, option) for option in options}
    timings = in_turns(work, repeats)
    if distilled is not None:
        timings["distillation step"] = timings["distillation step"].each(interval)

    images, cores = recipe.training.batch_size, torch.get_num_threads()
    loader_rate = images / timings["loader"].median_s
    step_rate = images / timings["plain step"].median_s
    figures: dict[str, Any] = {
        "recipe": recipe.name,
        "model": recipe.model.name,
        "batch_size": images,
        "threads": cores,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor_name(),
        "versions": {"torch": str(torch.__version__), "numpy": np.__version__, "opencv": cv2.__version__},
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "timings": {name: asdict(timing) for name, timing in timings.items()},
        "loader_images_per_second_per_core": loader_rate,
        "step_images_per_second": step_rate,
        # On the same cores: a loader process uses one core, the step all its threads.
        "loader_over_step": loader_rate * cores / step_rate,
        "loader_over_step_cpu": timings["plain step"].median_cpu_s / timings["loader"].median_cpu_s,
        "resident_mib_by_epoch": memory_over_epochs(recipe, source, plain, usual, epochs),
    }
    if "teacher forward + prompt backward" in timings:
        step, plain_step = timings["distillation step"], timings["plain step"]
        floor = timings["teacher forward + prompt backward"]
        figures["extra_over_teacher"] = (step.median_s - plain_step.median_s) / floor.median_s
        figures["extra_over_teacher_cpu"] = (step.median_cpu_s - plain_step.median_cpu_s) / floor.median_cpu_s
    return figures


def in_turns(work: dict[str, Callable[[], None]], repeats: int) -> dict[str, Timing]:
    """Times each piece of work `repeats` times, one of each in every round, after one untimed round."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, function in work.items():
            start, start_cpu = time.perf_counter(), time.process_time()
            function()
            if turn:
                seconds[name].append((time.perf_counter() - start, time.process_time() - start_cpu))
    timings = {}
    for name, passes in seconds.items():
        clock, cpu = zip(*passes, strict=True)
        timings[name] = Timing(statistics.median(clock), min(clock), max(clock), statistics.median(cpu), repeats)
    return timings


def memory_over_epochs(
    recipe: Recipe, source: Source, task: DistillationTask, precision: Precision, epochs: int, batches: int = 4
) -> list[float | None]:
    """Resident MiB of this process at the end of each epoch of `batches` batches, read by the recipe's loader."""
    size = recipe.training.batch_size
    few = Subset(source, range(min(len(source), batches * size)))
    precision.place(task)
    train_step = TrainStep(task, _optimisers(task), precision, None)
    stream = BatchStream(
        recipe.model_copy(update={"training": recipe.training.model_copy(update={"accumulation": 1})}), few
    )
    steps = stream.steps(0, 0)
    memory = []
    for _ in range(epochs):
        for _ in range(stream.steps_per_epoch):
            train_step.step(next(steps), 0)
        memory.append(resident_mib())
    return memory


def _loader(source: Source, recipe: Recipe) -> Callable[[], None]:
    """Reads, decodes, augments and batches one batch in this process, on one core, as a worker does."""
    dataset = FaceDataset(source, augmentation=recipe.data.augmentation, seed=recipe.seed)
    order = iter(np.random.default_rng(0).permutation(len(source)).tolist() * 1000)

    def read() -> None:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        dataset.__getitems__([(0, next(order)) for _ in range(recipe.training.batch_size)])
        cv2.setNumThreads(threads)

    return read


def whole_step(
    task: DistillationTask, batch: dict[str, Any], precision: Precision, *, steps: int = 1
) -> Callable[[], None]:
    """Whole optimiser steps: forward, backward, clip, update."""
    precision.place(task)
    train_step = TrainStep(task, _optimisers(task), precision, None)

    def step() -> None:
        for number in range(steps):
            train_step.step(StepBatches([batch], 0, 1), number)
        synchronise(precision.device)

    return step


def _teacher(task: DistillationTask, batch: dict[str, Any], precision: Precision) -> Callable[[], None]:
    """What cannot be saved: the teacher's own forward, and the backward through it to its prompts."""
    assert isinstance(task.teacher, FrozenTransformer)
    teacher = task.teacher
    if isinstance(teacher, PromptedTransformer):
        teacher = PromptedTransformer(teacher.teacher, prompts=teacher.count, every=teacher.every)
    takes = task.teacher.input

    def run() -> None:
        with precision.autocast():
            seen = teacher(takes.normalise(precision.images(batch["images"])))
        if isinstance(teacher, PromptedTransformer) and teacher.can_learn:
            assert seen.tokens is not None
            (seen.tokens.float().square().mean() + seen.embedding.float().square().mean()).backward()
            teacher.zero_grad(set_to_none=True)
        synchronise(precision.device)

    return run


def _optimisers(task: DistillationTask) -> Optimisers:
    return Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=1000, warmup=0.5), clip_norm=5.0)


def undistilled(recipe: Recipe) -> Recipe:
    head = recipe.head.model_copy(update={"weight": recipe.head.weight or 1.0, "init": "random"})
    return recipe.model_copy(update={"distillation": [], "teacher": None, "head": head})


def show(figures: dict[str, Any]) -> None:
    """The figures as tables on stdout."""
    images = figures["batch_size"]
    rows = [
        (
            name,
            f"{images / t['median_s']:.1f}",
            *(f"{1000 * t[key]:.0f}" for key in ("median_s", "lowest_s", "highest_s")),
        )
        for name, t in figures["timings"].items()
    ]
    title = (
        f"{figures['recipe']}: {figures['model']}, batch {images}, {figures['threads']} thread(s), {figures['device']}"
    )
    caption = [
        f"loader over plain step, on the same cores: {figures['loader_over_step']:.1f}, "
        f"by CPU time {figures['loader_over_step_cpu']:.1f} (goal: at least 4)"
    ]
    if "extra_over_teacher" in figures:
        caption.append(
            f"distillation's extra over teacher forward + prompt backward: {figures['extra_over_teacher']:.2f}, "
            f"by CPU time {figures['extra_over_teacher_cpu']:.2f} (goal: at most 1)"
        )
    memory = ", ".join("?" if value is None else f"{value:.0f}" for value in figures["resident_mib_by_epoch"])
    caption.append(f"resident MiB after each short epoch: {memory}")
    columns = ("work on one batch", "images/s", "median ms", "lowest ms", "highest ms", "CPU ms")
    Table(columns, rows, title, "\n".join(caption)).print()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the cost of training a recipe on this machine.")
    parser.add_argument("recipe", help="a YAML file or a shipped recipe")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override a field: a.b=c")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; default: torch's choice")
    parser.add_argument("--repeats", type=int, default=5, help="timed passes of each variant")
    parser.add_argument("--epochs", type=int, default=6, help="short epochs over which memory is measured")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        recipe = load_recipe(options.recipe, options.settings)
        figures = measure(recipe, repeats=options.repeats, epochs=options.epochs)
    except FacekdError as error:
        print(f"facekd: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print_json(figures)
    else:
        show(figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
