"""Whatever writes, Python or C, lands in the log and not on the screen; afterwards the screen is back."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from facekd.export.logs import captured


def test_all_kinds_of_output_are_captured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "x.log"
    with captured(log):
        print("from print")
        print("from stderr", file=sys.stderr)
        os.write(2, b"from the file descriptor\n")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        warnings.warn("from a warning", stacklevel=1)
        logging.getLogger("third.party").warning("from logging")
    print("after")
    text = log.read_text()
    for source in ("print", "stderr", "the file descriptor", "a child", "a warning", "logging"):
        assert f"from {source}" in text
    screen = capfd.readouterr()
    assert screen.out == "after\n"
    assert "from" not in screen.err


def test_the_screen_comes_back_after_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), captured(tmp_path / "x.log"):
        raise ZeroDivisionError
    os.write(1, b"visible\n")
    assert capfd.readouterr().out == "visible\n"
