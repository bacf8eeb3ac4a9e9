"""How hard each method of a grid pulls at the student: the weights at which rivals can be compared.

    python -m facekd.benchmarks.studies.term_gradients GRID [--reference METHOD] [--steps 40] [--set a.b=c] [--json]

A term's weight means nothing by itself: losses differ in scale by orders of magnitude. Here the student learns by the
reference method for some steps; then, from that same state, each part of each method's loss is differentiated by the
student's parameters. `equal weight` is the weight at which a part alone pulls as hard as the reference's terms do with
the weights that the grid gives them; of a method of several parts, `factor` scales its weights to that together.

A term's own layers (URFM, adapters, exits) and prompts learn for `--settle` steps before, the student held still.
"""

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.printing import print_json
from facekd.common.table import Table
from facekd.distillation.build import build_task
from facekd.distillation.losses.base import DistillationLoss
from facekd.distillation.task import DistillationTask
from facekd.recipe import Recipe
from facekd.sweep.grid import SweepCell, grid_cells, load_grid
from facekd.training.data import StepBatches
from facekd.training.optimisation import Optimisers, Schedule
from facekd.training.precision import Precision, choose_device
from facekd.training.reproducibility import seed_everything
from facekd.training.run import open_recipe_source
from facekd.training.step import TrainStep
from facekd.training.stream import BatchStream

_IDENTITY = "identity"
_TOGETHER = "all its terms"


@dataclass(frozen=True)
class Pull:
    """What one part of a method's loss does to the student, means over the batches.

    Attributes:
        method: its name in the grid.
        part: `term.part`, the student's own margin softmax (identity), or all terms together with the grid's weights.
        weight: in the grid; None for all together.
        loss: at weight 1.
        gradient: L2 norm over all of the student's parameters, at weight 1.
        equal_weight: the weight, or for all together the factor on the weights, that gives the reference's norm.
    """

    method: str
    part: str
    weight: float | None
    loss: float
    gradient: float
    equal_weight: float | None


def measure(
    cells: Sequence[SweepCell], reference: str, *, steps: int, settle: int, batches: int, say: Any = print
) -> list[Pull]:
    """The pulls of every method.

    Args:
        cells: one of each method, of one student and seed.
        reference: the method that the student learns by, and that sets the scale.
        steps: of the reference's run, from its first.
        settle: steps of what a method trains besides the student.
        batches: to measure on; they follow those that the reference learned from.
        say: takes a line of progress.

    Raises:
        UsageError: no method is called `reference`, or it has no term.
    """
    by_method = {cell.method: cell.recipe for cell in cells}
    if reference not in by_method or not by_method[reference].distillation:
        distilling = ", ".join(name for name, recipe in by_method.items() if recipe.distillation)
        raise UsageError(f"--reference {reference}: give a method with a term: {distilling}")
    trained = _Method(by_method[reference])
    say(f"{reference}: {steps} steps")
    trained.learn(trained.task.parameter_groups(), trained.steps(0), steps)

    found: dict[str, dict[str, tuple[float, float, float | None]]] = {}
    for name, recipe in by_method.items():
        if not recipe.distillation and recipe.head.weight == 0:
            continue
        say(f"{name} ...")
        method = trained if name == reference else _Method(recipe)
        if method is not trained:
            method.start_from(trained.task)
        data = method.steps(steps)
        method.settle(data, settle)
        found[name] = method.pulls([next(data) for _ in range(batches)])
    scale = found[reference][_TOGETHER][1]
    return [
        Pull(name, part, weight, loss, gradient, scale / gradient if gradient else None)
        for name, parts in found.items()
        for part, (loss, gradient, weight) in parts.items()
        # Of a single term, all together say nothing more.
        if part != _TOGETHER or len(parts.keys() - {_IDENTITY, _TOGETHER}) > 1
    ]


