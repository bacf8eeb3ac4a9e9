"""The one error that reaches a user of build.py."""


class BuildError(Exception):
    """One line: what was given or found, what is valid, what to do."""
