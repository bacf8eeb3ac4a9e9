"""What another sweep has done already.

Cells that are the same run (the same recipe but for its name, data, teacher and seed), and teachers' figures.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError
from facekd.data.source import Source
from facekd.recipe import Recipe
from facekd.sweep.cell_files import check_finished, read_json


def require_sweeps(folders: Sequence[Path]) -> None:
    """Raises UsageError if a folder holds no sweep."""
    for folder in folders:
        if not (folder / "grid.json").is_file():
            raise UsageError(f"--reuse {folder} holds no sweep: give the --out of another facekd sweep")


def find_same_run(folders: Sequence[Path], recipe: Recipe, source: Source, teachers: dict[str, str]) -> Path | None:
    """The cell.json of a finished cell that is what `recipe` would be, or None.

    Args:
        folders: other sweeps.
        recipe: of the cell that is to be run.
        source: its data.
        teachers: sha256 by place of this sweep's teachers, as `teacher_hashes` reads them.
    """
    wanted = None if recipe.teacher is None else teachers.get(recipe.teacher.bundle)
    for folder in folders:
        hashes = teacher_hashes(folder)
        for done in sorted(folder.glob(f"cells/*/*/seed-{recipe.seed}/cell.json")):
            content = read_json(done)
            kept = content["identity"]["recipe"].get("teacher")
            same_teacher = (None if kept is None else hashes.get(kept["bundle"])) == wanted
            reported = set(recipe.evaluation.report) <= set(content["figures"]["accuracy"])
            if same_teacher and reported and _same_run(done, recipe, source):
                return done
    return None


def _same_run(done: Path, recipe: Recipe, source: Source) -> bool:
    try:
        check_finished(done, recipe, source)
    except UsageError:
        return False
    return True


def find_teacher_accuracy(folders: Sequence[Path], sha256: str, name: str) -> float | None:
    """What one of the sweeps measured of the teacher of that hash on the set `name`, or None."""
    records = [record for folder in folders for record in _teachers(folder) if record["sha256"] == sha256]
    return next((record["accuracy"][name] for record in records if name in record["accuracy"]), None)


def teacher_hashes(folder: Path) -> dict[str, str]:
    """sha256 by place of the teachers of the sweep in `folder`."""
    return {record["teacher"]: record["sha256"] for record in _teachers(folder)}


def _teachers(folder: Path) -> list[dict[str, Any]]:
    files = [folder / "teacher.json", *folder.glob("teachers/*.json")]
    return [read_json(file) for file in files if file.is_file()]
