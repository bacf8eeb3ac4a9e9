"""The `facekd` command: one short module a verb, all imported when the app is built, heavy packages in the verb."""

import sys
import traceback

import typer

from facekd.errors import FacekdError

app = typer.Typer(
    name="facekd",
    help="Distil a Transformer face-recognition teacher into a CNN student, and ship it on a phone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _register() -> None:
    """Attaches every verb. Each module defines `register(app)`."""
    from facekd.cli import (
        data,
        distill,
        embed,
        evaluate,
        export,
        info,
        models,
        quickstart,
        train,
        verify,
    )

    for module in (quickstart, data, train, distill, evaluate, embed, verify, models, info, export):
        module.register(app)


def main() -> None:
    """Entry point: a FacekdError becomes one line on stderr and its exit code; `--debug` anywhere shows the trace."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    _register()
    try:
        app()  # typer itself turns its usage errors into a message and exit 2, an interrupt into exit 1
    except FacekdError as error:
        if debug:
            traceback.print_exc()
        print(f"facekd: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (OSError, MemoryError) as error:
        if debug:
            traceback.print_exc()
        print(f"facekd: {error or type(error).__name__}", file=sys.stderr)
        sys.exit(1)
