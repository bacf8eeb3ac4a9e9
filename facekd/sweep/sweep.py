"""A sweep from its grid to its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from facekd.common.errors import FacekdError, UsageError
from facekd.sweep.cell_files import lock, make_folder
from facekd.sweep.grid import Grid, SweepCell, TeacherTraining, grid_cells, load_grid
from facekd.sweep.report import write_report
from facekd.sweep.result import SweepResult
from facekd.sweep.runner import Failure, GridRunner
from facekd.sweep.teacher_caches import fill_caches, with_caches
from facekd.sweep.teachers import GridTeacher
from facekd.training.log import Reporter


def run_sweep(
    grid_path: str | Path,
    *,
    out: Path,
    overrides: Sequence[str] = (),
    teacher: str | None = None,
    reuse: Sequence[Path] = (),
    reporter: Reporter | None = None,
    resume_command: str = "the same command",
) -> SweepResult:
    """Runs what is not finished of a grid, and writes its report after every cell.

    Args:
        grid_path: a YAML file, or the name of a shipped grid.
        out: folder of the sweep; an unfinished one goes on. Several processes may work in it, on cells of their
            own; each returns what all have finished when nothing is left for it.
        overrides: `a.b=value` for the base of all cells, after the grid's own.
        teacher: bundle folder or .onnx instead of the grid's.
        reuse: folders of other sweeps: a cell that one of them has finished, with the same recipe, data and
            teacher, is taken and not run again; so is a teacher's accuracy.
        reporter: where progress goes; default stderr.
        resume_command: what to tell somebody who interrupts.

    Raises:
        UsageError: the grid or a cell is not valid, or `out` is of another.
        Interrupted: stopped by a signal; the cell at hand has saved its state.
        FacekdError: no cell could be finished, or `out` cannot be written to.
    """
    reporter = reporter or Reporter()
    grid, path = load_grid(grid_path)
    if teacher is not None:
        grid.teacher = teacher
    make_folder(out)
    teachers = {name: GridTeacher(grid, name, out=out) for name in grid.teacher_names}
    cells, sets = _cells(grid, path, {name: one.place for name, one in teachers.items()}, overrides)
    if grid.cache_views is not None:
        cells = with_caches(cells, views=grid.cache_views, out=out)
    locks = out / ".locks"
    say = reporter.say
    with lock(locks / "setup", waiting=lambda: say(f"another process prepares the teacher in {out}: waiting")):
        runner = GridRunner(grid, out=out, reporter=reporter, resume_command=resume_command, reuse=reuse)
        left = any(runner.finished(cell) is None for cell in cells)
        for teacher_of_grid in teachers.values() if left else ():
            teacher_of_grid.make(runner.source, reporter=reporter, resume_command=resume_command)
        reached = {name: one.accuracy(sets, needed=left, say=say, others=reuse) for name, one in teachers.items()}
        runner.check(cells)
        if grid.cache_views is not None:
            unfinished = [cell for cell in cells if runner.finished(cell) is None]
            fill_caches(unfinished, views=grid.cache_views, source=runner.source, reporter=reporter)
    failures: list[Failure] = []

    def report() -> SweepResult:
        with lock(locks / "report", waiting=lambda: None):  # what the others finished is in it, whoever writes last
            finished = [known for cell in cells if (known := runner.finished(cell)) is not None]
            others = {name: figures for name, figures in reached.items() if name is not None}
            state = SweepResult(grid, cells, finished, failures, sets, reached.get(None, {}), others)
            write_report(state, out)
        return state

    state = report()
    for failure in runner.run(cells):
        if failure is not None:
            failures.append(failure)
        state = report()
    if failures and not state.finished:
        raise FacekdError(f"no cell finished; the first: {failures[0].cell}: {failures[0].reason}")
    return state


def planned_cells(
    grid_path: str | Path, *, overrides: Sequence[str] = (), teacher: str | None = None
) -> tuple[list[SweepCell], str]:
    """The cells of a grid and its budget in words, without running anything."""
    grid, path = load_grid(grid_path)
    if teacher is not None:
        grid.teacher = teacher
    origins = {name: grid.teacher if name is None else grid.teachers[name] for name in grid.teacher_names}
    places = {
        name: f"a teacher trained by {origin.recipe}" if isinstance(origin, TeacherTraining) else str(origin)
        for name, origin in origins.items()
    }
    cells, _ = _cells(grid, path, places, overrides)
    if not cells:
        raise UsageError(f"grid {grid.name} has no cells")
    return cells, grid.budget.describe()


def _cells(
    grid: Grid, path: Path, places: Mapping[str | None, str], overrides: Sequence[str]
) -> tuple[list[SweepCell], list[str]]:
    others = {name: place for name, place in places.items() if name is not None}
    return grid_cells(grid, beside=path.parent, teacher=places.get(None), others=others, overrides=overrides)
