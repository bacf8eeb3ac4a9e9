"""Cells of another comparison that are the same run: the same recipe but for its name, data, teacher and seed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from facekd.comparison.folder import read_json
from facekd.data.source import Source
from facekd.distillation.registry import check_term
from facekd.errors import UsageError
from facekd.recipe import Recipe
from facekd.training import resumption


def require_comparisons(folders: Sequence[Path]) -> None:
    """Raises UsageError if a folder holds no comparison."""
    for folder in folders:
        if not (folder / "grid.json").is_file():
            raise UsageError(f"--reuse {folder} holds no comparison: give the --out of another facekd compare")


def find_same_run(folders: Sequence[Path], recipe: Recipe, source: Source, teachers: dict[str, str]) -> Path | None:
    """The cell.json of a finished cell that is what `recipe` would be, or None.

    Args:
        folders: other comparisons.
        recipe: of the cell that is to be run.
        source: its data.
        teachers: sha256 by place of this comparison's teachers, as `teacher_hashes` reads them.
    """
    wanted = None if recipe.teacher is None else teachers.get(recipe.teacher.bundle)
    for folder in folders:
        hashes = teacher_hashes(folder)
        for done in sorted(folder.glob(f"cells/*/*/seed-{recipe.seed}/cell.json")):
            content = read_json(done)
            if set(recipe.evaluation.report) <= set(content["figures"]["accuracy"]) and _same_run(
                content["identity"], hashes, recipe, source, wanted
            ):
                return done
    return None


def _same_run(
    identity: dict[str, Any], hashes: dict[str, str], recipe: Recipe, source: Source, teacher: str | None
) -> bool:
    try:
        kept = Recipe.model_validate(identity["recipe"])
        if (None if kept.teacher is None else hashes.get(kept.teacher.bundle)) != teacher:
            return False
        kept, wanted = _complete(kept), _complete(recipe.model_copy(update={"teacher": kept.teacher}))
        told = identity | {"recipe": kept.model_dump(mode="json"), "recipe_hash": kept.hash()}
        resumption.check(told, wanted, source, warn=lambda _: None)
    except (UsageError, ValidationError):  # another run, or a recipe of another version
        return False
    return True


def _complete(recipe: Recipe) -> Recipe:
    """With every setting of every term written out: a default may be left to itself or stated."""
    terms = [
        {name: check_term(name, values).model_dump(mode="json") for name, values in entry.items()}
        for entry in recipe.distillation
    ]
    return recipe.model_copy(update={"distillation": terms})


def teacher_hashes(folder: Path) -> dict[str, str]:
    """sha256 by place of the teachers of the comparison in `folder`."""
    files = [folder / "teacher.json", *folder.glob("teachers/*.json")]
    records = [read_json(file) for file in files if file.is_file()]
    return {record["teacher"]: record["sha256"] for record in records}
