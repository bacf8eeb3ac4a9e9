"""What the tests of distillation share.

A batch of embeddings as a term sees it, small enough to recompute every formula by plain loops; and networks, data and
recipes small enough to train within a test.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss, Shapes
from facekd.distillation.task import DistillationTask
from facekd.heads import CosFace
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.recipe import Recipe
from facekd.recipe.methods import check_settings, find_method
from facekd.schemas.card import HeadCard


@dataclass
class Faces:
    """Embeddings of both networks [b, 8], identities, and classifiers of 5 identities."""

    student: torch.Tensor
    teacher: torch.Tensor
    labels: torch.Tensor
    own: CosFace
    theirs: CosFace

    @property
    def batch(self) -> DistillationBatch:
        return DistillationBatch(
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
MakeLoss = Callable[..., DistillationLoss]


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
def make_term() -> MakeLoss:
    """`make_term(name, **settings)` -> the term as a recipe would build it, for embeddings of 8 and 5 identities."""

    def make(name: str, *, shapes: Shapes | None = None, **settings: Any) -> DistillationLoss:
        method: Any = find_method(name)
        return method(check_settings(name, method, settings), shapes or Shapes(8, (2, 2), 8, 12, (2, 2), 8, 5))

    return make


@pytest.fixture
def learns_alone() -> Callable[[DistillationLoss, Faces], None]:
    """Asserts that a term's losses move the student and never the teacher."""

    def check(term: DistillationLoss, faces: Faces) -> None:
        parts = term(faces.batch)
        assert parts.keys() == term.weights.keys()
        torch.stack([term.weights[name] * part for name, part in parts.items()]).sum().backward()
        assert faces.student.grad is not None and bool(torch.isfinite(faces.student.grad).all())
        assert float(faces.student.grad.abs().sum()) > 0
        assert faces.teacher.grad is None and faces.theirs.centres.grad is None

    return check


class Tiny:
    """Six people, two images each; a student; a Swin and a CNN to be teachers, all with embeddings of 32."""

    def __init__(self) -> None:
        self.student: dict[str, Any] = {
            "scale": 0.25,
            "mid_multiplier": 0.125,
            "blocks": [1, 1, 1, 1],
            "feature_channels": 32,
            "embedding_width": 32,
        }
        self.swin: dict[str, Any] = {
            "patch_size": 8,
            "embed_dim": 16,
            "depths": [1, 2],
            "num_heads": [1, 2],
            "embedding_width": 32,
            "drop_path_rate": 0.2,
        }
        self.cnn: dict[str, Any] = {**self.student, "feature_channels": 24, "activation": "relu"}
        self.source = SyntheticSource(identities=6, images=2)

    def save_teacher(
        self, path: Path, *, network: str = "swin_teacher", identities: int = 6, with_head: bool = True
    ) -> Path:
        """Writes a teacher's bundle with random weights; its head is a CosFace of scale 16 and margin 0.2."""
        arguments = self.swin if network == "swin_teacher" else self.cnn
        torch.manual_seed(3)
        model = create_model(network, **arguments)
        card = describe(model, kind="teacher", name="tiny", architecture=network, arguments=arguments)
        centres = None
        if with_head:
            card.head = HeadCard(name="cosface", arguments={"scale": 16.0, "margin": 0.2}, num_identities=identities)
            centres = torch.randn(identities, 32)
        return save_bundle(path, model, card, head_centres=centres)

    def recipe(self, bundle: Path | None, *terms: Any, **sections: Any) -> Recipe:
        """The student, learning from `bundle` by `terms`; `sections` replace those of the recipe."""
        content = {
            "name": "test",
            "data": {"source": "synthetic:identities=6,images=2"},
            "model": {"name": "mobilefacenet", "arguments": self.student},
            "teacher": {"bundle": str(bundle)} if bundle else None,
            "distillation": list(terms),
            **sections,
        }
        return Recipe.model_validate(content)

    def batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Both images of three people: uint8 [6, 3, 112, 112] and labels [6]."""
        images = np.stack([self.source.read(i) for i in range(6)]).transpose(0, 3, 1, 2)
        return torch.from_numpy(images.copy()), torch.from_numpy(self.source.labels[:6].copy())

    def train(self, task: DistillationTask, steps: int = 3) -> None:
        """So many steps of AdamW on that batch, for everything that the task says is to learn."""
        images, labels = self.batch()
        task.train()
        optimisers = [
            torch.optim.AdamW(group.parameters, lr=1e-2, weight_decay=group.weight_decay)
            for group in task.parameter_groups()
        ]
        for _ in range(steps):
            task.zero_grad()
            task(images, labels).loss.backward()
            for optimiser in optimisers:
                optimiser.step()


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture(scope="session")
def teacher(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Swin's bundle, with its head."""
    return tiny.save_teacher(tmp_path_factory.mktemp("teacher") / "bundle")


@pytest.fixture(scope="session")
def cnn_teacher(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CNN's bundle, with its head."""
    return tiny.save_teacher(tmp_path_factory.mktemp("cnn") / "bundle", network="mobilefacenet")
