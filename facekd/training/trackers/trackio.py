"""Trackio: a local database with a dashboard (`trackio show`), used as Weights & Biases is. Extra `trackio`."""

import contextlib
import sys
from collections.abc import Mapping
from typing import Any

from facekd.common.errors import require_modules
from facekd.training.trackers import TRACKERS, TrackedRun, Tracker


@TRACKERS.decorator("trackio")
class TrackioTracker(Tracker):
    """Writes to Trackio's folder on this machine (TRACKIO_DIR); the recipe is the project, the run's folder the run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    @classmethod
    def open(cls, run: TrackedRun) -> "TrackioTracker":
        require_modules("--tracker trackio", ["trackio"], extra="trackio")
        import trackio

        with contextlib.redirect_stdout(sys.stderr):  # it greets on stdout, which is for results
            return cls(
                trackio.init(
                    project=run.name,
                    name=run.folder.resolve().name,
                    config=dict(run.settings),
                    resume="allow" if run.after_step else "never",
                    embed=False,
                    auto_log_gpu=False,
                    auto_log_cpu=False,
                )
            )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        import trackio

        finish: Any = trackio.finish  # the run's own would be called once more when Python ends
        with contextlib.redirect_stdout(sys.stderr):
            finish()
