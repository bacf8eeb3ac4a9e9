"""ruff and mypy are clean, on the layout that an installed package has."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("facekd", "export", "benchmarks", "tests", "android_demo", "setup.py")


def run(*words: str | Path, folder: Path) -> str:
    """What a module's command says where it finds fault; empty where it does not."""
    result = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPY_CACHE_DIR": str(folder / ".mypy_cache"), "RUFF_NO_CACHE": "true"},
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr


def test_ruff() -> None:
    assert run("ruff", "check", *FOLDERS, folder=ROOT) == ""


def test_ruff_format() -> None:
    assert run("ruff", "format", "--check", *FOLDERS, folder=ROOT) == ""


def test_mypy_on_the_installed_layout(installed_layout: Path) -> None:
    """setup.py puts export/ and benchmarks/ into the package; a type checker sees that only once installed."""
    assert run("mypy", "-p", "facekd", folder=installed_layout) == ""
