"""The stored outputs of a grid's teachers: a folder for each teacher and data, shared by the cells that learn from it.

DIR/teacher-cache/NAME/                     as `facekd teacher cache` makes it
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from facekd.common.hashing import parts_sha256
from facekd.data.source import Source
from facekd.distillation.fill_cache import fill_cache
from facekd.distillation.teacher_cache import can_be_stored, reads_tokens
from facekd.recipe import Recipe
from facekd.sweep.grid import SweepCell
from facekd.training.log import Reporter


def with_caches(cells: Sequence[SweepCell], *, views: int, out: Path) -> list[SweepCell]:
    """The cells, each with the folder its teacher's outputs go to; those whose teacher learns stay as they are."""
    return [_with_cache(cell, views, out) if can_be_stored(cell.recipe) else cell for cell in cells]


def fill_caches(
    cells: Sequence[SweepCell], *, views: int, source: Callable[[Recipe], Source], reporter: Reporter
) -> None:
    """Stores what the cells' teachers give, where it is not stored yet.

    Args:
        cells: those that are still to be run, as `with_caches` gave them.
        views: of each image.
        source: opens a recipe's training faces.
        reporter: where progress goes.

    Raises:
        WriteError: the disk is full.
        FacekdError: see `fill_cache`.
    """
    folders: dict[str, list[Recipe]] = {}
    for cell in cells:
        if cell.recipe.teacher is not None and cell.recipe.teacher.cache is not None:
            folders.setdefault(cell.recipe.teacher.cache, []).append(cell.recipe)
    for folder, recipes in folders.items():
        first = recipes[0]
        assert first.teacher is not None
        reporter.say(f"storing the outputs of teacher {first.teacher.bundle} for {views} views, once for all cells")
        filled = fill_cache(
            first,
            source(first),
            Path(folder),
            views=views,
            tokens="float16" if any(map(reads_tokens, recipes)) else "none",
            progress=reporter.console.is_terminal,
        )
        for key, reason in filled.broken[:3]:
            reporter.warn(f"image {key} left out: {reason} ({len(filled.broken)} in all)")


def _with_cache(cell: SweepCell, views: int, out: Path) -> SweepCell:
    recipe = cell.recipe
    assert recipe.teacher is not None
    name = parts_sha256("teacher cache", recipe.teacher.as_json(), recipe.data.as_json(), str(views))[:12]
    teacher = recipe.teacher.model_copy(update={"cache": str(out / "teacher-cache" / name)})
    return replace(cell, recipe=recipe.model_copy(update={"teacher": teacher}))
