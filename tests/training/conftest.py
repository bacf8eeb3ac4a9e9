"""Small tasks of every method, as a recipe would build them: for what is asked of all of them alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.distillation.task import DistillationTask
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.recipe import Recipe
from facekd.schemas.card import HeadCard
from facekd.training.reproducibility import seed_everything

STUDENT = {
    "scale": 0.25,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 32,
    "embedding_width": 32,
}
TEACHERS = {
    "swin_teacher": {"patch_size": 8, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "embedding_width": 32},
    "vit_teacher": {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "embedding_width": 32},
    "mobilefacenet": STUDENT,
}
PEOPLE = 8


@pytest.fixture(scope="session")
def method_task(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., DistillationTask]:
    """`method_task(teacher or None, *terms, **sections)`: the task on eight people, by a teacher of that network."""
    folder = tmp_path_factory.mktemp("teachers")

    def bundle(kind: str) -> Path:
        place = folder / kind
        if not place.exists():
            model = create_model(kind, **TEACHERS[kind])
            card = describe(model, kind="teacher", name="t", architecture=kind, arguments=TEACHERS[kind])
            card.head = HeadCard(name="cosface", arguments={"scale": 16.0, "margin": 0.2}, num_identities=PEOPLE)
            save_bundle(place, model, card, head_centres=torch.randn(PEOPLE, 32))
        return place

    def make(teacher: str | None, *terms: Any, **sections: Any) -> DistillationTask:
        content = {
            "name": "test",
            "data": {"source": "synthetic:identities=8,images=2", "images_per_identity": 2},
            "model": {"name": "mobilefacenet", "arguments": STUDENT},
            "teacher": {"bundle": str(bundle(teacher))} if teacher else None,
            "distillation": list(terms),
            "training": {"batch_size": 6},
            **sections,
        }
        seed_everything(0)
        return build_task(Recipe.model_validate(content), SyntheticSource(identities=PEOPLE, images=2)).train()

    return make
