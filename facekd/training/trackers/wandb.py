"""Weights & Biases. Sends to its servers unless WANDB_MODE says offline or disabled: only who names it gets it.

Extra `wandb`.
"""

import os
from collections.abc import Mapping
from typing import Any

from facekd.common.errors import UsageError, first_line, require_modules
from facekd.common.hashing import text_sha256
from facekd.training.trackers import TRACKERS, TrackedRun, Tracker


@TRACKERS.decorator("wandb")
class WandbTracker(Tracker):
    """The recipe is the project, the run's folder the run; a resumed run goes on in the same one."""

    def __init__(self, run: Any) -> None:
        self._run = run

    @classmethod
    def open(cls, run: TrackedRun) -> "WandbTracker":
        """
        Raises:
            UsageError: the package is not installed, or nobody is logged in.
        """
        require_modules("--tracker wandb", ["wandb"], extra="wandb")
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its own crash reports, to a third company
        import wandb

        folder = run.folder.resolve()
        try:
            made = wandb.init(
                project=run.name,
                name=folder.name,
                id=text_sha256(str(folder))[:16],
                dir=str(folder),
                config=dict(run.settings),
                resume="allow",
                settings=wandb.Settings(console="off", silent=True, disable_code=True, disable_git=True),
            )
        except Exception as error:  # its classes differ from version to version
            raise UsageError(
                f"Weights & Biases cannot be used: {first_line(error)}; run `wandb login`, or set WANDB_MODE=offline"
            ) from None
        return cls(made)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()
