"""AdaDistill: the centres' movement image by image, the loss class by class, and that the centres are state."""

from math import acos, cos, exp, log
from typing import Any

import numpy as np
import pytest
import torch


def cosine(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y) / np.sqrt(float(x @ x) * float(y @ y))


@pytest.mark.parametrize(("variant", "margin"), [("arc", 0.4), ("cos", 0.3)])
def test_from_its_definition(make_faces: Any, make_term: Any, variant: str, margin: float) -> None:
    faces = make_faces()
    # Most teachers near their centres and most students near their teachers, so that a is neither 0 nor 1.
    term = make_term("adadistill", variant=variant, margin=margin, scale=12)
    faces.teacher = term.head.centres[faces.labels] / 0.03 + 0.5 * torch.randn(6, 8)
    faces.student = (faces.teacher + 0.5 * torch.randn(6, 8)).requires_grad_()
    student, teacher = faces.units()
    before = term.head.centres.double().numpy()
    labels = faces.labels.tolist()
    expected = before.copy()
    alphas = []
    for y in set(labels):
        updates = []
        for i in [i for i in range(6) if labels[i] == y]:
            near = min(max(cosine(before[y], teacher[i]), 1e-6), 1)
            alpha = min(max(float(student[i] @ teacher[i]) * near, 1e-6), 1)
            alphas.append(alpha)
            updates.append(alpha * before[y] + (1 - alpha) * teacher[i])
        expected[y] = sum(updates) / len(updates)
    assert 0.05 < np.mean(alphas) < 0.95
    given = float(term(faces.batch)["identity"].detach())
    np.testing.assert_allclose(term.head.centres.numpy(), expected, atol=1e-5)
    assert np.array_equal(term.head.centres.double().numpy()[4], before[4])  # nobody of identity 4 was seen
    assert term.diagnostics()["adadistill.alpha"] == pytest.approx(np.mean(alphas), rel=1e-4)

    losses = []
    for i, y in enumerate(labels):
        cosines = [cosine(student[i], centre) for centre in expected]
        logits = [12 * c for c in cosines]
        logits[y] = 12 * (cos(acos(cosines[y]) + margin) if variant == "arc" else cosines[y] - margin)
        losses.append(-log(exp(logits[y]) / sum(exp(z) for z in logits)))
    assert given == pytest.approx(np.mean(losses), rel=1e-4)


def test_centres_are_saved_but_never_optimised_and_stay_in_evaluation(make_faces: Any, make_term: Any) -> None:
    term = make_term("adadistill")
    assert list(term.parameters()) == []
    assert list(term.state_dict()) == ["head.centres"]
    before = term.head.centres.clone()
    term.eval()(make_faces().batch)
    assert torch.equal(term.head.centres, before)
    term.train()(make_faces().batch)
    assert not torch.equal(term.head.centres, before)


def test_only_the_student_learns(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    learns_alone(make_term("adadistill"), make_faces())
