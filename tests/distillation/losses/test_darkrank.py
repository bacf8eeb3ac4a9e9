"""DarkRank, query by query."""

from typing import Any

import numpy as np
import pytest
import torch


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.sqrt(((x - y) ** 2).sum()))


@pytest.mark.parametrize("length", [3, 9])
def test_from_its_definition(make_faces: Any, make_term: Any, length: int) -> None:
    faces = make_faces()
    student, teacher = faces.units()
    losses = []
    for query in range(6):
        others = [i for i in range(6) if i != query]
        order = sorted(others, key=lambda i: distance(teacher[query], teacher[i]))[:length]
        scores = [-3 * distance(student[query], student[i]) ** 3 for i in order]
        likelihood = 1.0
        for rank in range(len(order)):
            likelihood *= np.exp(scores[rank]) / sum(np.exp(score) for score in scores[rank:])
        losses.append(-np.log(likelihood))
    given = make_term("darkrank", length=length)(faces.batch)["rank"]
    assert float(given) == pytest.approx(np.mean(losses), rel=1e-4)


def test_agreeing_costs_less_than_reversing(make_faces: Any, make_term: Any) -> None:
    """On a line the ends rank everybody by distance; a student that folds the line over ranks otherwise."""
    faces = make_faces((0, 1, 2, 3))
    angles = torch.tensor([0.0, 0.5, 1.2, 2.0])
    line = torch.stack([angles.cos(), angles.sin()], dim=1)
    faces.teacher, faces.student = line, line
    agreeing = float(make_term("darkrank")(faces.batch)["rank"])
    faces.student = line[[0, 3, 1, 2]]
    assert float(make_term("darkrank")(faces.batch)["rank"]) > agreeing


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("darkrank"), make_faces())


def test_equal_embeddings_have_a_finite_gradient(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    faces.student = torch.ones(6, 8, requires_grad=True)
    make_term("darkrank")(faces.batch)["rank"].backward()
    assert bool(torch.isfinite(faces.student.grad).all())


def test_one_candidate_is_no_ranking(make_faces: Any, make_term: Any) -> None:
    assert float(make_term("darkrank")(make_faces((0, 1)).batch)["rank"].detach()) == 0
