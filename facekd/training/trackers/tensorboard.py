"""TensorBoard: events in the run's folder, if that package is installed (extra `plots`)."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from facekd.training.trackers import TRACKERS, TrackedRun, Tracker


@TRACKERS.decorator("tensorboard")
class TensorBoardTracker(Tracker):
    """Writes to `tensorboard/`; of a resumed run, what came after its checkpoint is hidden."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    @classmethod
    def open(cls, run: TrackedRun) -> "TensorBoardTracker | None":
        """None where the package is not installed: it is on by default."""
        if "tensorboard" not in sys.modules and find_spec("tensorboard") is None:
            return None
        from torch.utils.tensorboard import SummaryWriter

        purge = run.after_step + 1 if run.after_step else None
        return cls(SummaryWriter(str(run.folder / "tensorboard"), purge_step=purge))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()
