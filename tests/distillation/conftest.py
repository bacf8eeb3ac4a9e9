"""A batch of embeddings as a term sees it, small enough to recompute every formula by plain loops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from facekd.distillation.registry import Shapes, Term, Views, check_term, find_term
from facekd.heads import CosFace


@dataclass
class Faces:
    """Embeddings of both networks [b, 8], identities, and classifiers of 5 identities."""

    student: torch.Tensor
    teacher: torch.Tensor
    labels: torch.Tensor
    own: CosFace
    theirs: CosFace

    @property
    def views(self) -> Views:
        return Views(
            None,
            self.student,
            None,
            None,
            self.teacher,
            self.labels,
            student_classifier=self.own,
            teacher_classifier=self.theirs,
        )

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Both embeddings, each row divided by its length, float64."""
        rows = [e.detach().double().numpy() for e in (self.student, self.teacher)]
        first, second = (np.array([row / np.sqrt((row**2).sum()) for row in one]) for one in rows)
        return first, second

    def logits(self) -> tuple[np.ndarray, np.ndarray]:
        """Scale x cosine to every centre, of the student's and the teacher's own classifier, float64."""
        found = []
        for units, head in zip(self.units(), (self.own, self.theirs), strict=True):
            centres = head.centres.detach().double().numpy()
            found.append(
                np.array([[head.scale * float(u @ c) / np.sqrt((c**2).sum()) for c in centres] for u in units])
            )
        return found[0], found[1]


MakeFaces = Callable[..., Faces]
MakeTerm = Callable[..., Term]


@pytest.fixture
def make_faces() -> MakeFaces:
    """`make_faces(labels)` -> a batch with a face a label; student and teacher ask for gradients."""

    def make(labels: Sequence[int] = (0, 0, 1, 1, 2, 3), *, width: int = 8) -> Faces:
        count = len(labels)
        return Faces(
            student=torch.randn(count, width, requires_grad=True),
            teacher=torch.randn(count, width, requires_grad=True),
            labels=torch.tensor(labels),
            own=CosFace(embedding_width=width, num_identities=5, scale=8.0),
            theirs=CosFace(embedding_width=width, num_identities=5, scale=6.0).requires_grad_(False),
        )

    return make


@pytest.fixture
def make_term() -> MakeTerm:
    """`make_term(name, **settings)` -> the term as a recipe would build it, for embeddings of 8 and 5 identities."""

    def make(name: str, *, shapes: Shapes | None = None, **settings: Any) -> Term:
        entry = find_term(name)
        assert entry.build is not None
        return entry.build(check_term(name, settings), shapes or Shapes(8, (2, 2), 8, 12, (2, 2), 8, 5))

    return make


@pytest.fixture
def learns_alone() -> Callable[[Term, Faces], None]:
    """Asserts that a term's losses move the student and never the teacher."""

    def check(term: Term, faces: Faces) -> None:
        parts = term(faces.views)
        assert parts.keys() == term.weights.keys()
        torch.stack([term.weights[name] * part for name, part in parts.items()]).sum().backward()
        assert faces.student.grad is not None and bool(torch.isfinite(faces.student.grad).all())
        assert float(faces.student.grad.abs().sum()) > 0
        assert faces.teacher.grad is None and faces.theirs.centres.grad is None

    return check
