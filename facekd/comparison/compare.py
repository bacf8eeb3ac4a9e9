"""A comparison from its grid to its report."""

from collections.abc import Sequence
from pathlib import Path

from facekd.comparison.figures import CellFigures
from facekd.comparison.grid import Cell, TeacherTraining, grid_cells, load_grid
from facekd.comparison.report import Comparison, write_report
from facekd.comparison.runner import Failure, GridRunner, only_one
from facekd.errors import FacekdError, UsageError
from facekd.training.log import Reporter


def compare(
    grid_path: str | Path,
    *,
    out: Path,
    overrides: Sequence[str] = (),
    teacher: str | None = None,
    reporter: Reporter | None = None,
    resume_command: str = "the same command",
) -> Comparison:
    """Runs what is not finished of a grid, and writes its report after every cell.

    Args:
        grid_path: a YAML file, or the name of a shipped grid.
        out: folder of the comparison; an unfinished one goes on.
        overrides: `a.b=value` for the base of all cells, after the grid's own.
        teacher: bundle folder or .onnx instead of the grid's.
        reporter: where progress goes; default stderr.
        resume_command: what to tell somebody who interrupts.

    Raises:
        UsageError: the grid or a cell is not valid, or `out` is of another.
        Interrupted: stopped by a signal; the cell at hand has saved its state.
        FacekdError: no cell could be finished, or another process is at `out`.
    """
    reporter = reporter or Reporter()
    grid, path = load_grid(grid_path)
    if teacher is not None:
        grid.teacher = teacher
    grid_cells(grid, beside=path.parent, teacher="a teacher to come", overrides=overrides)  # refuse it before training
    with only_one(out):
        runner = GridRunner(grid, out=out, reporter=reporter, resume_command=resume_command)
        origin = runner.teacher()
        cells, sets = grid_cells(grid, beside=path.parent, teacher=origin, overrides=overrides)
        runner.check(cells)
        reached = runner.teacher_accuracy(origin, sets)
        finished = [known for cell in cells if (known := runner.finished(cell)) is not None]
        failures: list[Failure] = []

        def state() -> Comparison:
            order = {(cell.method, cell.student, cell.seed): i for i, cell in enumerate(cells)}
            done = sorted(finished, key=lambda one: order[one.method, one.student, one.seed])
            return Comparison(grid, cells, done, failures, sets, reached)

        write_report(state(), out)
        for one in runner.run(cells):
            if isinstance(one, CellFigures):
                finished.append(one)
            else:
                failures.append(one)
            write_report(state(), out)
        if failures and not finished:
            raise FacekdError(f"no cell finished; the first: {failures[0].cell}: {failures[0].reason}")
        return state()


def planned_cells(
    grid_path: str | Path, *, overrides: Sequence[str] = (), teacher: str | None = None
) -> tuple[list[Cell], str]:
    """The cells of a grid and its budget in words, without running anything."""
    grid, path = load_grid(grid_path)
    origin = teacher or grid.teacher
    if isinstance(origin, TeacherTraining):
        origin = f"a teacher trained by {origin.recipe}"
    cells, _ = grid_cells(grid, beside=path.parent, teacher=origin, overrides=overrides)
    if not cells:
        raise UsageError(f"grid {grid.name} has no cells")
    return cells, grid.budget.describe()
