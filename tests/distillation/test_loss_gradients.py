"""The calibration of weights: what a term pulls is what backward leaves in the student."""

from pathlib import Path
from typing import Any

import pytest
import torch

from facekd.benchmarks.studies.term_gradients import measure
from facekd.common.errors import UsageError
from facekd.distillation.build import build_task
from facekd.sweep.grid import SweepCell
from facekd.training.reproducibility import seed_everything
from facekd.training.stream import BatchStream

TRAINING = {"batch_size": 6, "max_steps": 4, "precision": "fp32", "channels_last": False, "device": "cpu"}
METHODS: dict[str, tuple[Any, ...]] = {
    "cosine": (0.1, {"embedding": {"weight": 10}}),
    "cosine-weak": (0, {"embedding": {"weight": 2}}),
    "rkd": (0, {"rkd": {"distance_weight": 3, "angle_weight": 5}}),
    "maps": (0, {"fitnet": {"weight": 1}}),
}


def cells(tiny: Any, teacher: Path) -> list[SweepCell]:
    return [
        SweepCell(name, "s", 0, tiny.recipe(teacher, *terms, head={"weight": weight}, training=TRAINING))
        for name, (weight, *terms) in METHODS.items()
    ]


def quiet(line: str) -> None:
    assert line


def test_a_pull_is_the_gradient_of_the_loss_itself(tiny: Any, teacher: Path) -> None:
    """At the first step of all, with the recipe's own weights, by one backward of the whole loss."""
    found = measure(cells(tiny, teacher), "cosine", steps=0, settle=0, batches=1, say=quiet)
    pulls = {(one.method, one.part): one for one in found}
    recipe = cells(tiny, teacher)[2].recipe
    seed_everything(recipe.seed)
    task = build_task(recipe, tiny.source).train()
    task.student.load_state_dict(_student_of(tiny, teacher))
    batch = BatchStream(recipe, tiny.source).first_batch()
    task(batch["images"], batch["labels"]).loss.backward()
    norm = torch.cat([p.grad.flatten() for p in task.student.parameters() if p.grad is not None]).norm()
    together = pulls["rkd", "all its terms"]
    assert together.gradient == pytest.approx(float(norm), rel=1e-4)

    assert {part for method, part in pulls if method == "cosine"} == {"identity", "embedding.cosine"}
    scale = 10 * pulls["cosine", "embedding.cosine"].gradient
    assert pulls["cosine", "embedding.cosine"].equal_weight == pytest.approx(10)
    assert pulls["cosine-weak", "embedding.cosine"].equal_weight == pytest.approx(10)  # whatever its weight is now
    assert together.equal_weight == pytest.approx(scale / together.gradient)


def _student_of(tiny: Any, teacher: Path) -> dict[str, torch.Tensor]:
    recipe = cells(tiny, teacher)[0].recipe
    seed_everything(recipe.seed)
    return build_task(recipe, tiny.source).student.state_dict()


def test_all_methods_start_from_what_the_reference_learnt(tiny: Any, teacher: Path) -> None:
    found = measure(cells(tiny, teacher), "cosine", steps=2, settle=2, batches=2, say=quiet)
    by_method = {one.method: one for one in found if one.part == "embedding.cosine"}
    assert by_method["cosine"].gradient == pytest.approx(by_method["cosine-weak"].gradient)
    before = measure(cells(tiny, teacher), "cosine", steps=0, settle=0, batches=2, say=quiet)
    assert by_method["cosine"].loss < next(one.loss for one in before if one.part == "embedding.cosine")
    with pytest.raises(UsageError, match="give a method with a term: cosine, cosine-weak, rkd, maps"):
        measure(cells(tiny, teacher), "none", steps=1, settle=0, batches=1)
