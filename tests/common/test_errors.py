"""Messages for people: one line, of bounded length, which a terminal shows and does not obey."""

import sys

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from facekd.cli import main
from facekd.common.errors import FacekdError, UsageError, first_line, one_line, require_modules


@given(st.text())
def test_messages_are_one_bounded_line(text: str) -> None:
    for line in (first_line(ValueError(text)), one_line(ValueError(text)), one_line(text)):
        assert 0 < len(line) <= 300 and "\n" not in line
    assert one_line(ValueError(text), limit=None) == (" ".join(text.split()) or "ValueError")


def test_a_terminal_does_not_obey_an_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    failing = typer.Typer()

    @failing.command()
    def fail() -> None:
        raise FacekdError("bundle \x1b[2J\x07evil\nis damaged")

    monkeypatch.setattr("facekd.cli.app", failing)
    monkeypatch.setattr("facekd.cli._register", lambda: None)
    monkeypatch.setattr(sys, "argv", ["facekd"])
    with pytest.raises(SystemExit) as stop:
        main()
    told = capfd.readouterr().err
    assert stop.value.code == 1 and told == "facekd: bundle \\x1b[2J\\x07evil is damaged\n"


def test_a_missing_package_is_named_with_its_extra() -> None:
    require_modules("this", ["json", "csv"], extra="none")
    with pytest.raises(UsageError, match=r"a plot needs no_such_module_here.*pip install 'facekd\[plots\]'"):
        require_modules("a plot", ["json", "no_such_module_here"], extra="plots")
