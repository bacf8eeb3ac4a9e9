"""Progress on stderr, so that stdout stays clean for results; nothing is shown where nobody watches."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from facekd.common.text import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

Item = TypeVar("Item")

Track = Callable[[Iterable[Any], int, str], Iterable[Any]]
"""(items, how many, what is being done) -> the same items, shown as they pass. `track` and `silently` are such."""


def track(items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
    """A bar with what is done, how much is left and how long that will take."""
    with progress_bar(title, total) as bar:
        for item in items:
            yield item
            bar.advance()


def silently(items: Iterable[Item], total: int, title: str) -> Iterable[Item]:
    """A Track that shows nothing."""
    del total, title
    return items


class ProgressBar:
    """Handed out by `progress_bar`; does nothing where no bar is shown."""

    def __init__(self, progress: "Progress | None", title: str, total: int | None, done: int) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(plain(title), total=total, completed=done)

    def advance(self, steps: int = 1) -> None:
        """So many more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, steps)

    def move(self, done: float) -> None:
        """So many are done in all."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def describe(self, title: str) -> None:
        """Something else is being done now."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, description=plain(title))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """A block in which something else, another bar, has the terminal."""
        if self._progress is None:
            yield
            return
        self._progress.stop()
        try:
            yield
        finally:
            self._progress.start()


@contextmanager
def progress_bar(
    title: str,
    total: int | None = None,
    *,
    done: int = 0,
    shown: bool = True,
    console: "Console | None" = None,
    redirect: bool = True,
) -> Iterator[ProgressBar]:
    """A bar that the caller moves.

    Args:
        title: what is being done; it gives way on a narrow terminal.
        total: how many steps; None where nobody knows: then the time that has passed is shown, and no bar.
        done: how many were done before.
        shown: False shows nothing, for callers that have been asked for silence.
        console: where; default stderr. Nothing is shown where that is no terminal.
        redirect: what is printed meanwhile goes above the bar.
    """
    if shown and console is None:
        from rich.console import Console

        console = Console(stderr=True)
    if not shown or console is None or not console.is_terminal:
        yield ProgressBar(None, title, total, done)
        return
    from rich.progress import Progress

    with Progress(
        *_columns(total),
        console=console,
        transient=True,
        expand=True,
        redirect_stdout=redirect,
        redirect_stderr=redirect,
    ) as progress:
        yield ProgressBar(progress, title, total, done)


def _columns(total: int | None) -> "list[ProgressColumn]":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    fitting = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns: list[ProgressColumn] = [
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=fitting),
    ]
    if total is not None:
        columns += [BarColumn(bar_width=20), MofNCompleteColumn()]
    columns.append(TimeElapsedColumn())
    return columns if total is None else [*columns, TimeRemainingColumn()]
