"""Optimisers, the learning-rate schedule, and the moving average of the weights."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import shown
from facekd.distributed import collectives


class Group(Protocol):
    """Parameters that are optimised alike, as a task hands them out."""

    @property
    def name(self) -> str: ...

    @property
    def parameters(self) -> list[nn.Parameter]: ...

    @property
    def optimiser(self) -> str: ...

    @property
    def lr(self) -> float: ...

    @property
    def weight_decay(self) -> float: ...

    @property
    def momentum(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The factor on every group's learning rate, a function of the optimiser step alone.

    Linear warm-up, then a cosine to 0 (SGDR, Loshchilov & Hutter 2017, eq. 5 without restarts), a polynomial
    (1 - t)^2 to 0 (as arcface_torch's PolyScheduler), or a constant.

    Attributes:
        total_steps: optimiser steps of the whole run.
        warmup: share of them spent warming up.
        kind: what follows the warm-up.
        power: of the polynomial.
    """

    total_steps: int
    warmup: float = 0.0
    kind: Literal["cosine", "polynomial", "constant"] = "cosine"
    power: float = 2.0

    def __post_init__(self) -> None:
        if self.total_steps < 1:
            raise UsageError(f"a schedule needs at least 1 step, got {self.total_steps}")
        if self.kind not in _DECAYS:
            raise UsageError(f"unknown schedule {shown(self.kind)}: one of {', '.join(_DECAYS)}")

    @property
    def warmup_steps(self) -> int:
        """Steps of the warm-up; the last of them has factor 1."""
        return round(self.warmup * self.total_steps)

    def factor(self, step: int) -> float:
        """Factor for optimiser step `step`, counted from 0. Never exactly 0 within the run: no step is wasted."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return _DECAYS[self.kind](min(1.0, progress), self.power)


_DECAYS: dict[str, Callable[[float, float], float]] = {
    "cosine": lambda progress, power: 0.5 * (1 + math.cos(math.pi * progress)),
    "polynomial": lambda progress, power: (1 - progress) ** power,
    "constant": lambda progress, power: 1.0,
}


class Optimisers:
    """One torch optimiser for each kind that the groups ask for, stepped together under one schedule.

    Args:
        groups: disjoint parameter groups.
        schedule: factor on each group's own rate.
        clip_norm: global norm, over all groups, to which the gradient is clipped; None never clips.
        sharded: of the parameters, those of which each rank has other rows.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        schedule: Schedule,
        clip_norm: float | None = None,
        sharded: Sequence[nn.Parameter] = (),
    ) -> None:
        self.schedule = schedule
        self._sharded = {id(parameter) for parameter in sharded if parameter.requires_grad}
        self.clip_norm = clip_norm
        _check_disjoint(groups)
        self.parameters = [parameter for group in groups for parameter in group.parameters]
        options: dict[str, list[dict[str, Any]]] = {}
        for group in groups:
            if group.optimiser not in _KINDS:
                known = ", ".join(_KINDS)
                raise UsageError(f"group {group.name}: unknown optimiser {shown(group.optimiser)}, one of {known}")
            options.setdefault(group.optimiser, []).append(_entry(group))
        self.torch = {kind: _KINDS[kind](entries) for kind, entries in options.items()}

    def set_rates(self, step: int) -> dict[str, float]:
        """Sets every group's rate for optimiser step `step` (from 0); returns them by the group's name."""
        factor = self.schedule.factor(step)
        rates = {}
        for entry in self._entries():
            entry["lr"] = entry["base_lr"] * factor
            rates[entry["name"]] = entry["lr"]
        return rates

    def gradient_norm(self) -> torch.Tensor:
        """Global L2 norm of all gradients on all ranks, a scalar tensor; not finite if any gradient is not."""
        trained = [parameter for parameter in self.parameters if parameter.grad is not None]
        gradients = [one.grad for one in trained if one.grad is not None and id(one) not in self._sharded]
        if self._sharded:
            # What is replicated counts once, rows that are here alone are added up over the ranks.
            rows = [one.grad for one in trained if one.grad is not None and id(one) in self._sharded]
            rest = collectives.sum_(torch.nn.utils.get_total_norm(rows).square()).sqrt()
            gradients.append(rest)
        if not gradients:
            raise FacekdError("no parameter received a gradient: the loss does not depend on anything that is trained")
        return torch.nn.utils.get_total_norm(gradients)

    def step(self, norm: torch.Tensor, scaler: torch.amp.GradScaler | None = None) -> None:
        """Clips by the global norm, which the caller has checked to be finite, and makes one step."""
        if self.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, self.clip_norm, norm)
        for optimiser in self.torch.values():
            if scaler is None:
                optimiser.step()
            else:
                scaler.step(optimiser)

    def zero_grad(self) -> None:
        """Drops all gradients."""
        for optimiser in self.torch.values():
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """State of each optimiser by its kind."""
        return {kind: optimiser.state_dict() for kind, optimiser in self.torch.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what state_dict gave. Raises FacekdError if it is of other optimisers."""
        if set(state) != set(self.torch):
            raise FacekdError(f"checkpoint has optimisers {sorted(state)}, this recipe needs {sorted(self.torch)}")
        for kind, optimiser in self.torch.items():
            optimiser.load_state_dict(state[kind])

    def _entries(self) -> Iterator[dict[str, Any]]:
        for optimiser in self.torch.values():
            yield from optimiser.param_groups


def _sgd(entries: list[dict[str, Any]]) -> torch.optim.Optimizer:
    for entry in entries:
        entry["nesterov"] = entry["momentum"] > 0  # torch refuses Nesterov without momentum
    return torch.optim.SGD(entries, fused=_is_fused(entries))


def _adamw(entries: list[dict[str, Any]]) -> torch.optim.Optimizer:
    without_momentum = [{k: v for k, v in entry.items() if k != "momentum"} for entry in entries]
    return torch.optim.AdamW(without_momentum, fused=_is_fused(entries))


def _is_fused(entries: list[dict[str, Any]]) -> bool | None:
    """One kernel for all parameters on CUDA; None: torch's own choice, which a CPU's results depend on."""
    return True if all(one.device.type == "cuda" for entry in entries for one in entry["params"]) else None


_KINDS = {"sgd": _sgd, "adamw": _adamw}


def _entry(group: Group) -> dict[str, Any]:
    """The torch parameter group; it remembers its own rate beside the scheduled one."""
    return {
        "name": group.name,
        "params": group.parameters,
        "lr": group.lr,
        "base_lr": group.lr,
        "weight_decay": group.weight_decay,
        "momentum": group.momentum,
    }


def _check_disjoint(groups: Sequence[Group]) -> None:
    owner: dict[int, str] = {}
    for group in groups:
        for parameter in group.parameters:
            if id(parameter) in owner:
                raise FacekdError(f"a parameter is in groups {owner[id(parameter)]!r} and {group.name!r}")
            owner[id(parameter)] = group.name
    if not owner:
        raise FacekdError("the task has no parameter to train")


class WeightAverage:
    """Exponential moving average of a module's parameters; its buffers (BN statistics) are those of the module.

    The decay is min(decay, (1 + n) / (10 + n)) after n updates, so that the random start is soon forgotten
    (TensorFlow's ExponentialMovingAverage with num_updates).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._module = module
        self._average = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}

    @torch.no_grad()
    def update(self) -> None:
        """Takes the module's present weights into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        current = dict(self._module.named_parameters())
        weights = [current[name].detach() for name in self._average]
        torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module carries the averaged weights inside this block and its own again after it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """The module carries the averaged weights from now on."""
        self._swap()

    def state_dict(self) -> dict[str, Any]:
        """Averages and the count of updates."""
        return {"updates": self.updates, "average": self._average}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what state_dict gave. Raises FacekdError if it is of another network."""
        if set(state["average"]) != set(self._average):
            raise FacekdError("the checkpoint's moving average is of another network")
        self.updates = int(state["updates"])
        for name, value in self._average.items():
            value.copy_(state["average"][name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._module.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self._average[name])
            self._average[name].copy_(kept)
