"""KD, class by class."""

from typing import Any

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import Shapes


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_from_its_definition(make_faces: Any, make_term: Any, temperature: float) -> None:
    faces = make_faces()
    of_student, of_teacher = faces.logits()
    total = 0.0
    for z_s, z_t in zip(of_student, of_teacher, strict=True):
        p_s, p_t = softmax(z_s / temperature), softmax(z_t / temperature)
        total += sum(t * np.log(t / s) for s, t in zip(p_s, p_t, strict=True))
    given = make_term("kd", temperature=temperature)(faces.batch)["divergence"]
    assert float(given.detach()) == pytest.approx(temperature**2 * total / len(of_student), rel=1e-4)


def test_through_the_teachers_classifier_the_teachers_direction_is_agreement(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    term = make_term("kd", classifier="teacher")
    assert not term.needs_student_classifier
    assert float(term(faces.batch)["divergence"]) > 0.01
    faces.student = 3 * faces.teacher.detach()
    faces.own = None
    assert float(term(faces.batch)["divergence"]) == pytest.approx(0, abs=1e-5)


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    faces = make_faces()
    learns_alone(make_term("kd"), faces)
    assert faces.own.centres.grad is not None and float(faces.own.centres.grad.abs().sum()) > 0


def test_unlike_widths_cannot_share_a_classifier(make_term: Any) -> None:
    with pytest.raises(UsageError, match="embedding_width=12"):
        make_term("kd", classifier="teacher", shapes=Shapes(0, (0, 0), 8, None, None, 12, 5))


def test_the_margin_is_no_belief(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    term = make_term("kd")
    before = term(faces.batch)["divergence"]
    faces.labels = torch.roll(faces.labels, 1)
    torch.testing.assert_close(term(faces.batch)["divergence"], before)
