"""What the training loop ended with."""

from dataclasses import dataclass

from facekd.training.meter import Progress
from facekd.training.precision import Precision


@dataclass(frozen=True)
class LoopResult:
    """What the loop ended with; the task carries the chosen weights.

    Attributes:
        progress: the final state.
        total_steps: steps of the whole run; more than progress.step if `max_minutes` ended it.
        chosen_step: the step whose weights the task carries now: the best on the dev pairs, or the last.
        precision: what it was trained in.
        history: the dev figures since the start or the resumption, by step.
    """

    progress: Progress
    total_steps: int
    chosen_step: int
    precision: Precision
    history: dict[int, dict[str, float]]
