"""The grid: methods x students x seeds over one base recipe, in one budget."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from facekd.common.errors import UsageError
from facekd.common.validation import explain, shown
from facekd.recipe import ModelConfig, Recipe, Section, load_recipe, read_yaml
from facekd.recipe.schema import check_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
# With a budget of steps alone, epochs must never be what ends a run.
_NO_LIMIT_EPOCHS = 1e6


class Budget(Section):
    """What every cell may spend: exactly one of the three.

    Attributes:
        epochs: passes over the data.
        steps: optimiser steps.
        minutes: of training (evaluation not counted) at the pace that a dozen steps show before each cell begins; it is
            turned into steps there, so that the schedule ends where the cell does, and a cheaper method gets more.
    """

    epochs: float | None = Field(default=None, gt=0, le=1e6)
    steps: int | None = Field(default=None, ge=1, le=10**12)
    minutes: float | None = Field(default=None, gt=0, le=1e7)

    @model_validator(mode="after")
    def _one(self) -> "Budget":
        given = [name for name in ("epochs", "steps", "minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of epochs, steps, minutes; got {', '.join(given) or 'none'}")
        return self

    def describe(self) -> str:
        """As a person says it."""
        name, value = next((name, value) for name, value in self.model_dump().items() if value is not None)
        return f"{value:g} {name}"


class TeacherTraining(Section):
    """A teacher that the sweep trains itself, first: a recipe of role `teacher`, with overrides."""

    recipe: str
    set: list[str] = Field(default_factory=list)


class Grid(Section):
    """A sweep.

    Attributes:
        name: of the sweep.
        base: the recipe that all cells share: a shipped name, or a YAML file (beside the grid, or from here).
        set: `a.b=value` overrides of the base, for all cells.
        teacher: bundle folder or .onnx that every distilling cell learns from, or a recipe that makes one.
        teachers: further ones by a name of your own; a method with `teacher: NAME` learns from that one instead. The
            gap is counted to `teacher` for all.
        cache_views: store each teacher's outputs for so many views of each image, once for all cells, and run it no
            more; None runs it at every step. A teacher that learns while it teaches always runs.
        budget: of every cell.
        seeds: of data order, initial weights and everything random.
        students: networks by a name of your own; empty: the base's.
        methods: sections of the recipe by a name of your own, laid over the base: mappings are merged, everything else
            replaced. `{}` is the base itself.
        baseline: the method whose errors the gap to the teacher is counted from: no teacher in it.
    """

    name: Annotated[str, AfterValidator(check_name)]
    base: str
    set: list[str] = Field(default_factory=list)
    teacher: str | TeacherTraining | None = None
    teachers: dict[str, str | TeacherTraining] = Field(default_factory=dict)
    cache_views: int | None = Field(default=None, ge=1, le=4096)
    budget: Budget
    seeds: list[int] = Field(min_length=1)
    students: dict[str, ModelConfig] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    baseline: str | None = None

    @field_validator("methods", "students", "teachers")
    @classmethod
    def _names_make_folders(cls, entries: dict[str, Any]) -> dict[str, Any]:
        for name in entries:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{shown(name)} names a folder: letters, digits and . _ + - only")
        return entries

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds) or min(seeds) < 0:
            raise ValueError(f"each seed once and none below 0, got {shown(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _baseline_is_a_method(self) -> "Grid":
        if self.baseline is not None and self.baseline not in self.methods:
            raise ValueError(f"baseline {shown(self.baseline)} is none of the methods: {', '.join(self.methods)}")
        return self

    @model_validator(mode="after")
    def _teachers_are_known(self) -> "Grid":
        for method, sections in self.methods.items():
            name = sections.get("teacher")
            if isinstance(name, str) and name not in self.teachers:
                raise ValueError(
                    f"method {method} learns from {shown(name)}, none of the teachers: {list(self.teachers)}"
                )
        return self

    @property
    def teacher_names(self) -> list[str | None]:
        """All teachers: None stands for `teacher`, if there is one."""
        return [*([] if self.teacher is None else [None]), *self.teachers]


@dataclass(frozen=True)
class SweepCell:
    """One run of a grid. With a budget of minutes its steps are still to be measured."""

    method: str
    student: str
    seed: int
    recipe: Recipe

    @property
    def place(self) -> Path:
        """Its folder, relative to the sweep's."""
        return Path("cells", self.method, self.student, f"seed-{self.seed}")

    def __str__(self) -> str:
        return f"{self.method}, {self.student}, seed {self.seed}"


