"""Where figures go: each tracker's own package reads back what was logged, without a network."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from facekd.common.errors import UsageError
from facekd.training.log import TrainingLog
from facekd.training.trackers import TRACKERS, TrackedRun, Tracker, Trackers


def write(folder: Path, chosen: list[Any], *, after_step: int = 0, steps: tuple[int, ...] = (10, 20)) -> list[str]:
    """A run of two steps and an evaluation; returns the warnings."""
    warnings: list[str] = []
    run = TrackedRun(folder, "recipe-name", {"seed": 3}, after_step)
    with TrainingLog(folder, after_step=after_step, trackers=Trackers(chosen, run, warn=warnings.append)) as log:
        for step in steps:
            log.write("step", step, {"parts": {"loss": 1 / step}, "note": "words are not shown"})
        log.write("evaluation", steps[-1], {"accuracy": 0.75})
    return warnings


def test_tensorboard_shows_the_same_figures(tmp_path: Path) -> None:
    assert write(tmp_path, ["tensorboard"]) == []
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["evaluation/accuracy", "step/parts/loss"]
    loss = events.Scalars("step/parts/loss")
    assert [event.step for event in loss] == [10, 20]
    assert [event.value for event in loss] == pytest.approx([0.1, 0.05])


def offline(tmp_path: Path, tracker: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Two runs of one folder, the second resumed, in a process that may open no connection beyond this machine."""
    code = (
        "import socket, sys\n"
        "connect = socket.socket.connect\n"
        "def only_here(self, address):\n"
        "    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ('127.0.0.1', '::1'):\n"
        "        print('CONNECTS', address, file=sys.stderr)\n"
        "        raise OSError('no network')\n"
        "    return connect(self, address)\n"
        "socket.socket.connect = only_here\n"
        "from pathlib import Path\n"
        "from tests.training.test_trackers import write\n"
        f"folder = Path({str(tmp_path / 'run')!r})\n"
        f"print(write(folder, [{tracker!r}]))\n"
        f"print(write(folder, [{tracker!r}], after_step=20, steps=(30, 40)))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        check=False, capture_output=True, text=True, timeout=240, cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )  # fmt: skip


def test_trackio_reads_back_what_was_logged(tmp_path: Path) -> None:
    done = offline(tmp_path, "trackio", TRACKIO_DIR=str(tmp_path / "trackio"), HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n[]\n", "its greetings belong on stderr"
    assert "CONNECTS" not in done.stderr
    code = (
        "import json\nfrom trackio.sqlite_storage import SQLiteStorage as S\n"
        "print(json.dumps(S.get_logs('recipe-name', 'run'), default=str))\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")},
    )  # fmt: skip
    rows = json.loads(read.stdout)
    loss = {row["step"]: row["step/parts/loss"] for row in rows if "step/parts/loss" in row}
    assert loss == pytest.approx({10: 0.1, 20: 0.05, 30: 1 / 30, 40: 0.025})


def test_wandb_writes_its_own_file_offline(tmp_path: Path) -> None:
    done = offline(tmp_path, "wandb", WANDB_MODE="offline", WANDB_CONFIG_DIR=str(tmp_path), HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n[]\n"
    assert "CONNECTS" not in done.stderr
    files = sorted((tmp_path / "run/wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2 and all(file.stat().st_size > 0 for file in files)
    assert b"step/parts/loss" in files[0].read_bytes()
    assert len({file.stem for file in files}) == 1  # the same run goes on


def test_wandb_without_an_account_says_what_to_do(tmp_path: Path) -> None:
    done = offline(tmp_path, "wandb", WANDB_MODE="online", HOME=str(tmp_path), WANDB_CONFIG_DIR=str(tmp_path))
    assert done.returncode == 1
    assert (
        "Weights & Biases cannot be used: " in done.stderr
        and "run `wandb login`, or set WANDB_MODE=offline" in done.stderr
    )


class Failing(Tracker):
    """Fails at its second figure."""

    logged = 0

    @classmethod
    def open(cls, run: TrackedRun) -> "Failing":
        return cls()

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        Failing.logged += 1
        if Failing.logged == 2:
            raise ConnectionError("the server is gone\nand says so at length")

    def close(self) -> None: ...


def test_a_function_and_one_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function gets every figure; a tracker that fails is left out with one warning, and the log is whole."""
    TRACKERS.register("failing-in-a-test", Failing)
    seen: list[tuple[int, dict[str, float]]] = []
    warnings = write(tmp_path, ["failing-in-a-test", lambda step, figures: seen.append((step, dict(figures)))])
    assert seen == [
        (10, {"step/parts/loss": 0.1}), (20, {"step/parts/loss": 0.05}), (20, {"evaluation/accuracy": 0.75})
    ]  # fmt: skip
    assert warnings == ["Failing fails and is left out from here on: the server is gone; log.jsonl has every figure"]
    assert Failing.logged == 2
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_an_unknown_tracker_is_told_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"tensorboar.*did you mean 'tensorboard'") as refused:
        Trackers(["tensorboar"], TrackedRun(tmp_path), warn=print)
    assert "trackio" in str(refused.value) and "wandb" in str(refused.value)
