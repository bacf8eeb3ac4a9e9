"""The `facekd` command: one short module for each subcommand; heavy packages are imported when a subcommand runs."""

import importlib
import io
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from facekd.common.errors import FacekdError, one_line
from facekd.common.text import plain
from facekd.common.versions import __version__

MAX_MESSAGE = 2_000
"""Characters of an error's line."""

COMMANDS = (
    "quickstart", "init", "data", "train", "teacher", "distill", "plan", "sweep", "evaluate", "calibrate", "embed",
    "verify", "liveness", "models", "info", "export", "demo", "benchmark",
)  # fmt: skip
"""The modules of the commands, in the order of the help."""

app = typer.Typer(
    name="facekd",
    help="Distil a Transformer face-recognition teacher into a CNN student for phones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"facekd {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show facekd's version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """The options of the command itself. `main` takes --debug off the line, so here it is only described."""


def _register() -> None:
    """Adds every command. Each module defines `register(app)`."""
    for command in COMMANDS:
        importlib.import_module(f"facekd.cli.{command}").register(app)


def main(on_loaded: Callable[[], object] = lambda: None) -> None:
    """Runs the command line: an error becomes one line on stderr and its exit code; `--debug` shows the traceback.

    Args:
        on_loaded: called when every command is loaded, before one runs.
    """
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        _register()
        command = typer.main.get_command(app)  # what app() does first, where it would let Ctrl-C through
    except KeyboardInterrupt:
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):  # a name in another encoding is shown with escapes, not refused at the end
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        on_loaded()
        command()  # typer itself turns its usage errors into a message and exit 2, an interrupt into exit 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        print(f"facekd: {plain(_in_words(error))}", file=sys.stderr)
        sys.exit(error.exit_code if isinstance(error, FacekdError) else 1)


def _in_words(error: Exception) -> str:
    """The error message; an unexpected error also says how to see its traceback."""
    if isinstance(error, FacekdError | OSError | MemoryError):
        return _bounded(one_line(error, limit=None))
    return f"unexpected {type(error).__name__}: {one_line(error)} (--debug shows the trace)"


def _bounded(message: str) -> str:
    """A message of a line, its middle left out where something that a damaged file holds fills it."""
    half = MAX_MESSAGE // 2
    return message if len(message) <= MAX_MESSAGE else f"{message[:half]} ... {message[-half:]}"
