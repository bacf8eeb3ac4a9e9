"""Under CI a test that skips for want of something that .ci/run could install fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
REASONS = {
    "tool": "no aapt2: apt-get install aapt",
    "package": "could not import 'onnx'",
    "phone": "no phone is attached",
    "gpu": "needs a GPU",
    "mac": "Core ML predicts on a Mac only",
    "shared": "no shared data at /x: set FACEKD_SHARED",
}


def outcomes(folder: Path, ci: str) -> dict[str, str]:
    """File -> how pytest's summary names what became of it."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-rsEf",
        "--continue-on-collection-errors",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(folder),
    ]
    environment = {**os.environ, "CI": ci, "COLUMNS": "200"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, env=environment)
    return {name: how for how, name in re.findall(r"^(SKIPPED|FAILED|ERROR)\b.*?test_(\w+)\.py", ended.stdout, re.M)}


def test_a_skip_in_ci(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    for name, reason in REASONS.items():
        skip = f"pytest.skip({reason!r}, allow_module_level=True)"
        (tmp_path / f"test_{name}_file.py").write_text(f"import pytest\n{skip}\n")
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\ndef test_it() -> None:\n    {skip}\n")
    assert outcomes(tmp_path, "") == {name: "SKIPPED" for one in REASONS for name in (one, f"{one}_file")}
    expected = dict.fromkeys(("phone", "gpu", "mac", "shared"), "SKIPPED") | dict.fromkeys(
        ("tool", "package"), "FAILED"
    )
    files = {f"{name}_file": "ERROR" if how == "FAILED" else how for name, how in expected.items()}
    assert outcomes(tmp_path, "1") == expected | files