def shipped_grids() -> dict[str, Path]:
    """The grids that come with facekd, by name."""
    folder = Path(str(resources.files("facekd.recipes"))) / "grids"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_grid(path: str | Path) -> tuple[Grid, Path]:
    """Reads a grid: a YAML file, or the name of a shipped one. Returns it with where it lies.

    Raises:
        UsageError: no such grid, not YAML, an unknown field or a value that is not valid.
    """
    path, content = read_yaml(path, kind="grid", shipped=shipped_grids, fields="base:, methods:")
    methods = content.get("methods")
    if isinstance(methods, dict):
        content["methods"] = {name: sections or {} for name, sections in methods.items()}  # `undistilled:` alone is {}
    try:
        return Grid.model_validate(content), path
    except ValidationError as error:
        raise UsageError(f"grid {path}: {explain(error, Grid)}") from error


def grid_cells(
    grid: Grid,
    *,
    beside: Path,
    teacher: str | None,
    others: Mapping[str, str] | None = None,
    overrides: Sequence[str] = (),
) -> tuple[list[SweepCell], list[str]]:
    """All cells, one seed of everything before the next seed, and the sets they report on.

    Args:
        grid: what to compare.
        beside: the folder of the grid's file, where its base is looked for first.
        teacher: the teacher's bundle or .onnx.
        others: those of the grid's further teachers, by name.
        overrides: further `a.b=value` for all cells.

    Raises:
        UsageError: a cell is no valid recipe, or the cells cannot be compared: nothing is reported, or a baseline that
            learns from the teacher.
    """
    base_path = beside / grid.base
    base = load_recipe(base_path if base_path.is_file() else grid.base, [*grid.set, *overrides])
    if not base.evaluation.report:
        raise UsageError(f"grid {grid.name} reports on nothing: set evaluation.report in its base, or with set:")
    students = grid.students or {base.model.name.replace("/", "-").replace(":", "-"): base.model}
    cells = list(_cells(grid, base, students, teacher, others or {}))
    if grid.baseline is not None:
        first = next(cell for cell in cells if cell.method == grid.baseline)
        if learns_from_teacher(first.recipe):
            raise UsageError(
                f"baseline {shown(grid.baseline)} learns from the teacher: it is what a student is without one"
            )
    return cells, base.evaluation.report


def learns_from_teacher(recipe: Recipe) -> bool:
    """Whether the teacher, or its classifier, has any part in the run."""
    return bool(recipe.distillation) or (recipe.head.init == "teacher" and recipe.head.weight > 0)


def _cells(
    grid: Grid, base: Recipe, students: dict[str, ModelConfig], teacher: str | None, others: Mapping[str, str]
) -> Iterator[SweepCell]:
    for seed in grid.seeds:
        for student, model in students.items():
            for method, sections in grid.methods.items():
                own, origin = dict(sections), teacher
                if isinstance(own.get("teacher"), str):
                    origin = others[own.pop("teacher")]
                content = _merged(base.model_dump(mode="json"), own)
                content |= {"name": f"{grid.name}-{method}-{student}-seed-{seed}", "seed": seed}
                content["model"] = model.model_dump(mode="json")
                content["training"] |= _limits(grid.budget)
                content["evaluation"]["report"] = base.evaluation.report  # what all are compared on
                try:
                    recipe = Recipe.model_validate(content)
                except ValidationError as error:
                    raise UsageError(f"grid {grid.name}, method {method}: {explain(error, Recipe)}") from error
                except UsageError as error:  # a term's name or settings
                    raise UsageError(f"grid {grid.name}, method {method}: {error}") from error
                if not learns_from_teacher(recipe):
                    recipe.teacher = None
                elif origin is not None:
                    recipe = Recipe.model_validate({**recipe.model_dump(mode="json"), "teacher": {"bundle": origin}})
                elif recipe.teacher is None:
                    raise UsageError(f"grid {grid.name}: method {method} needs a teacher: set teacher: in the grid")
                yield SweepCell(method, student, seed, recipe)


def _limits(budget: Budget) -> dict[str, Any]:
    if budget.epochs is not None:
        return {"epochs": budget.epochs, "max_steps": None, "max_minutes": None}
    return {"epochs": _NO_LIMIT_EPOCHS, "max_steps": budget.steps, "max_minutes": None}


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`: mappings key by key, everything else replaced."""
    merged: dict[str, Any] = json.loads(json.dumps(base))
    for key, value in over.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
