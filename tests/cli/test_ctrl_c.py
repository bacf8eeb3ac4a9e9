"""Ctrl-C at any moment of the verbs that write data: one line that says what was kept, and nothing left behind."""

import subprocess
import sys
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
    for moment_s in (0.001, 0.1, 0.3):
        out = tmp_path / f"{moment_s}"
        if there:
            (out / "a").mkdir(parents=True)
        out.mkdir(exist_ok=True)
        words = VERBS[verb](ground, shared, out)
        # Ctrl-C by the verb's own clock: nothing that happens on the machine lets it come too late.
        code = (
            "import os, signal\nfrom contextlib import contextmanager\nfrom facekd.cli import main, data\n"
            "kept = data._nothing_kept\n"
            "signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))\n"
            "@contextmanager\n"
            f"def timed(out):\n    with kept(out):\n        signal.setitimer(signal.ITIMER_REAL, {moment_s})\n"
            "        yield\n        signal.setitimer(signal.ITIMER_REAL, 0)\n"
            "data._nothing_kept = timed\nmain()\n"
        )
        command = [sys.executable, "-c", code, "data", *map(str, words)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode == 0:
            continue  # it was done before
        struck += 1
        said = ran.stderr
        assert ran.returncode == 130, said
        said = "".join(line for line in said.splitlines(keepends=True) if "rebuilt by scanning" not in line)  # warnings
        parts = out / ("a/b.parts" if verb == "align" else "b.rec.parts")
        if verb.startswith("align") and parts.exists():  # a fast machine had aligned some: tests/cli/test_pool.py
            assert f"photographs are kept in {parts}, and the same command goes on there\n" in said
            continue
        assert said.startswith("facekd: interrupted: nothing was kept, ") and said.count("\n") == 1
        assert said.endswith("was not made; the same command starts again\n")
        assert [path.relative_to(out).as_posix() for path in out.rglob("*")] == (["a"] if there else [])
    assert struck
