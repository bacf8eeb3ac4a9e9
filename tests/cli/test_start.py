"""`facekd --help` answers at once: the verbs import what is heavy only when they run."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "cv2", "onnx", "onnxruntime", "timm", "pydantic", "matplotlib", "fsspec")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, facekd.cli\n"
        "sys.argv = ['facekd', '--help']\n"
        "try:\n    facekd.cli.main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "sweep" in done.stdout and done.stdout.endswith("loaded: []\n")


def test_help_takes_at_most_five_times_as_long_as_importing_numpy() -> None:
    """In processor time, which other work on the machine does not lengthen, the best of five in turns."""

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    turns = [(seconds("-m", "facekd", "--help"), seconds("-c", "import numpy")) for _ in range(5)]
    assert min(ours for ours, _ in turns) < 5 * min(numpys for _, numpys in turns)


def test_an_interrupt_while_the_command_starts_shows_no_traceback() -> None:
    """Ctrl-C from the moment that facekd's own code runs; before it Python itself answers."""
    code = "import os, signal, facekd.cli as cli; cli.importlib.import_module = INTERRUPT; cli.main()"
    interrupt = "lambda name: os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("INTERRUPT", interrupt)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130 and not done.stderr


@pytest.mark.parametrize("module", ["typer", "facekd.cli", "facekd.cli.benchmark"])
def test_an_interrupt_while_a_module_is_imported_shows_nothing(tmp_path: Path, module: str) -> None:
    """Seen: Ctrl-C in the first 0.2 s, while typer is imported, showed a traceback."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "facekd", "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interrupt_at_any_moment_shows_no_line_of_facekds_code() -> None:
    """Twenty moments of a start; before facekd's first lines Python itself answers, with a traceback of its own."""
    for step in range(20):
        with subprocess.Popen([sys.executable, "-m", "facekd", "--help"], stderr=subprocess.PIPE, text=True) as process:
            time.sleep(0.03 * step)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
        # The first lines are __main__'s imports of os and signal.
        assert not re.search(r'facekd/(cli|common)|facekd/__main__\.py", line \d+, in (?!<module>)', said), said
