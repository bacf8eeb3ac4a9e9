"""Fixtures that every test may use."""

import os
import shutil
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

os.environ["FACEKD_TRUSTED_MODULES"] = "tiny_models"  # the tests' own student, which recipes name; children inherit it


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real faces and weights (FACEKD_SHARED, default ../shared beside the project)."""
    folder = Path(os.environ.get("FACEKD_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no shared data at {folder}: set FACEKD_SHARED to run the tests on real faces")
    return folder


@pytest.fixture(scope="session")
def installed_layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as installed, only to be read: export/ is facekd/export, benchmarks/ facekd/benchmarks.

    What reads the tree instead of importing it (a type checker, import-linter) sees the real names only so.
    """
    place = tmp_path_factory.mktemp("layout")
    for source, target in (("facekd", "facekd"), ("export", "facekd/export"), ("benchmarks", "facekd/benchmarks")):
        shutil.copytree(ROOT / source, place / target, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".importlinter"):
        shutil.copy(ROOT / name, place)
    return place


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same torch seed, whatever ran before it."""
    torch.manual_seed(0)
