"""Progress on stderr, so that stdout stays clean for results; nothing is shown where nobody watches."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""(items, how many, what is being done) -> the same items, shown as they pass. `track` and `silently` are such."""


def track(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """A bar with what is done, how much is left and how long that will take."""
    with _progress(BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        yield from progress.track(items, total=total, description=title)


def silently(items: Iterable[Item], total: int, title: str) -> Iterable[Item]:
    """A Track that shows nothing."""
    del total, title
    return items


@contextmanager
def progress_bar(title: str, total: int | None = None, *, shown: bool = True) -> Iterator["ProgressBar"]:
    """A bar that the caller moves.

    Args:
        title: what is being done.
        total: how many steps; None where nobody knows: then the time that has passed is shown, and no bar.
        shown: False shows nothing, for callers that have been asked for silence.
    """
    columns: list[ProgressColumn] = [SpinnerColumn(), TextColumn("{task.description}")]
    columns += [TimeElapsedColumn()] if total is None else [BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    with _progress(*columns, shown=shown) as progress:
        yield ProgressBar(progress, title, total)


class ProgressBar:
    """Handed out by `progress_bar`."""

    def __init__(self, progress: Progress, title: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total)

    def advance(self, steps: int = 1) -> None:
        """So many more are done."""
        self._progress.advance(self._task, steps)

    def describe(self, title: str) -> None:
        """Something else is being done now."""
        self._progress.update(self._task, description=title)

    def print(self, text: str) -> None:
        """A line above the bar, on stderr."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _progress(*columns: ProgressColumn, shown: bool = True) -> Progress:
    if not any(isinstance(column, TextColumn) for column in columns):
        columns = (TextColumn("{task.description}"), *columns)
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=not (shown and sys.stderr.isatty()))
