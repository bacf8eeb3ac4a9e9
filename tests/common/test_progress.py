"""Bars: what passes through them is unchanged, foreign titles are text, and nothing is said where nobody watches."""

import io

import pytest
from rich.console import Console

from facekd.common.progress import progress_bar, silently, track


def terminal() -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, force_terminal=True, width=100, color_system=None), shown


@pytest.mark.parametrize("tracker", [track, silently])
def test_what_is_tracked_passes_through_in_silence(tracker: object, capfd: pytest.CaptureFixture[str]) -> None:
    assert callable(tracker)
    assert list(tracker(iter("abc"), 3, "reading")) == ["a", "b", "c"]
    told = capfd.readouterr()
    assert told.err == told.out == ""  # not even an empty line: stderr is no terminal here


def test_a_bar_tells_what_is_done_of_how_much() -> None:
    console, shown = terminal()
    with progress_bar("reading", 8, done=2, console=console) as bar:
        bar.advance()
        bar.advance(3)
        bar.move(7)
        bar.describe("writing")
    assert "reading" in shown.getvalue() or "writing" in shown.getvalue()
    assert "7/8" in shown.getvalue().replace(" ", "")


def test_titles_are_text() -> None:
    console, shown = terminal()
    with progress_bar("[red]a[/b]\x1b[2J", None, console=console) as bar:
        bar.describe("[bold]b\x07")
    assert "[bold]b\\x07" in shown.getvalue()
    assert "\x07" not in shown.getvalue() and "\x1b[2J" not in shown.getvalue()


def test_asked_for_silence_nothing_is_shown() -> None:
    console, shown = terminal()
    with progress_bar("reading", 3, shown=False, console=console) as bar, bar.aside():
        bar.advance()
    assert shown.getvalue() == ""


def test_an_error_passes_and_the_bar_ends() -> None:
    console, shown = terminal()
    with pytest.raises(KeyError), progress_bar("reading", 3, console=console):
        raise KeyError("x")
    before = shown.getvalue()
    with progress_bar("again", 1, console=console) as bar, bar.aside():  # only one bar may live at a time
        console.print("between")
    assert "between" in shown.getvalue().removeprefix(before)
