"""Errors meant for people: one line that says what was given, what is valid and what to do."""

import importlib
from collections.abc import Sequence


class FacekdError(Exception):
    """Something could not be done. The command line prints the message alone and exits 1."""

    exit_code = 1


class UsageError(FacekdError):
    """What the caller asked for is not valid: a missing path, an unknown name, a recipe typo. Exits 2."""

    exit_code = 2


class Interrupted(FacekdError):
    """Asked to stop by Ctrl-C or SIGTERM; the message says what is kept. Exits 130, as a shell expects after Ctrl-C."""

    exit_code = 130


def require_modules(what: str, modules: Sequence[str], *, extra: str) -> None:
    """Imports the modules that `what` needs.

    Raises:
        UsageError: one is missing; names the extra that brings it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UsageError(
                f"{what} needs {module}, which cannot be imported ({error}): pip install 'facekd[{extra}]'"
            ) from error


def first_line(error: BaseException, *, limit: int = 300) -> str:
    """The first line of a third party's message, of bounded length; the error's class where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:limit]


def one_line(error: BaseException | str, *, limit: int | None = 300) -> str:
    """A whole message on one line, of bounded length if it is a third party's; the error's class if it says nothing."""
    return (" ".join(str(error).split()) or type(error).__name__)[:limit]
