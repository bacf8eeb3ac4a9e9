"""A grid as far as it has been run: its cells, their figures, the teachers' accuracy and what each network costs."""

import functools
import json
from dataclasses import dataclass, field
from typing import Any

import torch

from facekd.models.counting import count_macs
from facekd.models.registry import create_model
from facekd.recipe import ModelConfig
from facekd.sweep.figures import CellFigures, MethodFigures, summarise
from facekd.sweep.grid import Grid, SweepCell
from facekd.sweep.runner import Failure


@dataclass(frozen=True)
class SweepResult:
    """A grid as far as it has come.

    Attributes:
        grid: what is compared.
        cells: all of them.
        finished: their figures, in the order of `cells`.
        failures: those that failed this time.
        sets: what they report on, as the recipe names them; the first is the one that orders the methods.
        teacher_accuracy: the teacher's, by set; empty without a teacher.
        other_teachers: the same of the grid's other teachers, by name.
    """

    grid: Grid
    cells: list[SweepCell]
    finished: list[CellFigures]
    failures: list[Failure]
    sets: list[str]
    teacher_accuracy: dict[str, float]
    other_teachers: dict[str, dict[str, float]] = field(default_factory=dict)

    def summary(self, on: str) -> list[MethodFigures]:
        """Each method on each student over its finished seeds, the best first within a student."""
        teacher = self.teacher_accuracy.get(on)
        found = summarise(self.finished, on=on, baseline=self.grid.baseline, teacher_accuracy=teacher)
        students = list(dict.fromkeys(cell.student for cell in self.cells))
        return sorted(found, key=lambda one: (students.index(one.student), -one.accuracy_mean))

    def macs(self, method: str, student: str) -> int:
        """Multiply-accumulates of the network that this method trains as this student."""
        model = self._model(method, student)
        return _macs(model.name, json.dumps(model.arguments))

    def family(self, method: str, student: str) -> str:
        """The network without its sizes: students of one family differ in numbers only (scale, depth)."""
        model = self._model(method, student)
        kept = {key: value for key, value in model.arguments.items() if not _is_size(value)}
        return json.dumps([model.name, kept], sort_keys=True)

    def _model(self, method: str, student: str) -> ModelConfig:
        return next(cell.recipe.model for cell in self.cells if (cell.method, cell.student) == (method, student))

    @property
    def costs_differ(self) -> bool:
        """Whether the finished cells are networks of different MACs: then accuracy is a question of cost too."""
        return len({self.macs(one.method, one.student) for one in self.finished}) > 1

    def to_dict(self) -> dict[str, Any]:
        """As plain types for JSON."""
        return {
            "grid": self.grid.name,
            "budget": self.grid.budget.describe(),
            "cells": len(self.cells),
            "finished": len(self.finished),
            "teacher_accuracy": self.teacher_accuracy,
            "other_teachers": self.other_teachers,
            "methods": {
                name: [{**one.to_dict(), "macs": self.macs(one.method, one.student)} for one in self.summary(name)]
                for name in self.sets
            },
            "figures": [one.to_dict() for one in self.finished],
            "failures": [{"cell": str(one.cell), "reason": one.reason} for one in self.failures],
        }


def _is_size(value: object) -> bool:
    """Whether an argument is a number or a list of numbers; True and False choose, and are none."""
    if isinstance(value, list):
        return all(map(_is_size, value))
    return isinstance(value, int | float) and not isinstance(value, bool)


@functools.cache
def _macs(name: str, arguments: str) -> int:
    with torch.device("meta"):  # no weights: nothing is computed
        return count_macs(create_model(name, **json.loads(arguments)))
