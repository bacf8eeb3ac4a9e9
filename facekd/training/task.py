"""What the loop trains: anything that makes a loss of a batch, and says what there is to learn and to save."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from facekd.common.errors import FacekdError
from facekd.heads import MarginHead
from facekd.training.optimisation import Group


class TaskOutput(Protocol):
    """Of one batch: the scalar to differentiate, and its unweighted parts by name, detached."""

    @property
    def loss(self) -> torch.Tensor: ...

    @property
    def parts(self) -> Mapping[str, torch.Tensor]: ...


@runtime_checkable
class TrainingTask(Protocol):
    """A task, which is a `torch.nn.Module` too. Deriving from both, `class Mine(nn.Module, TrainingTask)`, gives the
    answers of a plain one where a body stands here.

    Attributes:
        student: what is evaluated, averaged over steps and kept in the end.
        head: margin softmax whose class centres several ranks may share; None without one.
        head_may_be_sharded: whether each rank may hold a part of the centres only.
        rests: whether some parameters get no gradient in some steps.
    """

    student: nn.Module
    head: MarginHead | None = None

    @property
    def head_may_be_sharded(self) -> bool:
        return True

    @property
    def rests(self) -> bool:
        return False

    def __call__(self, images: torch.Tensor, labels: torch.Tensor, *stored: Mapping[str, torch.Tensor]) -> Any:
        """uint8 RGB images [b, 3, h, w] and labels int64 [b] -> a `TaskOutput`.

        Data that bring more than images and labels, such as what a teacher made of them, give it as a third argument.
        """
        ...

    def begin_step(self, step: int) -> None:
        """Told before optimiser step number `step` (from 0)."""

    def parameter_groups(self) -> Sequence[Group]:
        """What learns, each part with its optimiser and rate."""
        ...

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that training changes."""
        return as_module(self).state_dict()

    def load_trainable_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Loads what `trainable_state_dict` gave, strictly."""
        as_module(self).load_state_dict(state)

    def diagnostics(self) -> Mapping[str, torch.Tensor | float]:
        """Figures of the last batch worth logging beside the losses: scalars, which may be on the device still."""
        return {}


def as_module(task: TrainingTask) -> nn.Module:
    """The task as the module that it is. Raises FacekdError if it is none."""
    if not isinstance(task, nn.Module):
        raise FacekdError(f"a task is a torch.nn.Module, {type(task).__name__} is none")
    return task
