"""Schedule, optimisers and moving average against their definitions."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.training.optimisation import Optimisers, Schedule, WeightAverage


def group(name: str, parameters: list[nn.Parameter], optimiser: str = "sgd", **values: float) -> SimpleNamespace:
    defaults = {"lr": 0.1, "weight_decay": 0.0, "momentum": 0.9}
    return SimpleNamespace(name=name, parameters=parameters, optimiser=optimiser, **{**defaults, **values})


def test_warm_up_is_linear_and_reaches_one() -> None:
    schedule = Schedule(total_steps=100, warmup=0.1)
    assert [schedule.factor(step) for step in range(10)] == pytest.approx([(step + 1) / 10 for step in range(10)])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cosine", lambda t: (1 + math.cos(math.pi * t)) / 2),
        ("polynomial", lambda t: (1 - t) ** 2),
        ("constant", lambda t: 1.0),
    ],
)
def test_decay_follows_its_formula(kind: str, expected: object) -> None:
    schedule = Schedule(total_steps=60, warmup=1 / 6, kind=kind)  # type: ignore[arg-type]
    for step in range(10, 60):
        assert schedule.factor(step) == pytest.approx(expected((step - 10) / 50))  # type: ignore[operator]
    assert all(schedule.factor(step) > 0 for step in range(60))


def test_schedule_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UsageError, match=r"'linear'.*cosine"):
        Schedule(total_steps=3, kind="linear")  # type: ignore[arg-type]


def test_two_kinds_step_like_the_torch_optimisers_alone() -> None:
    start = [torch.randn(4, 3), torch.randn(5)]
    ours = [nn.Parameter(value.clone()) for value in start]
    theirs = [nn.Parameter(value.clone()) for value in start]
    schedule = Schedule(total_steps=20, warmup=0.25)
    optimisers = Optimisers(
        [
            group("network", [ours[0]], weight_decay=0.01),
            group("prompts", [ours[1]], "adamw", lr=0.02, weight_decay=0.1),
        ],
        schedule=schedule,
    )
    sgd = torch.optim.SGD([theirs[0]], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    adamw = torch.optim.AdamW([theirs[1]], lr=0.02, weight_decay=0.1)
    for step in range(20):
        for mine, reference in zip(ours, theirs, strict=True):
            mine.grad = torch.sin(mine.detach() + step)
            reference.grad = torch.sin(reference.detach() + step)
        rates = optimisers.set_rates(step)
        assert rates == pytest.approx({"network": 0.1 * schedule.factor(step), "prompts": 0.02 * schedule.factor(step)})
        optimisers.step(optimisers.gradient_norm())
        sgd.param_groups[0]["lr"], adamw.param_groups[0]["lr"] = rates["network"], rates["prompts"]
        sgd.step()
        adamw.step()
    for mine, reference in zip(ours, theirs, strict=True):
        assert torch.equal(mine, reference)


def test_clipping_is_by_the_norm_over_all_groups() -> None:
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))]
    groups = [group("a", parameters[:1], lr=1.0, momentum=0.0), group("b", parameters[1:], lr=1.0, momentum=0.0)]
    optimisers = Optimisers(groups, schedule=Schedule(total_steps=1), clip_norm=2.0)
    gradients = [torch.full((3,), 3.0), torch.full((4,), -1.0)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    norm = optimisers.gradient_norm()
    assert norm.item() == pytest.approx(math.sqrt(3 * 9 + 4))
    optimisers.set_rates(0)
    optimisers.step(norm)
    moved = torch.cat([parameter.detach() for parameter in parameters])
    assert torch.allclose(moved, -torch.cat(gradients) * 2.0 / norm, atol=1e-5)


def test_a_parameter_in_two_groups_is_refused() -> None:
    shared = nn.Parameter(torch.zeros(1))
    with pytest.raises(FacekdError, match="'a' and 'b'"):
        Optimisers([group("a", [shared]), group("b", [shared])], schedule=Schedule(total_steps=1))


def test_a_loss_that_reaches_nothing_is_said() -> None:
    optimisers = Optimisers([group("a", [nn.Parameter(torch.zeros(1))])], schedule=Schedule(total_steps=1))
    with pytest.raises(FacekdError, match="no parameter received a gradient"):
        optimisers.gradient_norm()


def test_average_follows_its_formula_and_is_only_borrowed() -> None:
    module = nn.Linear(3, 2)
    average = WeightAverage(module, decay=0.9)
    expected = module.weight.detach().clone()
    for update in range(100):
        with torch.no_grad():
            module.weight.add_(torch.randn(2, 3))
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * module.weight.detach()
        average.update()
    own = module.weight.detach().clone()
    with average.applied():
        assert torch.allclose(module.weight, expected, atol=1e-5)
    assert torch.equal(module.weight, own)
