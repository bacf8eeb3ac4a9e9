"""The teachers of a grid: where they lie, trained first if the grid says so, and how good they are.

DIR/teacher/, DIR/teachers/NAME/            a teacher that the grid trains, as `facekd train` makes it
DIR/teacher.json, DIR/teachers/NAME.json    its hash, and what it reaches on each set
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError
from facekd.data.opening import load_verification_set
from facekd.data.source import Source
from facekd.evaluation.embedding import evaluate_verification
from facekd.recipe import Recipe, load_recipe
from facekd.runtimes.files import ModelFiles
from facekd.runtimes.opening import open_model
from facekd.sweep.cell_files import check_finished, read_json, write_json
from facekd.sweep.grid import Grid, TeacherTraining
from facekd.sweep.reuse import find_teacher_accuracy
from facekd.training import resumption
from facekd.training.log import Reporter
from facekd.training.run import run_recipe


class GridTeacher:
    """One teacher of a grid.

    Args:
        grid: that names it.
        name: its name among the grid's `teachers`; None is its `teacher`.
        out: the sweep's folder.
    """

    def __init__(self, grid: Grid, name: str | None, *, out: Path) -> None:
        origin = grid.teacher if name is None else grid.teachers[name]
        assert origin is not None
        self.origin: str | TeacherTraining = origin
        self._grid = grid
        self._folder = out / "teacher" if name is None else out / "teachers" / name
        self._kept = self._folder.with_name(f"{self._folder.name}.json")

    @property
    def place(self) -> str:
        """Where its bundle or .onnx lies, or will lie."""
        return self.origin if isinstance(self.origin, str) else str(self._folder / "bundle")

    def make(self, source: Callable[[Recipe], Source], *, reporter: Reporter, resume_command: str) -> None:
        """Trains it, if the grid does and it has not been.

        Raises:
            UsageError: the recipe makes no teacher, is not the one it was trained by, or its bundle was taken away.
        """
        if isinstance(self.origin, str):
            return
        recipe = load_recipe(self.origin.recipe, self.origin.set)
        if recipe.role != "teacher":
            raise UsageError(f"grid {self._grid.name}: {self.origin.recipe} makes a {recipe.role}, not a teacher")
        done = self._folder / "cell.json"
        if not done.is_file():
            reporter.say(f"teacher: {recipe.name}")
            run_recipe(recipe, out=self._folder, resume=True, reporter=reporter, resume_command=resume_command)
            write_json(done, {"identity": resumption.identity(recipe, source(recipe))})
        check_finished(done, recipe, source(recipe))
        if not Path(self.place).is_dir():
            raise UsageError(f"the teacher of this sweep is not at {self.place}: bring it back, or give --teacher")

    def accuracy(
        self, sets: list[str], *, needed: bool, say: Callable[[str], None], others: Sequence[Path] = ()
    ) -> dict[str, float]:
        """Its accuracy on each set, measured once.

        Args:
            sets: as `load_verification_set` reads them.
            needed: it will be learnt from, so it must be there and be the one that the sweep began with.
            say: takes a line of progress.
            others: sweeps that may have measured it already.

        Raises:
            UsageError: it is not there, or is another one.
        """
        known: dict[str, Any] = read_json(self._kept) if self._kept.is_file() else {}
        if needed or any(name not in known.get("accuracy", {}) for name in sets):
            digest = _sha256(Path(self.place))
            known = known or {"teacher": self.place, "sha256": digest, "accuracy": {}}
            if known["sha256"] != digest:
                raise UsageError(
                    f"--out {self._kept.parent} compares with a teacher of sha256 {known['sha256'][:12]}, {self.place} "
                    f"has {digest[:12]}: give another --out, or the teacher it began with"
                )
        for name in sets:
            if name not in known["accuracy"]:
                measured = find_teacher_accuracy(others, known["sha256"], name)
                if measured is None:
                    say(f"teacher {self.place} on {name} ...")
                    result = evaluate_verification(open_model(self.place), load_verification_set(name))
                    measured = result.accuracy
                known["accuracy"][name] = measured
                write_json(self._kept, known)
        return {name: known["accuracy"][name] for name in sets}


def _sha256(teacher: Path) -> str:
    """Of a bundle's weights, or of a model file and what belongs to it."""
    if not teacher.exists():
        raise UsageError(f"no teacher at {teacher}: give a bundle folder or an .onnx file")
    return ModelFiles.of(teacher).sha256
