"""Running a grid: finished cells are never run again, an unfinished one goes on from its newest checkpoint.

    DIR/grid.json                              the grid it belongs to
    DIR/teacher/                               the teacher, if the grid trains it; teacher.json: what it reaches
    DIR/cells/METHOD/STUDENT/seed-N/           a run's folder as `facekd train` makes it
                                   plan.json   with a budget of minutes: the steps that were measured to fit
                                   cell.json   written last: this cell is finished
    DIR/compare.md, compare.csv, compare.png   what the finished cells say, written after each

Every one of these files is written under another name and renamed: whatever moment the process dies at, what is there
is whole.
"""

import gc
import json
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from facekd.comparison.figures import CellFigures
from facekd.comparison.grid import Cell, Grid, TeacherTraining
from facekd.data.source import Source
from facekd.data.verification_set import load_verification_set
from facekd.distillation.build import build_task
from facekd.errors import FacekdError, UsageError
from facekd.evaluation.embedding import evaluate_verification, open_embedder
from facekd.evaluation.verification import VerificationResult
from facekd.models.card import file_sha256, read_card
from facekd.recipe import Recipe, load_recipe
from facekd.training import resumption
from facekd.training.interruption import Interrupted
from facekd.training.log import Reporter, clock
from facekd.training.run import open_recipe_source, run_recipe

_PACE_STEPS = 12


@dataclass
class Failure:
    """A cell that failed, and why."""

    cell: Cell
    reason: str


class GridRunner:
    """Runs the cells of a grid in one folder.

    Args:
        grid: what to compare.
        out: the comparison's folder, made by `only_one`: empty, or an earlier run of this grid.
        reporter: where progress goes.
        resume_command: what to tell somebody who interrupts.

    Raises:
        UsageError: `out` holds something else.
    """

    def __init__(self, grid: Grid, *, out: Path, reporter: Reporter, resume_command: str) -> None:
        self.grid, self.out, self.reporter = grid, out, reporter
        self._resume_command = resume_command
        self._sources: dict[str, Source] = {}
        mark = out / "grid.json"
        if mark.is_file():
            if read_json(mark)["name"] != grid.name:
                raise UsageError(f"--out {out} is of the grid {read_json(mark)['name']!r}: give a folder of its own")
            return
        foreign = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
        if foreign:
            raise UsageError(f"--out {out} holds {foreign[0]!r} and no comparison: give a new folder")
        write_json(mark, {"name": grid.name, "grid": grid.model_dump(mode="json")})

    def teacher(self) -> str | None:
        """Where the teacher lies; a grid that trains it does so now, unless it has been trained."""
        origin = self.grid.teacher
        if not isinstance(origin, TeacherTraining):
            return origin
        recipe = load_recipe(origin.recipe, origin.set)
        folder = self.out / "teacher"
        if recipe.role != "teacher":
            raise UsageError(f"grid {self.grid.name}: {origin.recipe} makes a {recipe.role}, not a teacher")
        done = folder / "cell.json"
        if not done.is_file():
            self.reporter.say(f"teacher: {recipe.name}")
            run_recipe(recipe, out=folder, resume=True, reporter=self.reporter, resume_command=self._resume_command)
            write_json(done, {"identity": resumption.identity(recipe, self._source(recipe))})
        self._check_same(done, recipe)
        return str(folder / "bundle")

    def teacher_accuracy(self, teacher: str | None, sets: list[str]) -> dict[str, float]:
        """The teacher's accuracy on each set, measured once."""
        if teacher is None:
            return {}
        kept = self.out / "teacher.json"
        digest = _sha256(Path(teacher))
        known: dict[str, Any] = (
            read_json(kept) if kept.is_file() else {"teacher": teacher, "sha256": digest, "accuracy": {}}
        )
        if known["sha256"] != digest:
            raise UsageError(
                f"--out {self.out} compares with a teacher of sha256 {known['sha256'][:12]}, {teacher} has "
                f"{digest[:12]}: give another --out, or the teacher it began with"
            )
        for name in sets:
            if name not in known["accuracy"]:
                self.reporter.say(f"teacher on {name} ...")
                result = evaluate_verification(open_embedder(teacher), load_verification_set(name))
                known["accuracy"][name] = accuracy_of(result)
                write_json(kept, known)
        return {name: known["accuracy"][name] for name in sets}

    def check(self, cells: list[Cell]) -> None:
        """Builds each method on each student once: a mistake in the last shows now, not hours later."""
        seen = set()
        for cell in cells:
            if (cell.method, cell.student) not in seen and self.finished(cell) is None:
                seen.add((cell.method, cell.student))
                try:
                    build_task(cell.recipe, self._source(cell.recipe))
                except UsageError as error:
                    raise UsageError(f"grid {self.grid.name}, {cell.method} on {cell.student}: {error}") from error

    def finished(self, cell: Cell) -> CellFigures | None:
        """A finished cell's figures, None if it is not finished.

        Raises:
            UsageError: it was run with another recipe or other data.
        """
        done = self.out / cell.place / "cell.json"
        if not done.is_file():
            return None
        self._check_same(done, self._planned(cell))
        return CellFigures(**read_json(done)["figures"])

    def run(self, cells: list[Cell]) -> Iterator[CellFigures | Failure]:
        """Runs what is not finished, in order, and yields each as it ends.

        A cell that fails is yielded as such and the next one begins; running the grid again tries it again.

        Raises:
            Interrupted: stopped by a signal; the cell at hand has saved its state.
            UsageError: what a cell names is not there any more.
        """
        waiting = [cell for cell in cells if self.finished(cell) is None]
        spent: list[float] = []
        for number, cell in enumerate(waiting):
            left = f", about {clock(sum(spent) / len(spent) * (len(waiting) - number))} left" if spent else ""
            self.reporter.say(f"cell {len(cells) - len(waiting) + number + 1} of {len(cells)}: {cell}{left}")
            began = datetime.now(UTC)
            try:
                yield self._run(cell)
            except (UsageError, Interrupted):
                raise
            except FacekdError as error:
                self.reporter.warn(f"{cell} failed: {error}")
                yield Failure(cell, str(error))
            spent.append((datetime.now(UTC) - began).total_seconds())
            gc.collect()  # a task is full of reference cycles; the next one needs the memory

    def _run(self, cell: Cell) -> CellFigures:
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
            accuracy={name: accuracy_of(one) for name, one in result.report.items()},
            auc={name: one.auc for name, one in result.report.items()},
            tar_at_far={name: one.to_dict()["tar_at_far"] for name, one in result.report.items()},
            steps=result.step,
            images=told["images"],
            ms_per_image=1000 * told["seconds"] / told["images"],
            recipe_hash=recipe.hash(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=_machine(told["device"], told["precision"]),
        )
        identity = resumption.identity(recipe, self._source(recipe))
        write_json(folder / "cell.json", {"figures": figures.to_dict(), "identity": identity})
        return figures

    def _plan(self, cell: Cell) -> Recipe:
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

    def _planned(self, cell: Cell) -> Recipe:
        """The cell's recipe with the steps that its plan gives, if it has one."""
        plan = self.out / cell.place / "plan.json"
        if self.grid.budget.minutes is None or not plan.is_file():
            return cell.recipe
        recipe = cell.recipe.model_copy(deep=True)
        recipe.training.max_steps = read_json(plan)["steps"]
        return recipe

    def _check_same(self, done: Path, recipe: Recipe) -> None:
        try:
            resumption.check(
                read_json(done)["identity"], recipe, self._source(recipe), warn=lambda _: None
            )  # another machine or torch is no other cell
        except UsageError as error:
            raise UsageError(f"{done.parent} is finished, of another recipe: {error}") from error

    def _source(self, recipe: Recipe) -> Source:
        key = recipe.data.model_dump_json()
        if key not in self._sources:
            self._sources[key] = open_recipe_source(recipe.data)
        return self._sources[key]


