"""The Android demo's folder, and the files its build needs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "android_demo"


@pytest.fixture(scope="session")
def demo() -> Path:
    """android_demo/."""
    if not (DEMO / "build.py").is_file():
        pytest.skip("not run from a checkout: there is no android_demo")
    return DEMO


@pytest.fixture(scope="session")
def fetched(demo: Path) -> Path:
    """The folder of the Kotlin compiler and the jars. In CI it is filled; elsewhere nothing is downloaded unasked."""
    if shutil.which("java") is None:
        pytest.skip("no java on the PATH: install a JDK 17")
    folder = Path(os.environ.get("FACEKD_ANDROID_CACHE") or Path.home() / ".cache" / "facekd" / "android")
    if not (folder / "dalvik-dx-16.0.1.jar").is_file():  # the last one that is fetched
        if "CI" not in os.environ:
            pytest.skip(f"no Kotlin in {folder}: run python android_demo/build.py fetch, or set FACEKD_ANDROID_CACHE")
        words = [sys.executable, str(demo / "build.py"), "fetch"]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"build.py fetch: {result.stderr.strip().splitlines()[-1]}")
    return folder
