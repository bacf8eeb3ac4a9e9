"""ruff and mypy are clean, on the layout that an installed package has."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*words: str | Path, folder: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPY_CACHE_DIR": str(folder / ".mypy_cache"), "RUFF_NO_CACHE": "true"},
    )
    return "" if result.returncode == 0 else result.stdout + result.stderr


@pytest.fixture(scope="module")
def checkout() -> Path:
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("not run from a checkout: there is no source tree to check")
    return ROOT


def test_ruff(checkout: Path) -> None:
    assert run("ruff", "check", "facekd", "export", "benchmarks", "tests", folder=checkout) == ""


def test_mypy_on_the_installed_layout(checkout: Path, tmp_path: Path) -> None:
    """setup.cfg puts export/ and benchmarks/ into the package; a type checker sees that only once installed."""
    for source, target in (("facekd", "facekd"), ("export", "facekd/export"), ("benchmarks", "facekd/benchmarks")):
        shutil.copytree(checkout / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "facekd/benchmarks/__init__.py").touch()
    shutil.copy(checkout / "pyproject.toml", tmp_path)
    assert run("mypy", "-p", "facekd", folder=tmp_path) == ""
