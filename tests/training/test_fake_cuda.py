"""Every method on a device that is not there: tensors say that they are on CUDA, and have no values.

`FakeTensorMode` runs shapes, types and devices only. A constant left on the CPU among CUDA tensors, a value read by the
host and a shape that depends on values are errors. The autograd engine itself asks a driver for the device, so backward
is not run here: gradients are put in by hand for clipping and the optimiser's step. What the arithmetic gives on a
device is for the tests marked as needing a GPU.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from facekd.distillation.losses.base import LOSSES
from facekd.distillation.task import DistillationTask
from facekd.heads import HEADS
from facekd.training.optimisation import Optimisers, Schedule

MethodTask = Callable[..., DistillationTask]


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
def test_every_loss(method_task: MethodTask, name: str) -> None:
    check(method_task("swin_teacher", name))


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
def test_urfm_and_apt(method_task: MethodTask, terms: tuple[Any, ...]) -> None:
    check(method_task("swin_teacher", *terms))


@pytest.mark.parametrize("teacher", ["vit_teacher", "mobilefacenet"])
def test_other_teachers(method_task: MethodTask, teacher: str) -> None:
    terms = ["urfm", "fitnet", "embedding"]
    if teacher == "vit_teacher":
        terms.append({"apt": {"prompts": 2, "keep": "none", "every": 2}})  # type: ignore[arg-type]
    check(method_task(teacher, *terms))


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_whole_and_sampled(method_task: MethodTask, name: str, sample_rate: float) -> None:
    check(method_task(None, head={"name": name, "sample_rate": sample_rate}))


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_optimisers_are_fused(method_task: MethodTask, optimiser: str) -> None:
    task = method_task(None, optimisation={"optimiser": optimiser})
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
