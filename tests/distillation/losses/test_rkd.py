"""RKD, pair by pair and triplet by triplet."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch


def huber(x: float) -> float:
    return 0.5 * x**2 if abs(x) <= 1 else abs(x) - 0.5


def length(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).sum()))


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    student, teacher = faces.units()
    given = make_term("rkd")(faces.batch)

    def psi_distance(x: np.ndarray) -> dict[tuple[int, int], float]:
        pairs = {(i, j): length(x[i] - x[j]) for i, j in permutations(range(6), 2)}
        mean = sum(pairs.values()) / len(pairs)
        return {pair: value / mean for pair, value in pairs.items()}

    of_student, of_teacher = psi_distance(student), psi_distance(teacher)
    expected = np.mean([huber(of_student[pair] - of_teacher[pair]) for pair in of_student])
    assert float(given["distance"]) == pytest.approx(expected, rel=1e-4)

    def psi_angle(x: np.ndarray, i: int, j: int, k: int) -> float:
        one, other = x[i] - x[j], x[k] - x[j]
        return float(one @ other) / length(one) / length(other)

    triplets = list(permutations(range(6), 3))
    expected = np.mean([huber(psi_angle(student, *t) - psi_angle(teacher, *t)) for t in triplets])
    assert float(given["angle"]) == pytest.approx(expected, rel=1e-4)


def test_rotation_and_length_do_not_matter(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    faces.student = faces.teacher.detach() @ rotation * torch.rand(6, 1).add(0.5)
    assert sum(float(part) for part in make_term("rkd")(faces.batch).values()) < 1e-9


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("rkd"), make_faces())


def test_equal_embeddings_have_a_finite_gradient(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    faces.student = torch.ones(6, 8, requires_grad=True)
    torch.stack(list(make_term("rkd")(faces.batch).values())).sum().backward()
    assert bool(torch.isfinite(faces.student.grad).all())


@pytest.mark.parametrize("labels", [(0,), (0, 1)])
def test_small_batches_have_no_triplets(make_faces: Any, make_term: Any, labels: tuple[int, ...]) -> None:
    parts = make_term("rkd")(make_faces(labels).batch)
    assert float(parts["angle"].detach()) == 0
