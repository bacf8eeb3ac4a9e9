"""From a recipe to its teacher: the kind it names, or the registered kind that fits what lies at `teacher.bundle`."""

from pathlib import Path
from typing import cast

from torch import nn

from facekd.common.errors import UsageError
from facekd.distillation.teachers.base import Teacher, TeacherPath, what_may_teach
from facekd.recipe import Recipe
from facekd.recipe.methods import TEACHERS, MethodSettings, find_teacher


def open_teacher(recipe: Recipe, student: nn.Module) -> tuple[Teacher, TeacherPath] | None:
    """The recipe's teacher, ready to teach `student`, and what it was opened from; None if the recipe has none.

    Raises:
        UsageError: nothing lies there, no kind of teacher fits it, or several do.
    """
    if recipe.teacher is None:
        return None
    found = TeacherPath(Path(recipe.teacher.bundle), recipe.teacher)
    kind, settings = _named(recipe) or _fitting(found)
    if (fields := list(recipe.teacher.stated)) and not kind.takes_stated_input:
        raise UsageError(
            f"teacher {found.path} is no model file and states its own input: leave teacher.{fields[0]} out"
        )
    teacher = kind.open(found, settings, student)
    return teacher, found


def _named(recipe: Recipe) -> tuple[type[Teacher], MethodSettings] | None:
    """The kind that an entry of `distillation` or `teacher.name` asks for."""
    for entry in recipe.entries():
        if entry.method.teaches == "teacher":
            return cast(type[Teacher], entry.method), entry.settings
    if recipe.teacher is not None and recipe.teacher.name is not None:
        kind, settings = find_teacher(recipe.teacher.name, recipe.teacher.arguments)
        return cast(type[Teacher], kind), settings
    return None


def _fitting(found: TeacherPath) -> tuple[type[Teacher], MethodSettings]:
    """The one kind that says it fits."""
    kinds = {name: cast(type[Teacher], TEACHERS.find(name)) for name in TEACHERS.names()}
    fitting = {name: kind for name, kind in kinds.items() if kind.fits(found)}
    if not fitting:
        raise what_may_teach(found.bundle.model)  # the bundle itself says what is wrong where it is none
    if len(fitting) > 1:
        raise UsageError(
            f"{found.path} fits several kinds of teachers: set teacher.name to one of {', '.join(fitting)}"
        )
    ((_, kind),) = fitting.items()
    return kind, kind.Settings()