class _Method:
    """A method's task on its data, from the state of another's student."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe.model_copy(deep=True)
        self.recipe.data.workers = 0
        source = open_recipe_source(self.recipe.data)
        seed_everything(self.recipe.seed)
        self.task: DistillationTask = build_task(self.recipe, source)
        self.stream = BatchStream(self.recipe, source)
        nhwc = self.recipe.training.channels_last is True
        device = choose_device(self.recipe.training.device)
        self.precision = Precision(name="fp32", channels_last=nhwc, device=device)
        self.precision.place(self.task)
        self.task.train()

    def steps(self, step: int) -> Iterator[StepBatches]:
        """The data from optimiser step `step` on."""
        epoch, place = divmod(step, self.stream.steps_per_epoch)
        return self.stream.steps(epoch, place * self.stream.accumulation)

    def start_from(self, other: DistillationTask) -> None:
        """Takes the other task's student, and its class centres where both train their own."""
        self.task.student.load_state_dict(other.student.state_dict())
        own, theirs = self.task.head, other.head
        if own is not None and theirs is not None and self.recipe.head.init == "random":
            own.load_state_dict(theirs.state_dict())

    def learn(self, groups: Any, data: Iterator[StepBatches], steps: int) -> None:
        """So many optimiser steps of the recipe's own schedule."""
        settings = self.recipe.optimisation
        schedule = Schedule(total_steps=self.stream.total_steps(), warmup=settings.warmup, kind=settings.schedule)
        train_step = TrainStep(
            self.task, Optimisers(groups, schedule=schedule, clip_norm=settings.clip_norm), self.precision, None
        )
        for step in range(steps):
            train_step.step(next(data), step)

    def settle(self, data: Iterator[StepBatches], steps: int) -> None:
        """Lets the terms' own layers and the prompts learn while the student and its centres stay."""
        auxiliary = [group for group in self.task.parameter_groups() if group.name in ("terms", "prompts")]
        if not auxiliary:
            return
        self.task.student.requires_grad_(False)
        self.learn(auxiliary, data, steps)
        self.task.student.requires_grad_(True)

    def pulls(self, steps: Sequence[StepBatches]) -> dict[str, tuple[float, float, float | None]]:
        """(loss, gradient, weight) of each part, and of all terms together with their weights."""
        parameters = [parameter for parameter in self.task.student.parameters() if parameter.requires_grad]
        weights: dict[str, float] = {}
        parts: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Any:
            def hook(module: nn.Module, _: Any, output: dict[str, torch.Tensor]) -> None:
                parts.update({f"{name}.{part}": value for part, value in output.items()})
                weights.update({f"{name}.{part}": cast(DistillationLoss, module).weights[part] for part in output})

            return hook

        hooks = [module.register_forward_hook(keep(name)) for name, module in self.task.terms.items()]
        measured: dict[str, list[tuple[float, float]]] = {}
        for step_batches in steps:
            batch = step_batches.batches[0]
            out = self.task(self.precision.images(batch["images"]), batch["labels"].to(self.precision.device))
            together = torch.zeros((), device=self.precision.device)
            for name, value in parts.items():
                together = together + weights[name] * value.float()
            # What the terms do not make up is the student's own margin softmax; the teacher's loss has no pull at it.
            every = {**parts, **({_TOGETHER: together} if parts else {})}
            if self.task.head is not None:
                every[_IDENTITY] = (out.loss - together) / self.task.head_weight
            for name, value in every.items():
                gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
                norm = torch.nn.utils.get_total_norm([one for one in gradients if one is not None])
                told = out.parts.get(name, value)
                measured.setdefault(name, []).append((float(told.detach()), float(norm)))
        for hook in hooks:
            hook.remove()
        given = {**weights, _IDENTITY: self.task.head_weight}
        return {
            name: (
                statistics.fmean(loss for loss, _ in pairs),
                statistics.fmean(norm for _, norm in pairs),
                given.get(name),
            )
            for name, pairs in measured.items()
        }


def show(pulls: Sequence[Pull], title: str) -> None:
    """The table on stdout."""
    columns = ("method", "part", "weight", "loss", "gradient", "with weight", "equal weight")
    rows = []
    previous = ""
    for one in pulls:
        weighted = one.gradient * (1 if one.weight is None else one.weight)
        equal = None if one.equal_weight is None else f"{one.equal_weight:.2g}"
        weight = "" if one.weight is None else f"{one.weight:g}"
        method = one.method if one.method != previous else ""
        rows.append((method, one.part, weight, f"{one.loss:.3g}", f"{one.gradient:.3g}", f"{weighted:.3g}", equal))
        previous = one.method
    Table(columns, rows, title, f"of '{_TOGETHER}', equal weight is a factor on all weights").print()


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the gradient norm of each method of a grid at the student.")
    parser.add_argument("grid", help="a YAML file or a shipped grid")
    parser.add_argument("--teacher", help="teacher bundle or model file; overrides the grid")
    parser.add_argument("--reference", default="embedding-cosine", help="the method that sets the scale")
    parser.add_argument("--methods", help="only these methods, comma-separated; the reference is always included")
    parser.add_argument(
        "--steps", type=int, default=40, help="steps that the student is trained with the reference method first"
    )
    parser.add_argument("--settle", type=int, default=20, help="steps to train a method's own layers before measuring")
    parser.add_argument("--batches", type=int, default=4, help="number of batches to measure")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override a field: a.b=c")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    try:
        grid, path = load_grid(options.grid)
        teacher = options.teacher or grid.teacher
        if not isinstance(teacher, str):
            raise UsageError(f"grid {grid.name} trains its teacher: give the finished one with --teacher")
        cells, _ = grid_cells(grid, beside=path.parent, teacher=teacher, overrides=options.settings)
        wanted = {*options.methods.split(","), options.reference} if options.methods else set(grid.methods)
        if unknown := wanted - set(grid.methods):
            raise UsageError(f"no method {min(unknown)!r} in the grid: {', '.join(grid.methods)}")
        first = [cell for cell in cells if (cell.seed, cell.student) == (cells[0].seed, cells[0].student)]
        pulls = measure(
            [cell for cell in first if cell.method in wanted],
            options.reference,
            steps=options.steps,
            settle=options.settle,
            batches=options.batches,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    except FacekdError as error:
        print(f"facekd: {error}", file=sys.stderr)
        return error.exit_code
    if options.json:
        print_json({"grid": grid.name, "reference": options.reference, "pulls": [asdict(one) for one in pulls]})
    else:
        title = f"{grid.name}, {cells[0].student}, after {options.steps} steps of {options.reference}"
        show(pulls, title)
    return 0


if __name__ == "__main__":
    sys.exit(main())
