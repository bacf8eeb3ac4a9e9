"""The command line in this process: what a child would return and print, without the seconds that its imports take."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest


def run_here(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """`facekd` with `words`: its exit code, and what it wrote by way of sys.stdout and sys.stderr."""
    from facekd.cli import main

    line = ["facekd", *map(str, words)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", line.copy())
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())
