"""The APK: built, and read back. Its Python tools are tested on made-up files in test_core.py."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_apk_is_what_it_should_be(demo: Path, fetched: Path, shared: Path, tmp_path: Path) -> None:
    """Signature, permissions, pages, size and references are checked by the build itself; here it has to pass.

    With ONNX Runtime's libraries where `build.py fetch --runtime` brought them, and without a model.
    """
    missing = [tool for tool in ("aapt2", "zipalign", "apksigner") if shutil.which(tool) is None]
    if missing or not Path("/usr/share/android-framework-res/framework-res.apk").is_file():
        pytest.skip(f"no {', '.join(missing) or 'framework-res.apk'}: apt-get install the packages of the README")
    apk = tmp_path / "demo.apk"
    words = ["apk", "--check-only", "--detector", shared / "weights" / "yunet_n_640_640.onnx", "--cache", fetched]
    result = subprocess.run(
        [sys.executable, *map(str, [demo / "build.py", *words, "--out", apk])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["permissions"] == ["android.permission.CAMERA"]
    assert found["android_references"] > 100
    assert found["detector"]
    assert "APK Signature Scheme v2" in found["signed"]
    with zipfile.ZipFile(apk) as archive:
        assert archive.testzip() is None
        libraries = sorted(name for name in archive.namelist() if name.endswith(".so"))
        manifest = archive.read("AndroidManifest.xml")
    assert "INTERNET".encode("utf-16-le") not in manifest
    if (fetched / "onnxruntime-android-1.26.0.aar").is_file():
        assert libraries == [f"lib/arm64-v8a/{name}.so" for name in ("libonnxruntime", "libonnxruntime4j_jni")]
        # The largest model that the budget leaves room for.
        assert found["bytes"] < 25_000_000 - 10_000_000