def accuracy_of(result: VerificationResult) -> float:
    """10-fold accuracy; that at one threshold for all pairs where a fold holds pairs of one kind (LFW's View 1)."""
    return result.best_accuracy if result.one_kind_folds else result.accuracy


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Makes `out` and keeps a second process out of it. The system drops the lock with the process: a kill leaves none.

    Raises:
        UsageError: `out` is a file.
        FacekdError: another process is at it, or it cannot be written to.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / ".lock").open("w")
    except FileExistsError as error:
        raise UsageError(f"--out {out} is a file: give a folder") from error
    except OSError as error:
        raise FacekdError(f"cannot write to --out {out}: {error.strerror or error}") from error
    with lock:
        if os.name == "posix":
            import fcntl

            try:
                # lockf, not flock: the loader's processes must not inherit it and outlive us with it.
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise FacekdError(f"another facekd compare is running in {out}: wait for it, or stop it") from error
        yield


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes under another name, flushes, renames."""
    temporary = path.with_name(f".{path.name}.writing")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(content, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote. Raises FacekdError if somebody else changed it into no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FacekdError(f"{path} is damaged ({error}): delete it, and its cell runs again") from error


def _sha256(teacher: Path) -> str:
    """Of a bundle's weights as its card says, of a file's content."""
    if teacher.is_dir():
        return read_card(teacher).sha256
    if not teacher.is_file():
        raise UsageError(f"no teacher at {teacher}: give a bundle folder or an .onnx file")
    return file_sha256(teacher)


def _machine(device: str, precision: str) -> str:
    if device.startswith("cuda"):
        chip = torch.cuda.get_device_name(device)
    else:
        chip = f"{os.cpu_count()}-core {platform.machine()} CPU, {torch.get_num_threads()} threads"
    return f"{chip}, {precision}, torch {torch.__version__}, {platform.system()}"
