"""Running a grid: finished cells are never run again, an unfinished one goes on from its newest checkpoint.

    DIR/grid.json                              the grid it belongs to
    DIR/teacher.json ...                       see facekd.sweep.teachers
    DIR/cells/METHOD/STUDENT/seed-N/           a run's folder as `facekd train` makes it
                                   plan.json   with a budget of minutes: the steps that were measured to fit
                                   cell.json   written last: this cell is finished
    DIR/compare.md, compare.csv, compare.png   what the finished cells say, written after each

Every one of these files is written under another name and renamed: whatever moment the process dies at, what is there
is whole. Of a finished cell cell.json alone is ever read again: its weights, log and checkpoints may go. Several
processes may work in one folder, each on cells of its own (DIR/.locks).
"""

import gc
import json
import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import shown
from facekd.common.writing import WriteError
from facekd.data.source import Source
from facekd.distillation.build import build_task
from facekd.distillation.teacher_cache import without_cache
from facekd.recipe import Recipe
from facekd.sweep.cell_files import check_finished, lock, read_json, write_json
from facekd.sweep.figures import CellFigures
from facekd.sweep.grid import Grid, SweepCell
from facekd.sweep.reuse import find_same_run, require_sweeps, teacher_hashes
from facekd.training import resumption
from facekd.training.interruption import Interrupted
from facekd.training.log import Reporter, clock
from facekd.training.run import open_recipe_source, run_recipe

_PACE_STEPS = 12


@dataclass
class Failure:
    """A cell that failed, and why."""

    cell: SweepCell
    reason: str


