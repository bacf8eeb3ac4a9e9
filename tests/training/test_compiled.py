"""torch.compile of the training forward: one whole graph for every method, no second one later, the same loss.

Traced by dynamo and run without code generation (`backend="eager"`), which finds graph breaks and recompilations in
seconds; training with generated code is tested in test_distributed.py.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import _dynamo as dynamo
from torch import nn

from facekd.distillation.losses.base import LOSSES
from facekd.distillation.task import DistillationTask
from facekd.heads import HEADS

MethodTask = Callable[..., DistillationTask]


def losses_of(task: nn.Module, called: Any, steps: int) -> list[float]:
    """Of some steps, gradients included; no parameter is moved, so only running statistics make them differ."""
    images = torch.randint(0, 256, (6, 3, 112, 112), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    found = []
    for step in range(steps):
        torch.manual_seed(step)  # a sampled head draws
        task.begin_step(step)  # type: ignore[operator]
        loss = called(images, labels).loss
        loss.backward()
        task.zero_grad()
        found.append(float(loss.detach()))
    return found


def check(make: Callable[[], DistillationTask], *, graphs: int = 1, steps: int = 5) -> None:
    plain = make()
    expected = losses_of(plain, plain, steps)
    dynamo.reset()
    dynamo.utils.counters.clear()
    task = make()
    found = losses_of(task, torch.compile(task, fullgraph=True, backend="eager"), steps)
    assert found == pytest.approx(expected, rel=1e-4)
    assert dynamo.utils.counters["stats"]["unique_graphs"] == graphs


@pytest.mark.parametrize("name", LOSSES.names())
def test_every_loss(method_task: MethodTask, name: str) -> None:
    check(lambda: method_task("swin_teacher", name))


@pytest.mark.parametrize(
    ("teacher", "terms", "graphs"),
    [
        ("swin_teacher", ({"urfm": {"position": "saliency", "centre_spread": 1.0, "local_centres": 49}},), 1),
        ("swin_teacher", ({"urfm": {"read_out": "neck", "relay_weight": 1.0}}, "embedding"), 1),
        # The prompts rest in every second step: one graph with their gradients, one without; a third in the first
        # step, in which the windows' biases are computed and kept.
        ("swin_teacher", ({"urfm": {}}, {"apt": {"prompts": 2, "keep": "head", "interval": 2}}), 3),
        ("vit_teacher", ({"urfm": {}}, {"apt": {"prompts": 2, "keep": "embedding", "adaptation_weight": 1.0}}), 1),
        ("mobilefacenet", ("urfm", "fitnet"), 1),
    ],
)
def test_urfm_and_apt(method_task: MethodTask, teacher: str, terms: tuple[Any, ...], graphs: int) -> None:
    check(lambda: method_task(teacher, *terms), graphs=graphs)


@pytest.mark.parametrize("sample_rate", [1.0, 0.5])
@pytest.mark.parametrize("name", list(HEADS))
def test_every_head_whole_and_sampled(method_task: MethodTask, name: str, sample_rate: float) -> None:
    check(lambda: method_task(None, head={"name": name, "sample_rate": sample_rate}))
