"""Triplet distillation, triplet by triplet."""

from typing import Any

import numpy as np
import pytest

from facekd.common.errors import UsageError


def squared(x: np.ndarray, y: np.ndarray) -> float:
    return float(((x - y) ** 2).sum())


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    student, teacher = faces.units()
    labels = faces.labels.tolist()
    triplets = [
        (a, p, n)
        for a in range(6)
        for p in range(6)
        for n in range(6)
        if a != p and labels[a] == labels[p] and labels[n] != labels[a]
    ]
    assert len(triplets) == 16  # two pairs, each both ways round, with four others
    gaps = [
        max(squared(teacher[a], teacher[n]) - squared(teacher[a], teacher[p]), 0)  # d
        for a, p, n in triplets
    ]
    margins = [(0.5 - 0.2) / max(gaps) * gap + 0.2 for gap in gaps]
    losses = [
        max(squared(student[a], student[p]) - squared(student[a], student[n]) + margin, 0)
        for (a, p, n), margin in zip(triplets, margins, strict=True)
    ]
    term = make_term("tripletdistill")
    assert float(term(faces.batch)["triplet"]) == pytest.approx(np.mean(losses), rel=1e-4)
    assert term.diagnostics() == {"tripletdistill.triplets": 16}


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("tripletdistill"), make_faces())


@pytest.mark.parametrize("labels", [(0, 1, 2, 3), (1, 1, 1)], ids=["no positive", "no negative"])
def test_a_batch_without_triplets_costs_nothing_and_has_a_gradient(
    make_faces: Any, make_term: Any, labels: tuple[int, ...]
) -> None:
    faces = make_faces(labels)
    loss = make_term("tripletdistill")(faces.batch)["triplet"]
    loss.backward()
    assert float(loss.detach()) == 0 and float(faces.student.grad.abs().sum()) == 0


def test_margins_in_the_wrong_order_are_refused(make_term: Any) -> None:
    with pytest.raises(UsageError, match="below min_margin"):
        make_term("tripletdistill", min_margin=0.4, max_margin=0.3)
