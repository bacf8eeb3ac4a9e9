"""Fixtures that every test may use."""

import os
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


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test starts from the same torch seed, whatever ran before it."""
    torch.manual_seed(0)
