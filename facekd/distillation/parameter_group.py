"""Parameters that one optimiser moves alike, as a task hands them to the training loop."""

from dataclasses import dataclass
from typing import Literal

from torch import nn


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share an optimiser and its settings; the loop multiplies `lr` by the schedule."""

    name: str
    parameters: list[nn.Parameter]
    optimiser: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    momentum: float
