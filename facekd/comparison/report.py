"""What a comparison writes: compare.md for people, compare.csv with a line for each cell and set, pictures."""

import csv
import functools
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from facekd.common.writing import atomic_file
from facekd.comparison.figures import CellFigures, MethodFigures, gap_share, summarise, undistilled_accuracy
from facekd.comparison.grid import Cell, Grid
from facekd.comparison.runner import Failure
from facekd.models.counting import count_macs
from facekd.models.registry import create_model
from facekd.recipe import ModelConfig

_CSV = (
    "method",
    "student",
    "macs",
    "seed",
    "set",
    "accuracy",
    "auc",
    "tar_at_far",
    "share_of_gap_closed",
    "steps",
    "images",
    "ms_per_image",
    "recipe_hash",
    "finished",
    "machine",
)


_METHODS, _COST = "compare.png", "compare-cost.png"
_ALT = {_METHODS: "accuracy of each method", _COST: "accuracy against cost"}


@dataclass(frozen=True)
class Comparison:
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
    cells: list[Cell]
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


def write_report(comparison: Comparison, out: Path) -> None:
    """Writes compare.md, compare.csv and the pictures that the comparison has."""
    _write(out / "compare.csv", _csv(comparison).encode())
    names = picture_names(comparison)
    if names:
        from facekd.comparison.plot import draw, draw_cost

        for name in names:
            _write(out / name, (draw if name == _METHODS else draw_cost)(comparison))
    _write(out / "compare.md", _markdown(comparison, names).encode())


def picture_names(comparison: Comparison) -> list[str]:
    """Where matplotlib is installed and a cell has finished: compare.png, and compare-cost.png if the networks differ
    in MACs.
    """
    if not comparison.finished or find_spec("matplotlib") is None:
        return []
    return [_METHODS, _COST] if comparison.costs_differ else [_METHODS]


def table_rows(comparison: Comparison, on: str) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of the table on one set, as text."""
    columns = ["method", "student", "MMACs", "seeds", "accuracy", "std", "AUC", "gap closed", "std"]
    columns += ["ms/image", "images"]
    rows = []
    for one in comparison.summary(on):
        rows.append(
            [
                one.method,
                one.student,
                f"{comparison.macs(one.method, one.student) / 1e6:.0f}",
                str(len(one.seeds)),
                f"{one.accuracy_mean:.2%}",
                "" if one.accuracy_std is None else f"{one.accuracy_std:.2%}",
                f"{one.auc_mean:.4f}",
                "" if one.gap_mean is None else f"{one.gap_mean:z.0%}",
                "" if one.gap_std is None else f"{one.gap_std:.0%}",
                f"{one.ms_per_image:.1f}",
                f"{one.images:,.0f}",
            ]
        )
    if on in comparison.teacher_accuracy:
        rows.append(["the teacher", "", "", "", f"{comparison.teacher_accuracy[on]:.2%}", "", "", "100%", "", "", ""])
    for name, reached in comparison.other_teachers.items():
        rows.append([f"teacher {name}", "", "", "", f"{reached[on]:.2%}", "", "", "", "", "", ""])
    if not comparison.costs_differ:
        place = columns.index("MMACs")
        for row in (columns, *rows):
            del row[place]
    return columns, rows


def _markdown(comparison: Comparison, pictures: Iterable[str]) -> str:
    grid = comparison.grid
    state = f"{len(comparison.finished)} of {len(comparison.cells)} cells finished"
    seeds = ", ".join(map(str, grid.seeds))
    lines = [f"# {grid.name}", "", f"Budget of each cell: {grid.budget.describe()}. Seeds: {seeds}. {state}.", ""]
    for machine in sorted({one.machine for one in comparison.finished}):
        lines.append(f"Ran on: {machine}.")
    if comparison.finished:
        dates = sorted(one.finished[:10] for one in comparison.finished)
        lines += [f"Finished: {dates[0]}" + (f" to {dates[-1]}." if dates[-1] != dates[0] else "."), ""]
    for on in comparison.sets:
        lines += [f"## {Path(on).name if Path(on).exists() else on}", "", *_markdown_table(comparison, on), ""]
    lines += [
        "Accuracy: mean over seeds of the 10-fold verification accuracy; std over seeds (n - 1). Gap closed: share of "
        "the errors between the undistilled student and the teacher that the method removes, "
        "(E_undistilled - E) / (E_undistilled - E_teacher). ms/image: wall time of training an image, evaluation not "
        "counted.",
        "",
    ]
    for name in pictures:
        lines += [f"![{_ALT[name]}]({name})", ""]
    lines += ["## Cells", "", "| method | student | seed | accuracy | steps | ms/image | recipe |"]
    lines += ["|---|---|---|---|---|---|---|"]
    by_place = {(one.method, one.student, one.seed): one for one in comparison.finished}
    failed = {str(one.cell): one.reason for one in comparison.failures}
    for cell in comparison.cells:
        head = f"| {cell.method} | {cell.student} | {cell.seed} "
        done = by_place.get((cell.method, cell.student, cell.seed))
        if done is not None:
            figures = f"{done.accuracy[comparison.sets[0]]:.2%} | {done.steps} | {done.ms_per_image:.1f}"
            lines.append(f"{head}| {figures} | `{done.recipe_hash[:12]}` |")
        else:
            why = f"failed: {failed[str(cell)]}" if str(cell) in failed else "not run"
            lines.append(f"{head}| {why.replace('|', '/')} | | | |")
    return "\n".join(lines) + "\n"


def _markdown_table(comparison: Comparison, on: str) -> list[str]:
    columns, rows = table_rows(comparison, on)
    return [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _csv(comparison: Comparison) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV, lineterminator="\n")
    writer.writeheader()
    for on in comparison.sets:
        for one in comparison.finished:
            start = undistilled_accuracy(
                comparison.finished, student=one.student, on=on, baseline=comparison.grid.baseline
            )
            share = gap_share(one.accuracy[on], undistilled=start, teacher=comparison.teacher_accuracy.get(on))
            tars = " ".join(f"{far}:{tar:.6f}" for far, tar in one.tar_at_far[on].items())
            figures = {**one.to_dict(), "set": on, "accuracy": one.accuracy[on], "auc": one.auc[on]}
            figures |= {
                "macs": comparison.macs(one.method, one.student),
                "tar_at_far": tars,
                "share_of_gap_closed": "" if share is None else f"{share:.6f}",
            }
            writer.writerow(figures)
    return text.getvalue()


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path, overwrite=True) as file:
        file.write(content)
