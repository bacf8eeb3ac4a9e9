"""The app launched on this machine by Robolectric (android_demo/launch): on drawn faces, and on photographs."""

import os
import shutil
import struct
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path

import pytest

PAGES = ("main", "people", "settings", "benchmark", "consent", "name")


@pytest.fixture(scope="module")
def robolectric(demo: Path, fetched: Path) -> Path:
    """The folder of downloaded files, with Robolectric's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(demo))
        from building.launch_pins import FOR_LAUNCH
    if shutil.which("aapt2") is None or not Path("/usr/share/android-framework-res/framework-res.apk").is_file():
        pytest.skip("no aapt2 or framework-res.apk: apt-get install the packages of the README")
    if not all((fetched / pin.file_name).is_file() for pin in FOR_LAUNCH):
        if "CI" not in os.environ:
            pytest.skip(f"no Robolectric in {fetched}: run python android_demo/build.py fetch")
        words = [sys.executable, str(demo / "build.py"), "fetch", "--cache", str(fetched)]
        subprocess.run(words, check=True, capture_output=True)
    return fetched


def material(demo: Path, out: Path, *words: str | Path) -> Path:
    """A folder of make_launch_set.py."""
    command = [sys.executable, demo / "make_launch_set.py", out, *words]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return out


def launch(demo: Path, cache: Path, *words: str | Path) -> None:
    """Runs the tests in android_demo/launch."""
    command = [sys.executable, demo / "build.py", "launch-test", "--cache", cache, *words]
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-4000:]
    assert "OK (" in result.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_screen_starts_and_is_photographed(demo: Path, robolectric: Path, tmp_path: Path) -> None:
    """Drawn faces, a student that facekd exported: launch, permission, rotation, process death, sequences, pages."""
    pytest.importorskip("onnxscript", reason="facekd[onnx] is not installed")
    shutil.rmtree(demo / "build/pages", ignore_errors=True)
    launch(demo, robolectric, "--material", material(demo, tmp_path / "drawn"), "--screens", "pairs")
    found = {path.stem for path in (demo / "build/pages").glob("*.png")}
    kinds = [("phone", "tablet", "landscape"), ("light", "dark"), ("font1", "font2")]
    screens = {path.stem.removesuffix("-main") for path in (demo / "build/pages").glob("*-font?-main.png")}
    for one, other in combinations(range(3), 2):  # each two of size, light and text size meet
        met = {(words[one], words[other]) for words in (screen.split("-") for screen in screens)}
        assert met == set(product(kinds[one], kinds[other]))
    assert {f"{screen}-{page}" for screen in [*screens, "phone-arabic"] for page in PAGES} <= found
    sizes = [struct.unpack(">II", (demo / f"build/pages/{s}-main.png").read_bytes()[16:24]) for s in screens]
    assert len(set(sizes)) == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_sequences_and_promises_on_real_faces(demo: Path, robolectric: Path, shared: Path, tmp_path: Path) -> None:
    """LFW's photographs before the camera, EdgeFace-XS with a calibration and YuNet behind it."""
    if not (shared / "data/lfw_raw").is_dir():
        pytest.skip(f"no photographs of LFW in {shared / 'data' / 'lfw_raw'}")
    real = material(demo, tmp_path / "real", "--shared", shared)
    launch(demo, robolectric, "--material", real, "--only", "SequenceTest", "PromiseTest", "LivenessTest")
