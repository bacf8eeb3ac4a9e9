"""OFA-KD, class by class."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from facekd.distillation.losses.base import DistillationBatch


def softmax(row: np.ndarray) -> np.ndarray:
    return np.exp(row) / np.exp(row).sum()


def adaptive_loss(of_student: np.ndarray, of_teacher: np.ndarray, labels: list[int], *, gamma: float) -> float:
    losses = []
    for z_s, z_t, y in zip(of_student, of_teacher, labels, strict=True):
        p_s, p_t = softmax(z_s), softmax(z_t)
        others = sum(p_t[c] * np.log(p_s[c]) for c in range(len(p_s)) if c != y)
        losses.append(-((1 + p_t[y]) ** gamma) * np.log(p_s[y]) - others)
    return float(np.mean(losses))


def with_map(faces: Any) -> DistillationBatch:
    return replace(faces.batch, student_tokens=torch.randn(6, 4, 8, requires_grad=True))


@pytest.mark.parametrize("gamma", [1.0, 1.5])
def test_from_its_definition(make_faces: Any, make_term: Any, gamma: float) -> None:
    faces, term = make_faces(), make_term("ofa", gamma=gamma, width=16)
    batch = with_map(faces)
    of_student, of_teacher = faces.logits()
    labels = faces.labels.tolist()
    given = term(batch)
    expected = adaptive_loss(of_student, of_teacher, labels, gamma=gamma)
    assert float(given["logits"]) == pytest.approx(expected, rel=1e-4)
    # The branch as it is described: 1x1 convolution, GELU, mean over places, linear.
    entered = nn.functional.conv1d(batch.student_tokens.transpose(1, 2), term.enter.weight[:, :, None], term.enter.bias)
    exits = term.classify(nn.functional.gelu(entered).mean(dim=2)).detach().double().numpy()
    assert float(given["exit"]) == pytest.approx(adaptive_loss(exits, of_teacher, labels, gamma=gamma), rel=1e-4)


def test_with_gamma_one_the_logits_part_is_kd_plus_cross_entropy(make_faces: Any, make_term: Any) -> None:
    """-(1 + p) log q = cross entropy + KD's own term: what the modulation starts from [paper]."""
    faces = make_faces()
    of_student, of_teacher = faces.logits()
    target = torch.from_numpy(of_teacher).softmax(dim=1)
    entropy = -(target * target.log()).sum(dim=1).mean()
    cross_entropy = nn.functional.cross_entropy(torch.from_numpy(of_student), faces.labels)
    divergence = make_term("kd", temperature=1)(faces.batch)["divergence"].detach()
    given = make_term("ofa")(with_map(faces))["logits"]
    assert float(given) == pytest.approx(float(cross_entropy + entropy + divergence), rel=1e-4)


def test_without_the_students_logits_it_needs_no_head(make_faces: Any, make_term: Any) -> None:
    faces, term = make_faces(), make_term("ofa", logits_weight=0)
    faces.own = None
    assert not term.needs_student_classifier
    batch = with_map(faces)
    parts = term(batch)
    assert parts.keys() == {"exit"}
    parts["exit"].backward()
    assert batch.student_tokens is not None and batch.student_tokens.grad is not None
    assert faces.teacher.grad is None
