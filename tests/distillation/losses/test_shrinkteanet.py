"""The angular distillation loss, image by image."""

from typing import Any

import numpy as np
import pytest


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    squares = [(1 - float(s @ t)) ** 2 for s, t in zip(*faces.units(), strict=True)]
    assert float(make_term("shrinkteanet")(faces.batch)["angular"]) == pytest.approx(np.mean(squares), rel=1e-5)


def test_the_opposite_direction_costs_four(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    faces.student = -2 * faces.teacher.detach()
    assert float(make_term("shrinkteanet")(faces.batch)["angular"]) == pytest.approx(4, rel=1e-5)


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("shrinkteanet"), make_faces())
