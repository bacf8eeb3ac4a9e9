"""What the finished cells say together: mean and spread over seeds, and the share of the gap that a method closes."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CellFigures:
    """A finished cell.

    Attributes:
        method, student, seed: which.
        accuracy: verification accuracy by set, 0 to 1.
        auc: area under the ROC curve by set.
        tar_at_far: true accept rates by set and FAR ("1e-3").
        steps: optimiser steps done.
        images: training images seen.
        ms_per_image: wall time of the training for each of them, in milliseconds; evaluation not counted.
        recipe_hash: sha256 of the complete recipe.
        finished: when, ISO 8601 in UTC.
        machine: what it ran on.
    """

    method: str
    student: str
    seed: int
    accuracy: dict[str, float]
    auc: dict[str, float]
    tar_at_far: dict[str, dict[str, float]]
    steps: int
    images: int
    ms_per_image: float
    recipe_hash: str
    finished: str
    machine: str

    def to_dict(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


@dataclass(frozen=True)
class MethodFigures:
    """A method on a student, over its finished seeds, on one set.

    Attributes:
        seeds: the finished ones.
        accuracy_mean, accuracy_std: std with n - 1 in the denominator, None for one seed.
        gap_mean, gap_std: share of the gap that it closes, see `gap_share`; None where there is no gap.
        ms_per_image: mean over seeds.
    """

    method: str
    student: str
    seeds: list[int]
    accuracy_mean: float
    accuracy_std: float | None
    auc_mean: float
    gap_mean: float | None
    gap_std: float | None
    ms_per_image: float
    images: float

    def to_dict(self) -> dict[str, Any]:
        """As plain types."""
        return asdict(self)


def summarise(
    cells: Sequence[CellFigures], *, on: str, baseline: str | None, teacher_accuracy: float | None
) -> list[MethodFigures]:
    """The cells of each method and student together, in the cells' order.

    Args:
        cells: the finished ones.
        on: the set.
        baseline: the method without a teacher.
        teacher_accuracy: the teacher's, on that set.
    """
    groups: dict[tuple[str, str], list[CellFigures]] = {}
    for cell in cells:
        groups.setdefault((cell.student, cell.method), []).append(cell)
    found = []
    for (student, method), group in groups.items():
        accuracies = [cell.accuracy[on] for cell in group]
        start = undistilled_accuracy(cells, student=student, on=on, baseline=baseline)
        shares = [gap_share(accuracy, undistilled=start, teacher=teacher_accuracy) for accuracy in accuracies]
        closed = [share for share in shares if share is not None]
        found.append(
            MethodFigures(
                method=method,
                student=student,
                seeds=[cell.seed for cell in group],
                accuracy_mean=statistics.fmean(accuracies),
                accuracy_std=_std(accuracies),
                auc_mean=statistics.fmean(cell.auc[on] for cell in group),
                gap_mean=statistics.fmean(closed) if closed else None,
                gap_std=_std(closed),
                ms_per_image=statistics.fmean(cell.ms_per_image for cell in group),
                images=statistics.fmean(cell.images for cell in group),
            )
        )
    return found


def undistilled_accuracy(cells: Sequence[CellFigures], *, student: str, on: str, baseline: str | None) -> float | None:
    """Mean accuracy of the baseline's finished cells on this student; None if there are none."""
    found = [cell.accuracy[on] for cell in cells if cell.method == baseline and cell.student == student]
    return statistics.fmean(found) if found else None


def gap_share(accuracy: float, *, undistilled: float | None, teacher: float | None) -> float | None:
    """(E_undistilled - E) / (E_undistilled - E_teacher), E = 1 - accuracy: 0 without a teacher, 1 at the teacher.

    None where one of the two is not known, or the teacher makes no fewer errors than the undistilled student: then
    there is no gap.
    """
    if undistilled is None or teacher is None or teacher <= undistilled:
        return None
    return ((1 - undistilled) - (1 - accuracy)) / ((1 - undistilled) - (1 - teacher))


def _std(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