class GridRunner:
    """Runs the cells of a grid in one folder.

    Args:
        grid: what to compare.
        out: the sweep's folder: empty, or an earlier run of this grid.
        reporter: where progress goes.
        resume_command: what to tell somebody who interrupts.
        reuse: other sweeps, of which cells that are the same run are taken.

    Raises:
        UsageError: `out` holds something else, a folder of `reuse` no sweep, or there is `reuse` with a budget of
            minutes.
    """

    def __init__(
        self, grid: Grid, *, out: Path, reporter: Reporter, resume_command: str, reuse: Sequence[Path] = ()
    ) -> None:
        self.grid, self.out, self.reporter = grid, out, reporter
        self._resume_command = resume_command
        self._others = reuse
        require_sweeps(reuse)
        if reuse and grid.budget.minutes is not None:
            raise UsageError(f"--reuse: grid {grid.name} has a budget of minutes: its cells are runs of their own")
        self._sources: dict[str, Source] = {}
        mark = out / "grid.json"
        content = {"name": grid.name, "grid": grid.model_dump(mode="json")}
        if mark.is_file():
            known = read_json(mark)
            if known["name"] != grid.name:
                raise UsageError(f"--out {out} is of the grid {shown(known['name'])}: give a folder of its own")
            if known == content:
                return
        elif foreign := sorted(path.name for path in out.iterdir() if not path.name.startswith(".")):
            raise UsageError(f"--out {out} holds {shown(foreign[0])} and no sweep: give a new folder")
        write_json(mark, content)

    def check(self, cells: list[SweepCell]) -> None:
        """Builds each method on each student once: a mistake in the last shows now, not hours later."""
        seen = set()
        for cell in cells:
            if (cell.method, cell.student) not in seen and self.finished(cell) is None:
                seen.add((cell.method, cell.student))
                try:
                    build_task(without_cache(cell.recipe), self.source(cell.recipe))
                except UsageError as error:
                    raise UsageError(f"grid {self.grid.name}, {cell.method} on {cell.student}: {error}") from error

    def finished(self, cell: SweepCell) -> CellFigures | None:
        """A finished cell's figures, None if it is not finished.

        Raises:
            UsageError: it was run with another recipe or other data.
        """
        done = self.out / cell.place / "cell.json"
        if not done.is_file():
            return None
        recipe = self._planned(cell)
        check_finished(done, recipe, self.source(recipe))
        return CellFigures(**read_json(done)["figures"])

    def run(self, cells: list[SweepCell]) -> Iterator[Failure | None]:
        """Runs what is not finished and no other process is at, in order, and yields as each ends.

        A cell that fails is yielded as such and the next one begins; running the grid again tries it again.

        Raises:
            Interrupted: stopped by a signal; the cell at hand has saved its state.
            UsageError: what a cell names is not there any more.
            WriteError: the folder takes no more; no other cell would fare better.
        """
        waiting = [cell for cell in cells if self.finished(cell) is None]
        spent: list[float] = []
        for number, cell in enumerate(waiting):
            with lock(self.out / ".locks" / cell.place) as mine:
                if not mine:
                    self.reporter.say(f"{cell}: another process is at it")
                    continue
                if self.finished(cell) is not None:  # by another process, meanwhile
                    continue
                left = f", about {clock(sum(spent) / len(spent) * (len(waiting) - number))} left" if spent else ""
                self.reporter.say(f"cell {len(cells) - len(waiting) + number + 1} of {len(cells)}: {cell}{left}")
                began = datetime.now(UTC)
                failure, taken = None, False
                try:
                    taken = self._take(cell)
                    if not taken:
                        self._run(cell)
                except (UsageError, Interrupted, WriteError):
                    raise
                except FacekdError as error:
                    self.reporter.warn(f"{cell} failed: {error}")
                    failure = Failure(cell, str(error))
            yield failure
            if not taken:  # the time left is that of cells which are run
                spent.append((datetime.now(UTC) - began).total_seconds())
            gc.collect()  # a task is full of reference cycles; the next one needs the memory

    def _take(self, cell: SweepCell) -> bool:
        """Whether another sweep had this cell's figures; they are this one's then, under its names."""
        source = self.source(cell.recipe)
        found = find_same_run(self._others, cell.recipe, source, teacher_hashes(self.out)) if self._others else None
        if found is None:
            return False
        self.reporter.say(f"taken from {found.parent}")
        content = read_json(found)
        recipe_hash = cell.recipe.hash()
        content["figures"] |= {"method": cell.method, "student": cell.student, "recipe_hash": recipe_hash}
        content["identity"] |= {"recipe": cell.recipe.model_dump(mode="json"), "recipe_hash": recipe_hash}
        (self.out / cell.place).mkdir(parents=True, exist_ok=True)
        write_json(self.out / cell.place / "cell.json", content)
        return True

    def _run(self, cell: SweepCell) -> None:
        folder = self.out / cell.place
        recipe = self._plan(cell)
        result = run_recipe(
            recipe, out=folder, resume=True, reporter=self.reporter, resume_command=self._resume_command
        )
        told = json.loads(result.path.read_text(encoding="utf-8"))
        figures = CellFigures(
            method=cell.method,
            student=cell.student,
            seed=cell.seed,
            accuracy={name: one.accuracy for name, one in result.report.items()},
            auc={name: one.auc for name, one in result.report.items()},
            tar_at_far={name: one.to_dict()["tar_at_far"] for name, one in result.report.items()},
            steps=result.step,
            images=told["images"],
            ms_per_image=1000 * told["seconds"] / told["images"],
            recipe_hash=recipe.hash(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(told["device"], told["precision"]),
        )
        identity = resumption.identity(recipe, self.source(recipe))
        write_json(folder / "cell.json", {"figures": figures.to_dict(), "identity": identity})

    def _plan(self, cell: SweepCell) -> Recipe:
        """The cell's recipe; with a budget of minutes, its steps are measured here, once."""
        minutes = self.grid.budget.minutes
        folder = self.out / cell.place
        if minutes is None or (folder / "plan.json").is_file():
            return self._planned(cell)
        folder.mkdir(parents=True, exist_ok=True)
        pace_folder = folder / "pace"
        shutil.rmtree(pace_folder, ignore_errors=True)  # a killed measurement
        recipe = cell.recipe.model_copy(deep=True)
        recipe.training.max_steps = _PACE_STEPS
        recipe.evaluation.dev, recipe.evaluation.report = None, []
        self.reporter.say(f"measuring the pace of {cell} over {_PACE_STEPS} steps")
        pace = run_recipe(recipe, out=pace_folder, reporter=Reporter(quiet=True)).images_per_second
        shutil.rmtree(pace_folder)
        images_a_step = recipe.training.batch_size * recipe.training.accumulation
        steps = max(1, round(60 * minutes * pace / images_a_step))
        write_json(folder / "plan.json", {"images_per_second": pace, "steps": steps})
        self.reporter.say(f"{pace:.1f} images/s: {minutes:g} minutes are {steps} steps")
        return self._planned(cell)

    def _planned(self, cell: SweepCell) -> Recipe:
        """The cell's recipe with the steps that its plan gives, if it has one."""
        plan = self.out / cell.place / "plan.json"
        if self.grid.budget.minutes is None or not plan.is_file():
            return cell.recipe
        recipe = cell.recipe.model_copy(deep=True)
        recipe.training.max_steps = read_json(plan)["steps"]
        return recipe

    def source(self, recipe: Recipe) -> Source:
        """The training faces of a recipe, opened once."""
        key = recipe.data.as_json()
        if key not in self._sources:
            self._sources[key] = open_recipe_source(recipe.data)
        return self._sources[key]


def _machine(device: str, precision: str) -> str:
    if device.startswith("cuda"):
        chip = torch.cuda.get_device_name(device)
    else:
        chip = f"{os.cpu_count()}-core {platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{chip}, {precision}, torch {torch.__version__}, {platform.system()}"
