"""Every method on a device that is not there: tensors say that they are on CUDA, and have no values.

`FakeTensorMode` runs shapes, types and devices only. A constant left on the CPU among CUDA tensors, a value read by the
host and a shape that depends on values are errors. The autograd engine itself asks a driver for the device, so backward
is not run here: gradients are put in by hand for clipping and the optimiser's step. What the arithmetic gives on a
device is for the tests marked as needing a GPU.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facekd.data.sources.synthetic import SyntheticSource
from facekd.distillation.build import build_task
from facekd.distillation.losses.base import LOSSES
from facekd.distillation.task import DistillationTask
from facekd.heads import HEADS
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.recipe import Recipe
from facekd.schemas.card import HeadCard
from facekd.training.optimisation import Optimisers, Schedule

STUDENT = {
    "scale": 0.25,
    "mid_multiplier": 0.125,
    "blocks": [1, 1, 1, 1],
    "feature_channels": 32,
    "embedding_width": 32,
}
SWIN = {"patch_size": 8, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "embedding_width": 32}
VIT = {"patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "embedding_width": 32}
PEOPLE = 8


def onto_fake_cuda(module: nn.Module, mode: FakeTensorMode) -> None:
    """Replaces parameters and buffers by CUDA tensors without values; `module.to` cannot, inside the mode."""
    with mode:
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    there = torch.empty_strided(
                        parameter.size(), parameter.stride(), dtype=parameter.dtype, device="cuda"
                    )
                    part._parameters[name] = nn.Parameter(there, requires_grad=parameter.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = torch.empty_strided(
                        buffer.size(), buffer.stride(), dtype=buffer.dtype, device="cuda"
                    )


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("teachers")

    def make(kind: str) -> Path:
        place = folder / kind
        if not place.exists():
            arguments = {"swin_teacher": SWIN, "vit_teacher": VIT, "mobilefacenet": STUDENT}[kind]
            model = create_model(kind, **arguments)
            card = describe(model, kind="teacher", name="t", architecture=kind, arguments=arguments)
            card.head = HeadCard(name="cosface", arguments={"scale": 16.0, "margin": 0.2}, num_identities=PEOPLE)
            save_bundle(place, model, card, head_centres=torch.randn(PEOPLE, 32))
        return place

    return make


def make_task(teacher: Path | None, *terms: Any, **sections: Any) -> DistillationTask:
    content = {
        "name": "test",
        "data": {"source": "synthetic:identities=8,images=2", "images_per_identity": 2},
        "model": {"name": "mobilefacenet", "arguments": STUDENT},
        "teacher": {"bundle": str(teacher)} if teacher else None,
        "distillation": list(terms),
        "training": {"batch_size": 6},
        **sections,
    }
    return build_task(Recipe.model_validate(content), SyntheticSource(identities=PEOPLE, images=2)).train()


def check(task: DistillationTask) -> None:
    """One step: forward and losses twice (what the first leaves is there in the second), clipping, optimisers."""
    mode = FakeTensorMode(allow_non_fake_inputs=False)
    onto_fake_cuda(task, mode)
    with mode:
        optimisers = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=4), clip_norm=1.0)
        images = torch.empty(6, 3, 112, 112, dtype=torch.uint8, device="cuda")
        labels = torch.empty(6, dtype=torch.int64, device="cuda")
        for step in range(2):
            task.begin_step(step)
            optimisers.set_rates(step)
            output = task(images, labels)
            values = [output.loss, *output.parts.values()]
            assert {value.device.type for value in values} == {"cuda"}
            assert all(value.ndim == 0 for value in values)
        for parameter in optimisers.parameters:
            parameter.grad = torch.empty_like(parameter)
        for group in optimisers.torch["sgd"].param_groups if "sgd" in optimisers.torch else ():
            group["fused"] = False  # torch's fused SGD has no form without values; AdamW's has
        optimisers.step(optimisers.gradient_norm())


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss(teachers: Callable[[str], Path], name: str) -> None:
    check(make_task(teachers("swin_teacher"), name))


@pytest.mark.parametrize(
    "terms",
    [
        ({"urfm": {"position": "saliency"}},),
        ({"urfm": {"position": "none", "centre_spread": 1.0, "local_centres": 49}},),
        ({"urfm": {"read_out": "neck", "relay_weight": 1.0}}, "embedding"),
        ({"urfm": {}}, {"apt": {"prompts": 2, "keep": "head", "interval": 2}}),
        ({"urfm": {}}, {"apt": {"prompts": 2, "keep": "embedding", "adaptation_weight": 1.0, "attention_bias": -4}}),
    ],
)
def test_urfm_and_apt(teachers: Callable[[str], Path], terms: tuple[Any, ...]) -> None:
    check(make_task(teachers("swin_teacher"), *terms))


@pytest.mark.parametrize("teacher", ["vit_teacher", "mobilefacenet"])
def test_other_teachers(teachers: Callable[[str], Path], teacher: str) -> None:
    terms = ["urfm", "fitnet", "embedding"]
    if teacher == "vit_teacher":
        terms.append({"apt": {"prompts": 2, "keep": "none", "every": 2}})  # type: ignore[arg-type]
    check(make_task(teachers(teacher), *terms))


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_whole_and_sampled(name: str, sample_rate: float) -> None:
    check(make_task(None, head={"name": name, "sample_rate": sample_rate}))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_optimisers_are_fused(optimiser: str) -> None:
    task = make_task(None, optimisation={"optimiser": optimiser})
    mode = FakeTensorMode()
    onto_fake_cuda(task, mode)
    with mode:
        made = Optimisers(task.parameter_groups(), schedule=Schedule(total_steps=4))
        assert all(group["fused"] for one in made.torch.values() for group in one.param_groups)


class Faulty(nn.Module):
    """What the check must find."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "constant on the CPU":
            return (x + torch.zeros(6)).sum()
        if self.kind == "value read by the host":
            return x.sum() * x.sum().item()
        if self.kind == "branch on a value":
            return x.sum() if (x > 0).any() else -x.sum()
        return x[x > 0].sum()  # a shape that depends on values


@pytest.mark.parametrize(
    "kind", ["constant on the CPU", "value read by the host", "branch on a value", "shape by values"]
)
def test_the_check_finds_faults(kind: str) -> None:
    with FakeTensorMode(), pytest.raises(Exception, match=r"device|data-dependent|Dynamic|nonzero|item|local_scalar"):
        Faulty(kind)(torch.empty(6, device="cuda"))
