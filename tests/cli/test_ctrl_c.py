"""Ctrl-C at any moment of the verbs that write data: one line that says what was kept, and nothing left behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facekd.data.opening import open_source
from facekd.data.packing import pack_records, write_folder

Words = Callable[[Path, Path, Path], list[str | Path]]

VERBS: dict[str, Words] = {
    "pack": lambda ground, shared, out: ["pack", ground / "images", out / "a" / "b"],
    "pack into a file": lambda ground, shared, out: ["pack", ground / "images", out / "a" / "b.rec"],
    "synth": lambda ground, shared, out: ["synth", out / "a" / "b", "--identities", "500"],
    "synth --folder": lambda ground, shared, out: ["synth", out / "a" / "b", "--identities", "500", "--folder"],
    "index": lambda ground, shared, out: ["index", *sorted(ground.glob("*.rec")), "--out", out / "a" / "b.faces"],
    "align": lambda ground, shared, out: [
        "align", shared / "data" / "lfw_raw", out / "a" / "b", "--detector", shared / "weights/yunet_n_640_640.onnx",
    ],
    "align into a file": lambda ground, shared, out: [
        "align", shared / "data" / "lfw_raw", out / "b.rec", "--detector", shared / "weights/yunet_n_640_640.onnx",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two thousand images in a folder, and two hundred .rec files, each with an index that has to be made anew."""
    folder = tmp_path_factory.mktemp("ground")
    write_folder(open_source("synthetic:identities=10,images=10"), folder / "drawn")
    for copy in range(20):
        for image in (folder / "drawn").glob("*/*.jpg"):
            target = folder / "images" / f"{copy}-{image.parent.name}" / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(image)
    pack_records(open_source("synthetic:identities=10,images=10"), folder / "0.rec")
    for number in range(1, 200):
        (folder / f"{number}.rec").hardlink_to(folder / "0.rec")
    return folder


@pytest.mark.parametrize("there", [False, True], ids=["free", "taken"])
@pytest.mark.parametrize("verb", VERBS)
def test_ctrl_c(ground: Path, tmp_path: Path, request: pytest.FixtureRequest, verb: str, there: bool) -> None:
    shared = request.getfixturevalue("shared") if verb.startswith("align") else Path()
    struck = 0
    for moment_s in (0.0, 0.1, 0.3):
        out = tmp_path / f"{moment_s}"
        if there:
            (out / "a").mkdir(parents=True)
        out.mkdir(exist_ok=True)
        words = VERBS[verb](ground, shared, out)
        code = (
            "import sys\nfrom contextlib import contextmanager\nfrom facekd.cli import main, data\n"
            "kept = data._nothing_kept\n"
            "@contextmanager\n"
            "def told(out):\n    with kept(out):\n        print('begun', flush=True)\n        yield\n"
            "data._nothing_kept = told\nmain()\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, "data", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None and process.stdout.readline() == "begun\n"
            time.sleep(moment_s)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        if process.returncode == 0:
            continue  # it was done before
        struck += 1
        assert process.returncode == 130, said
        said = "".join(line for line in said.splitlines(keepends=True) if "rebuilt by scanning" not in line)  # warnings
        assert said.startswith("facekd: interrupted: nothing was kept, ") and said.count("\n") == 1
        assert said.endswith("was not made; the same command starts again\n")
        assert [path.relative_to(out).as_posix() for path in out.rglob("*")] == (["a"] if there else [])
    assert struck
