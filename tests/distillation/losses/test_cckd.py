"""CCKD, pair by pair, and its series against the kernel it approximates."""

from math import exp, factorial
from typing import Any

import numpy as np
import pytest


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    student, teacher = faces.units()

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return sum(exp(-2 * 0.4) * (2 * 0.4) ** p / factorial(p) * float(x @ y) ** p for p in range(3))

    squares = [
        (kernel(student[i], student[j]) - kernel(teacher[i], teacher[j])) ** 2 for i in range(6) for j in range(6)
    ]
    assert float(make_term("cckd")(faces.batch)["correlation"]) == pytest.approx(np.mean(squares), rel=1e-4)


def test_a_long_series_is_the_gaussian_kernel(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    student, teacher = faces.units()

    def gaussian(x: np.ndarray, y: np.ndarray) -> float:
        return exp(-0.4 * float(((x - y) ** 2).sum()))

    squares = [
        (gaussian(student[i], student[j]) - gaussian(teacher[i], teacher[j])) ** 2 for i in range(6) for j in range(6)
    ]
    given = make_term("cckd", order=12)(faces.batch)["correlation"]
    assert float(given) == pytest.approx(np.mean(squares), rel=1e-4)


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("cckd"), make_faces())
