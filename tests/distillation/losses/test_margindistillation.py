"""MarginDistillation, image by image and class by class."""

from math import acos, cos, exp, log
from typing import Any

import numpy as np
import pytest
import torch


def test_from_its_definition(make_faces: Any, make_term: Any) -> None:
    faces = make_faces()
    # Near their centres, as a trained teacher is, but for one that is turned away.
    centres = faces.theirs.centres.detach()[faces.labels]
    faces.teacher = centres + 0.005 * torch.randn(6, 8)
    faces.teacher[0] = -centres[0]
    student, teacher = faces.units()
    raw = faces.theirs.centres.double().numpy()
    units = np.array([centre / np.sqrt((centre**2).sum()) for centre in raw])
    labels = faces.labels.tolist()
    closeness = [max(float(teacher[i] @ units[labels[i]]), 0) for i in range(6)]
    losses = []
    for i in range(6):
        margin = (0.5 - 0.2) / max(closeness) * closeness[i] + 0.2
        cosines = [float(student[i] @ centre) for centre in units]
        assert acos(cosines[labels[i]]) + margin < np.pi  # the continuation beyond pi is the head's, tested there
        logits = [16 * c for c in cosines]
        logits[labels[i]] = 16 * cos(acos(cosines[labels[i]]) + margin)
        losses.append(-log(exp(logits[labels[i]]) / sum(exp(z) for z in logits)))
    given = make_term("margindistillation", scale=16)(faces.batch)["identity"]
    assert float(given) == pytest.approx(np.mean(losses), rel=1e-4)


def test_only_the_student_learns_and_the_centres_stay(make_faces: Any, make_term: Any, learns_alone: Any) -> None:
    faces = make_faces()
    before = faces.theirs.centres.clone()
    learns_alone(make_term("margindistillation"), faces)
    assert torch.equal(faces.theirs.centres, before)
