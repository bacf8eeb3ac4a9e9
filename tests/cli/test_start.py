"""`facekd --help` answers at once: the verbs import what is heavy only when they run."""

import subprocess
import sys
import time

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
    def fastest(*words: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], capture_output=True, timeout=60, check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    assert fastest("-m", "facekd", "--help") < 5 * fastest("-c", "import numpy")


def test_an_interrupt_while_the_command_starts_shows_no_traceback() -> None:
    """Ctrl-C from the moment that facekd's own code runs; before it Python itself answers."""
    code = "import os, signal, facekd.cli as cli; cli.importlib.import_module = INTERRUPT; cli.main()"
    interrupt = "lambda name: os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run(
        [sys.executable, "-c", code.replace("INTERRUPT", interrupt)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 130 and not done.stderr
