"""Where a run's figures go besides log.jsonl: one file a tracker, others by entry point (`facekd.trackers`).

A tracker shows; it decides nothing. One that fails in the middle of a run is left out from there on, with a warning:
days of training do not end for a dashboard.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError, first_line
from facekd.common.registry import Registry

Callback = Callable[[int, Mapping[str, float]], None]
"""(step, figures by name, such as "step/loss"), called on rank 0 alone."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Attributes:
        folder: of the run; its name tells runs of one recipe apart.
        name: of the recipe.
        settings: the whole recipe as plain values.
        after_step: what came later is written again by this run, which resumes there; 0 for a new one.
    """

    folder: Path
    name: str = "facekd"
    settings: Mapping[str, Any] = field(default_factory=dict)
    after_step: int = 0


class Tracker(ABC):
    """Shows the figures of one run."""

    @classmethod
    @abstractmethod
    def open(cls, run: TrackedRun) -> "Tracker | None":
        """Begins, or goes on with, a run; None where it has nothing to show with and nobody asked for it by name.

        Raises:
            UsageError: its package is not installed, or it lacks an account.
        """

    @abstractmethod
    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Shows figures by name, such as "step/loss"."""

    @abstractmethod
    def close(self) -> None:
        """Ends; what was logged is kept."""


TRACKERS: Registry[type[Tracker]] = Registry(
    "tracker", package="facekd.training.trackers", group="facekd.trackers", first=["tensorboard"]
)
"""Name -> class."""

DEFAULT = ("tensorboard",)


class _CallbackTracker(Tracker):
    """A function of the caller's."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback

    @classmethod
    def open(cls, run: TrackedRun) -> None:
        """Made from its function alone."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._callback(step, figures)

    def close(self) -> None:
        """Nothing was opened."""


class Trackers:
    """Those of one run.

    Args:
        chosen: names, `package.module:Class` of trusted code, or functions.
        run: see TrackedRun.
        warn: told once of each that fails.

    Raises:
        UsageError: a name that is not known, or a tracker that cannot be opened.
    """

    def __init__(self, chosen: Sequence[str | Callback], run: TrackedRun, *, warn: Callable[[str], None]) -> None:
        self._warn = warn
        self._open: list[Tracker] = []
        try:
            made: Tracker | None
            for one in chosen:
                made = (
                    TRACKERS.find(one, wanted_by="--tracker").open(run)
                    if isinstance(one, str)
                    else _CallbackTracker(one)
                )
                if made is not None:
                    self._open.append(made)
        except BaseException:
            self.close()
            raise

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Shows figures in each."""
        for tracker in list(self._open):
            self._guarded(tracker, lambda tracker=tracker: tracker.log(step, figures))  # type: ignore[misc]

    def close(self) -> None:
        """Ends each."""
        for tracker in list(self._open):
            self._guarded(tracker, tracker.close)
        self._open.clear()

    def _guarded(self, tracker: Tracker, action: Callable[[], None]) -> None:
        try:
            action()
        except FacekdError:
            raise
        except Exception as error:  # a third party's, with classes of its own
            self._open.remove(tracker)
            name = type(tracker).__name__.removesuffix("Tracker").lstrip("_")
            self._warn(f"{name} fails and is left out from here on: {first_line(error)}; log.jsonl has every figure")
