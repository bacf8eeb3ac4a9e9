"""`align`, `pack`, `inspect` and `embed` in one process, in two and on a cluster: the same result, and damage named."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from facekd.cli import data, embed
from facekd.common.errors import Interrupted, UsageError
from facekd.data.decoding import encode_png
from facekd.data.detection import choose_face
from facekd.data.opening import open_source
from facekd.data.packing import write_folder
from tests.dask_cluster import LocalCluster, dask_cluster
from tests.faults.targets import make_bundle
from tests.runtimes.test_scrfd import picture, write

PEOPLE, EACH = 3, 12


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with a detector that finds faces in them, aligned faces, and a model; a damaged picture in each."""
    folder = tmp_path_factory.mktemp("ground")
    write(folder / "detector.onnx")
    for number in range(PEOPLE * EACH):
        file = folder / f"photographs/{number // EACH}/{number:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(picture(100, 75, number)))
    write_folder(open_source(f"synthetic:identities={PEOPLE},images={EACH}"), folder / "faces")
    for place in ("photographs", "faces"):
        (folder / place / "1/broken.jpg").write_bytes(b"\xff\xd8\xff")
    make_bundle(folder / "bundle", seed=0)
    return folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask")) as made:
        yield made


def words(verb: str, ground: Path, out: Path) -> list[object]:
    detector = ("--detector", ground / "detector.onnx")
    return {
        "align": ["data", "align", ground / "photographs", out / "faces", *detector],
        "align into a file": ["data", "align", ground / "photographs", out / "faces.rec", *detector],
        "pack": ["data", "pack", ground / "faces", out],
        "inspect": ["data", "inspect", ground / "faces"],
        "embed": ["embed", ground / "bundle", ground / "faces", "--out", out / "e.npz", "--batch-size", "4"],
        "embed photographs": [
            "embed", ground / "bundle", ground / "photographs", "--out", out / "e.npz", "--batch-size", "4", *detector,
        ],
    }[verb]  # fmt: skip


def run(*arguments: object) -> str:
    app = typer.Typer()
    data.register(app)
    embed.register(app)
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.exception
    return result.stdout


def content(out: Path, printed: str) -> tuple[str, dict[str, str]]:
    """What was printed and written, without the names of the places."""
    files = {
        file.relative_to(out).as_posix(): hashlib.sha256(file.read_bytes().replace(bytes(out), b"")).hexdigest()
        for file in sorted(out.rglob("*"))
        if file.is_file()
    }
    return printed.replace(str(out), ""), files


VERBS = ("align", "align into a file", "pack", "inspect", "embed", "embed photographs")


@pytest.mark.parametrize("verb", VERBS)
def test_the_number_of_workers_changes_nothing(tmp_path: Path, ground: Path, cluster: LocalCluster, verb: str) -> None:
    """In order, and byte for byte; the damaged picture is named and passed over."""
    found = []
    for name, options in {
        "one": ("--workers", 1),
        "two": ("--workers", 2),
        "dask": ("--dask", cluster.address),
    }.items():
        out = tmp_path / name
        out.mkdir()
        found.append(content(out, run(*words(verb, ground, out), *options)))
        assert not list(out.glob("*.parts"))
    assert found[0] == found[1] == found[2]
    printed = json.loads(found[0][0])
    assert "1/broken.jpg" in found[0][0]
    if verb == "inspect":
        assert printed["sizes"] == {"112x112": PEOPLE * EACH} and len(printed["broken"]) == 1
    elif "embed" in verb:
        assert len(printed["skipped"]) >= 1 and printed["embedded"] >= PEOPLE * EACH / 2
    else:
        assert printed.get("aligned", printed.get("images")) >= PEOPLE * EACH / 2


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekd.common.cluster.CONNECT_S", 1.0)
    app = typer.Typer()
    data.register(app)
    command = [*words("pack", ground, tmp_path / "out"), "--dask", "tcp://127.0.0.1:9"]
    refused = CliRunner().invoke(app, [*map(str, command)]).exception
    assert isinstance(refused, UsageError) and "no Dask scheduler at tcp://127.0.0.1:9: " in str(refused)
    assert "\n" not in str(refused) and not list(tmp_path.iterdir())


EAGER = """
from facekd.cli import main
from facekd.data import aligned_parts
aligned_parts.COMMIT_S = 0.0
main()
"""
"""facekd, which syncs each photograph."""


@pytest.mark.parametrize("struck", ["the command", "a worker"])
def test_align_goes_on_after_kill_9(tmp_path: Path, ground: Path, struck: str) -> None:
    """With two workers, killed once something is kept; the same command ends with the same bytes."""
    command = words("align", ground, tmp_path / "out")
    whole = run(*words("align", ground, tmp_path / "whole"), "--workers", 1)
    with subprocess.Popen(
        [sys.executable, "-c", EAGER, *map(str, command), "--workers", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        state = tmp_path / "out/faces.parts/state.json"
        while process.poll() is None and not done(state):
            time.sleep(0.005)
        for victim in [process.pid] if struck == "the command" else children(process.pid):
            os.kill(victim, signal.SIGKILL)
        _, said = process.communicate(timeout=300)
    if kept := done(state):
        assert process.returncode
        if struck == "a worker":
            assert said.startswith("facekd: a worker process died: ") and said.count("\n") == 1
            assert f"; {kept} of {PEOPLE * EACH + 1} photographs are kept in {state.parent}, and the same" in said
    printed = run(*command, "--workers", 1, "--overwrite")
    assert content(tmp_path / "out", printed) == content(tmp_path / "whole", whole)


def done(state: Path) -> int:
    return int(json.loads(state.read_text())["done"]) if state.exists() else 0


def children(pid: int) -> list[int]:
    """The processes of a process's pool; none where it has ended."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in found if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]
    except OSError:
        return []


def test_ctrl_c_keeps_what_is_aligned_and_another_alignment_is_refused(
    tmp_path: Path, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = words("align", ground, tmp_path)
    looked: list[int] = []

    def interrupted(*arguments: object, **named: object) -> object:
        looked.append(1)
        if len(looked) > 10:
            raise KeyboardInterrupt
        return choose_face(*arguments, **named)  # type: ignore[arg-type]

    app = typer.Typer()
    data.register(app)
    with monkeypatch.context() as patch:
        patch.setattr("facekd.data.align_folder.choose_face", interrupted)
        patch.setattr("facekd.data.aligned_parts.COMMIT_S", 0.0)
        stopped = CliRunner().invoke(app, [*map(str, command), "--workers", "1"]).exception
    assert isinstance(stopped, Interrupted), stopped
    assert str(stopped) == (
        f"interrupted: 10 of {PEOPLE * EACH + 1} photographs are kept in {tmp_path / 'faces.parts'}, and the same "
        "command goes on there"
    )
    refused = CliRunner().invoke(app, [*map(str, command), "--size", "96"]).exception
    assert isinstance(refused, UsageError) and refused.exit_code == 2
    assert "photographs, aligned with another --size: give the same command to go on" in str(refused)
    run(*command, "--size", 96, "--overwrite")
    assert open_source(tmp_path / "faces", size=(96, 96)).read(0).shape == (96, 96, 3)
    assert not list(tmp_path.glob("*.parts"))
