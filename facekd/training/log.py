"""What a run tells: log.jsonl and trackers for machines, progress with the time left for people."""

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from facekd.common.progress import ProgressBar, progress_bar
from facekd.common.text import plain
from facekd.training.trackers import Trackers


class TrainingLog:
    """One JSON object a line in `log.jsonl`; the same figures for the trackers.

    A line has "kind" ("step", "evaluation", "precision", ...), "step" (optimiser steps done) and the figures.
    A number that is not finite is written as null.

    Args:
        folder: the run's folder.
        after_step: lines of later steps are dropped, since a resumed run writes them again.
        trackers: shown the numbers too, by names such as "step/loss"; closed with the log.
    """

    def __init__(self, folder: Path, *, after_step: int = 0, trackers: Trackers | None = None) -> None:
        self.path = folder / "log.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        kept = _lines_until(self.path, after_step)
        temporary = self.path.with_name(f".{self.path.name}.writing")
        temporary.write_text("".join(kept), encoding="utf-8")
        temporary.replace(self.path)
        self._stream = self.path.open("a", encoding="utf-8")
        self._trackers = trackers

    def write(self, kind: str, step: int, figures: Mapping[str, Any]) -> None:
        """Appends one line, at once visible to a reader."""
        line = {"kind": kind, "step": step, **figures}
        self._stream.write(json.dumps(_finite(line), allow_nan=False) + "\n")
        self._stream.flush()
        if self._trackers is not None:
            self._trackers.log(step, {f"{kind}/{name}": value for name, value in _scalars(figures)})

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        if self._trackers is not None:
            self._trackers.close()


class NoLog(TrainingLog):
    """Stands for the log on ranks above 0: writes nothing."""

    def __init__(self) -> None:
        """Opens nothing."""

    def write(self, kind: str, step: int, figures: Mapping[str, Any]) -> None:
        """Drops the line."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""


class Pace:
    """Seconds a step, of the most recent steps: the first one, with whatever starts up in it, does not count.

    Args:
        recent: steps that count, facekd's choice.
    """

    def __init__(self, recent: int = 100) -> None:
        self._stamps: deque[tuple[int, float]] = deque(maxlen=recent + 1)
        self._start = (0, time.monotonic())

    def start(self, done: int) -> None:
        """Begins to count, after `done` steps of an earlier session."""
        self._stamps.clear()
        self._start = (done, time.monotonic())

    def add(self, done: int) -> None:
        """So many steps are done now."""
        if done > (self._stamps[-1] if self._stamps else self._start)[0]:
            self._stamps.append((done, time.monotonic()))

    def seconds_a_step(self) -> float:
        """By the recent steps; of the first step alone as long as there is no other; 0 before it."""
        if not self._stamps:
            return 0.0
        first, last = self._stamps[0] if len(self._stamps) > 1 else self._start, self._stamps[-1]
        return (last[1] - first[1]) / (last[0] - first[0])


class Reporter:
    """Lines and a progress bar on stderr; plain lines alone where stderr is not a terminal.

    Args:
        console: default: stderr.
        quiet: say nothing but warnings.
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or Console(stderr=True)
        self.quiet = quiet
        self._bar: ProgressBar | None = None
        self._shown = contextlib.ExitStack()
        self._pace = Pace()

    def say(self, text: str) -> None:
        """One line for the person."""
        if not self.quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """One line that is said even when quiet."""
        self._print(f"warning: {text}")

    def start(self, done: int, total: int) -> None:
        """Begins counting steps."""
        self._pace = Pace()
        self._pace.start(done)
        if self.console.is_terminal and not self.quiet:
            self._bar = self._shown.enter_context(progress_bar("steps", total, done=done, console=self.console))

    def advance(self, done: int) -> None:
        """Counts a step, and moves the bar."""
        self._pace.add(done)
        if self._bar is not None:
            self._bar.move(done)

    def figures(self, done: int, total: int, text: str) -> None:
        """Shows the latest figures: on the bar, or as a line with the time left."""
        if self._bar is not None:
            self._bar.move(done)
            self._bar.describe(text)
        elif not self.quiet:
            self._pace.add(done)
            left = self._pace.seconds_a_step() * (total - done)
            self._print(f"step {done}/{total}  {text}  {clock(left)} left")

    def stop(self) -> None:
        """Takes the bar away."""
        self._shown.close()
        self._bar = None

    def _print(self, text: str) -> None:
        self.console.print(plain(text), markup=False, highlight=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    whole = int(max(0, seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def resident_mib() -> float | None:
    """This process's resident memory in MiB (workers not counted); None where the system does not tell."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    try:
        import psutil
    except ImportError:
        return None
    result: float | None = psutil.Process().memory_info().rss / 2**20
    return result


def _lines_until(path: Path, step: int) -> list[str]:
    """The whole lines of a log that belong to steps up to `step`; a torn last line (a kill) is dropped."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        if line.endswith("\n") and entry.get("step", 0) <= step:
            kept.append(line)
    return kept


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _scalars(figures: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Numbers of a nested mapping, by `a/b`."""
    found = []
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((prefix + name, float(value)))
    return found
