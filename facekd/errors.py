"""Errors meant for people: one line that says what was given, what is valid and what to do."""


class FacekdError(Exception):
    """Something could not be done. The command line prints the message alone and exits 1."""

    exit_code = 1


class UsageError(FacekdError):
    """What the caller asked for is not valid: a missing path, an unknown name, a recipe typo. Exits 2."""

    exit_code = 2
