"""Every rival in a recipe: built, combined, trained, refused where it lacks something, resumed with its state."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from facekd.data.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.distillation.registry import find_term
from facekd.distillation.task import Task
from facekd.errors import UsageError
from facekd.models.bundle import HeadCard, describe, save_bundle
from facekd.models.registry import create_model
from facekd.recipe import Recipe

SWIN: dict[str, Any] = {
    "patch_size": 8,
    "embed_dim": 16,
    "depths": [1, 1],
    "num_heads": [1, 2],
    "embedding_width": 16,
}
STUDENT: dict[str, Any] = {
    "scale": 0.25,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 16,
    "embedding_width": 16,
}
SOURCE = SyntheticSource(identities=4, images=2)
OWN_LOSS = ("adadistill", "margindistillation")  # they take the head's place
RIVALS = (
    "kd",
    "embedding_l2",
    "rkd",
    "cckd",
    "darkrank",
    "shrinkteanet",
    "tripletdistill",
    "margindistillation",
    "ekd",
    "gkd",
    "adadistill",
    "fitnet",
    "ofa",
)


def write_teacher(path: Path, *, with_head: bool) -> Path:
    torch.manual_seed(3)
    model = create_model("swin_teacher", **SWIN)
    card = describe(model, kind="teacher", name="tiny", architecture="swin_teacher", arguments=SWIN)
    centres = None
    if with_head:
        card.head = HeadCard(name="cosface", arguments={"scale": 16.0, "margin": 0.2}, num_identities=4)
        centres = torch.randn(4, 16)
    save_bundle(path, model, card, head_centres=centres)
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher") / "bundle", with_head=True)


def recipe(bundle: Path | None, *terms: Any, **sections: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "test",
            "data": {"source": "synthetic:identities=4,images=2"},
            "model": {"name": "mobilefacenet", "arguments": STUDENT},
            "teacher": {"bundle": str(bundle)} if bundle else None,
            "distillation": list(terms),
            **sections,
        }
    )


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = np.stack([SOURCE.read(i) for i in range(6)]).transpose(0, 3, 1, 2)
    return torch.from_numpy(images.copy()), torch.from_numpy(SOURCE.labels[:6].copy())


def step(task: Task) -> dict[str, torch.Tensor]:
    out = task.train()(*batch())
    task.zero_grad()
    out.loss.backward()
    return out.parts


def test_every_rival_of_the_list_is_a_term() -> None:
    assert all(find_term(name).build is not None for name in (*RIVALS, "embedding", "similarity", "urfm"))


@pytest.mark.parametrize("name", RIVALS)
def test_each_trains_the_student_alone(teacher: Path, name: str) -> None:
    head = {"weight": 0 if name in OWN_LOSS else 1}
    task = build_task(recipe(teacher, name, head=head), SOURCE)
    parts = step(task)
    assert {part.split(".")[0] for part in parts} == ({name} if name in OWN_LOSS else {name, "identity"})
    assert all(bool(torch.isfinite(part)) for part in parts.values())
    gradient = next(task.student.parameters()).grad
    assert gradient is not None and float(gradient.abs().sum()) > 0
    assert all(p.grad is None for p in task.teacher.parameters())  # type: ignore[union-attr]
    listed = [p for group in task.parameter_groups() for p in group.parameters]
    assert all(p.requires_grad for p in listed)


def test_all_of_them_at_once_with_urfm_and_apt(teacher: Path) -> None:
    urfm = {"local_centres": 4, "width": 16, "heads": 2}
    terms = [{"urfm": urfm}, {"apt": {"prompts": 2}}, *({name: {}} for name in (*RIVALS, "embedding", "similarity"))]
    task = build_task(recipe(teacher, *terms), SOURCE)
    parts = step(task)
    assert {part.split(".")[0] for part in parts} == {*RIVALS, "embedding", "similarity", "urfm", "identity", "teacher"}


def test_moving_centres_and_thresholds_survive_a_checkpoint(teacher: Path) -> None:
    terms = ("adadistill", "ekd")
    one, two = (build_task(recipe(teacher, *terms), SOURCE) for _ in range(2))
    step(one)
    state = copy.deepcopy(one.trainable_state_dict())
    assert {"terms.adadistill.head.centres", "terms.ekd.student_thresholds"} <= state.keys()
    assert not any(key.startswith("teacher_head") for key in state)
    two.load_trainable_state_dict(state)
    for task in (one, two):
        step(task)
    torch.testing.assert_close(one.trainable_state_dict(), two.trainable_state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["kd", "gkd", "ofa", "margindistillation"])
def test_a_teacher_without_classes_is_refused(tmp_path: Path, name: str) -> None:
    bare = write_teacher(tmp_path / "bare", with_head=False)
    with pytest.raises(UsageError, match=f"{name}: teacher .* carries no head; use a term that follows embeddings"):
        build_task(recipe(bare, name), SOURCE)


@pytest.mark.parametrize("name", ["kd", "gkd", "ofa"])
def test_comparing_classes_needs_the_students_head(teacher: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} compares the student's own classes: head.weight must be above 0"):
        build_task(recipe(teacher, name, head={"weight": 0}), SOURCE)


@pytest.mark.parametrize("name", ["tripletdistill", "ekd"])
def test_learning_from_pairs_needs_batches_that_hold_some(teacher: Path, name: str) -> None:
    """A batch of 2 of 8 images holds one of 28 pairs, and 4 of those 28 are of one identity: 1/7 on average."""
    few = {"batch_size": 2}
    with pytest.raises(UsageError, match=r"a batch of 2 from .* holds 0\.14 on average: set data.images_per_identity"):
        build_task(recipe(teacher, name, training=few), SOURCE)
    data = {"source": "synthetic:identities=4,images=2", "images_per_identity": 2}
    build_task(recipe(teacher, name, training=few, data=data), SOURCE)
    build_task(recipe(teacher, {"ekd": {"positive_weight": 0}}, training=few), SOURCE)


def test_proxylesskd_is_the_inherited_frozen_classifier_and_nothing_else(teacher: Path) -> None:
    head = {"name": "cosface", "init": "teacher", "freeze": True}
    task = build_task(recipe(teacher, head=head), SOURCE)
    kd = build_task(recipe(teacher, "kd"), SOURCE)
    assert task.head is not None and kd.teacher_head is not None and task.teacher is None
    cosines = torch.nn.functional.cosine_similarity(task.head.centres, kd.teacher_head.centres)
    torch.testing.assert_close(cosines, torch.ones(4))
    assert step(task).keys() == {"identity"}
    assert task.head.centres.grad is None
    assert task.origin is not None and task.origin.name == "tiny"  # the student's card names whose classes it learnt
