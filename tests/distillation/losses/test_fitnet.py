"""FitNet on maps, place by place."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch, Shapes


def views_of(faces: Any, *, places: int) -> DistillationBatch:
    return replace(
        faces.batch,
        student_tokens=torch.randn(6, places, 8, requires_grad=True),
        teacher_tokens=torch.randn(6, 4, 12, requires_grad=True),
    )


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    term, batch = make_term("fitnet"), views_of(make_faces(), places=4)
    weight, bias = (p.detach().double().numpy() for p in (term.adapt.weight, term.adapt.bias))
    student, teacher = (t.detach().double().numpy() for t in (batch.student_tokens, batch.teacher_tokens))
    squares = [
        (teacher[i, place, d] - (weight[d] @ student[i, place] + bias[d])) ** 2
        for i in range(6)
        for place in range(4)
        for d in range(12)
    ]
    loss = term(batch)["map"]
    assert float(loss) == pytest.approx(np.mean(squares), rel=1e-4)
    loss.backward()
    assert batch.student_tokens is not None and batch.student_tokens.grad is not None
    assert term.adapt.weight.grad is not None
    assert batch.teacher_tokens is not None and batch.teacher_tokens.grad is None


def test_the_adapter_is_a_1x1_convolution_and_finer_maps_are_averaged(make_faces: Any, make_term: Any) -> None:
    term = make_term("fitnet", shapes=Shapes(8, (4, 4), 8, 12, (2, 2), 8))
    batch = views_of(make_faces(), places=16)
    assert batch.student_tokens is not None and batch.teacher_tokens is not None
    grid = batch.student_tokens.transpose(1, 2).reshape(6, 8, 4, 4)
    pooled = torch.nn.functional.avg_pool2d(grid, 2)
    convolved = torch.nn.functional.conv2d(pooled, term.adapt.weight[:, :, None, None], term.adapt.bias)
    expected = (convolved - batch.teacher_tokens.transpose(1, 2).reshape(6, 12, 2, 2)).square().mean()
    torch.testing.assert_close(term(batch)["map"], expected)


def test_a_teacher_without_tokens_is_refused(make_term: Any) -> None:
    with pytest.raises(UsageError, match="needs a teacher with tokens"):
        make_term("fitnet", shapes=Shapes(8, (2, 2), 8, None, None, 8))
