"""The L2 term, entry by entry, and its relation to the cosine."""

from typing import Any

import numpy as np
import pytest

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import Shapes


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    student, teacher = (e.detach().double().numpy() for e in (faces.student, faces.teacher))
    squares = [(s - t) ** 2 for a, b in zip(student, teacher, strict=True) for s, t in zip(a, b, strict=True)]
    assert float(make_term("embedding_l2")(faces.batch)["distance"]) == pytest.approx(np.mean(squares), rel=1e-5)


def test_on_unit_embeddings_it_is_twice_the_cosine_term(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    distance = make_term("embedding_l2", normalise=True)(faces.batch)["distance"]
    assert float(distance) == pytest.approx(2 * float(make_term("embedding")(faces.batch)["cosine"]), rel=1e-5)


@pytest.mark.parametrize("normalise", [False, True])
def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any, normalise: bool) -> None:
    learns_alone(make_term("embedding_l2", normalise=normalise), make_faces())


@pytest.mark.parametrize("name", ["embedding_l2", "shrinkteanet", "margindistillation", "adadistill"])
def test_unlike_widths_are_refused(make_term: Any, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: the student's embedding is 8 wide"):
        make_term(name, shapes=Shapes(0, (0, 0), 8, None, None, 12, 5))
