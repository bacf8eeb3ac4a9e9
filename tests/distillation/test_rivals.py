"""Every rival in a recipe: built, combined, trained, refused where it lacks something, resumed with its state."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from facekd.common.errors import UsageError
from facekd.distillation.build import build_task
from facekd.distillation.task import DistillationTask
from facekd.recipe.methods import find_method

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


def step(task: DistillationTask, batch: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
    out = task.train()(*batch)
    task.zero_grad()
    out.loss.backward()
    return out.parts


def test_every_rival_of_the_list_is_a_term() -> None:
    assert all(find_method(name).teaches == "student" for name in (*RIVALS, "embedding", "similarity", "urfm"))


@pytest.mark.parametrize("name", RIVALS)
def test_each_trains_the_student_alone(tiny: Any, teacher: Path, name: str) -> None:
    head = {"weight": 0 if name in OWN_LOSS else 1}
    task = build_task(tiny.recipe(teacher, name, head=head), tiny.source)
    parts = step(task, tiny.batch())
    assert {part.split(".")[0] for part in parts} == ({name} if name in OWN_LOSS else {name, "identity"})
    assert all(bool(torch.isfinite(part)) for part in parts.values())
    gradient = next(task.student.parameters()).grad
    assert gradient is not None and float(gradient.abs().sum()) > 0
    assert all(p.grad is None for p in task.teacher.parameters())  # type: ignore[union-attr]
    listed = [p for group in task.parameter_groups() for p in group.parameters]
    assert all(p.requires_grad for p in listed)


def test_all_of_them_at_once_with_urfm_and_apt(tiny: Any, teacher: Path) -> None:
    urfm = {"local_centres": 4, "width": 16, "heads": 2}
    terms = [{"urfm": urfm}, {"apt": {"prompts": 2}}, *({name: {}} for name in (*RIVALS, "embedding", "similarity"))]
    task = build_task(tiny.recipe(teacher, *terms), tiny.source)
    parts = step(task, tiny.batch())
    assert {part.split(".")[0] for part in parts} == {*RIVALS, "embedding", "similarity", "urfm", "identity", "teacher"}


def test_moving_centres_and_thresholds_survive_a_checkpoint(tiny: Any, teacher: Path) -> None:
    terms = ("adadistill", "ekd")
    one, two = (build_task(tiny.recipe(teacher, *terms), tiny.source) for _ in range(2))
    step(one, tiny.batch())
    state = copy.deepcopy(one.trainable_state_dict())
    assert {"terms.adadistill.head.centres", "terms.ekd.student_thresholds"} <= state.keys()
    assert not any(key.startswith("teacher.classifier") for key in state)
    two.load_trainable_state_dict(state)
    for task in (one, two):
        step(task, tiny.batch())
    torch.testing.assert_close(one.trainable_state_dict(), two.trainable_state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["kd", "gkd", "ofa", "margindistillation"])
def test_a_teacher_without_classes_is_refused(tiny: Any, tmp_path: Path, name: str) -> None:
    bare = tiny.save_teacher(tmp_path / "bare", with_head=False)
    with pytest.raises(UsageError, match=f"{name}: teacher .* carries no head; use a term that follows embeddings"):
        build_task(tiny.recipe(bare, name), tiny.source)


@pytest.mark.parametrize("name", ["kd", "gkd", "ofa"])
def test_comparing_classes_needs_the_students_head(tiny: Any, teacher: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} compares the student's own classes: head.weight must be above 0"):
        build_task(tiny.recipe(teacher, name, head={"weight": 0}), tiny.source)


@pytest.mark.parametrize("name", ["tripletdistill", "ekd"])
def test_learning_from_pairs_needs_batches_that_hold_some(tiny: Any, teacher: Path, name: str) -> None:
    """A batch of 2 of 12 images holds one of 66 pairs, and 6 of those 66 are of one identity: 1/11 on average."""
    few = {"batch_size": 2}
    with pytest.raises(UsageError, match=r"a batch of 2 from .* holds 0\.091 on average: set data.images_per_identity"):
        build_task(tiny.recipe(teacher, name, training=few), tiny.source)
    data = {"source": "synthetic:identities=6,images=2", "images_per_identity": 2}
    build_task(tiny.recipe(teacher, name, training=few, data=data), tiny.source)
    build_task(tiny.recipe(teacher, {"ekd": {"positive_weight": 0}}, training=few), tiny.source)


def test_proxylesskd_is_the_inherited_frozen_classifier_and_nothing_else(tiny: Any, teacher: Path) -> None:
    head = {"name": "cosface", "init": "teacher", "freeze": True}
    task = build_task(tiny.recipe(teacher, head=head), tiny.source)
    kd = build_task(tiny.recipe(teacher, "kd"), tiny.source)
    assert task.head is not None and kd.teacher.classifier is not None and task.teacher is None
    cosines = torch.nn.functional.cosine_similarity(task.head.centres, kd.teacher.classifier.centres)
    torch.testing.assert_close(cosines, torch.ones(6))
    assert step(task, tiny.batch()).keys() == {"identity"}
    assert task.head.centres.grad is None
    assert task.origin is not None and task.origin.name == "tiny"  # the student's card names whose classes it learnt
