"""The similarity term, pair by pair, and what it must not depend on."""

import numpy as np
import pytest
import torch

from facekd.distillation.losses.base import DistillationBatch, Shapes
from facekd.distillation.losses.similarity import SimilarityLoss, SimilaritySettings

SHAPES = Shapes(0, (0, 0), 8, None, None, 12)


def batch(student: torch.Tensor, teacher: torch.Tensor) -> DistillationBatch:
    return DistillationBatch(None, student, None, None, teacher, torch.zeros(len(student), dtype=torch.int64))


def term() -> SimilarityLoss:
    return SimilarityLoss(SimilaritySettings(), SHAPES)


def test_from_its_definition() -> None:
    student, teacher = torch.randn(5, 8), torch.randn(5, 12)

    def cosine(rows: np.ndarray, i: int, j: int) -> float:
        return float(rows[i] @ rows[j] / np.linalg.norm(rows[i]) / np.linalg.norm(rows[j]))

    s, t = student.double().numpy(), teacher.double().numpy()
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    expected = np.mean([(cosine(s, i, j) - cosine(t, i, j)) ** 2 for i, j in pairs])
    assert float(term()(batch(student, teacher))["gram"]) == pytest.approx(float(expected), abs=1e-6)


def test_a_rotated_and_scaled_teacher_is_perfect_agreement() -> None:
    teacher = torch.randn(6, 8)
    rotation = torch.linalg.qr(torch.randn(8, 8)).Q
    student = (teacher @ rotation) * torch.rand(6, 1).add(0.5)
    assert float(term()(batch(student, teacher))["gram"]) < 1e-10


def test_only_the_student_gets_a_gradient() -> None:
    student, teacher = torch.randn(4, 8, requires_grad=True), torch.randn(4, 12, requires_grad=True)
    term()(batch(student, teacher))["gram"].backward()
    assert student.grad is not None and float(student.grad.abs().sum()) > 0
    assert teacher.grad is None


def test_a_batch_of_one_has_no_pairs() -> None:
    assert float(term()(batch(torch.randn(1, 8), torch.randn(1, 12)))["gram"]) < 1e-12
