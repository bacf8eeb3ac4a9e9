"""Faults on purpose, a small size of each suite; the full size is run by hand (docs/reliability.md)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from facekd.benchmarks.faults import mutation
from facekd.benchmarks.faults.children import run_child
from facekd.benchmarks.faults.mutation import Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a case is a forked process")

SMALL = ["--mutations", "400", "--parts", "2", "--kills", "1", "--jobs", "pack", "train", "--shares", "0.5"]


def test_small_suites_find_nothing() -> None:
    command = [sys.executable, "-m", "facekd.benchmarks.faults", *SMALL, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows = json.loads(ended.stdout)["rows"]
    assert {row["suite"] for row in rows} == {"mutations", "truncation", "confinement", "kills", "disk"}
    assert [row["case"] for row in rows if row["findings"]] == []
    for row in rows:
        assert row["number"] > 0
        if row["suite"] == "mutations":  # the whole file is read, and most forgeries are not
            assert row["figures"]["read"] >= 1 and row["figures"]["refused"] + row["figures"]["read"] == row["number"]
        if row["suite"] == "kills":
            assert row["number"] == 1


def _write(path: Path) -> None:
    path.write_text("x")


MISDEEDS: list[tuple[str, Callable[[Path], object], str]] = [
    ("raises", lambda place: int("x"), "unforeseen: ValueError"),
    ("dies", lambda place: os.kill(os.getpid(), signal.SIGTERM), "died: SIGTERM"),
    ("hangs", lambda place: time.sleep(600), "hung"),
    ("writes outside", lambda place: _write(place / "in" / ".." / "outside"), "wrote "),
    ("moves outside", lambda place: (place / "in" / "a").rename(place / "b"), "wrote "),
    ("starts a process", lambda place: subprocess.run(["true"], check=True), "subprocess.Popen"),
    ("shows a traceback", lambda place: os.write(2, b"Traceback (most recent call last)"), "a traceback"),
    ("runs code", lambda place: _write(place / "canary"), "its code was run"),
]


@pytest.mark.parametrize(("work", "finding"), [row[1:] for row in MISDEEDS], ids=[row[0] for row in MISDEEDS])
def test_a_misdeed_is_a_finding(tmp_path: Path, work: Callable[[Path], object], finding: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    limit_s = 1 if finding == "hung" else 60
    verdict = Verdict()
    verdict.add("case", run_child(lambda: work(tmp_path), limit_s=limit_s, inside=tmp_path / "in"), tmp_path / "canary")
    assert any(finding in line for line in verdict.findings)


def test_memory_beyond_the_limit_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run_child(lambda: len(bytes(2**26)), limit_s=60)
    monkeypatch.setattr(mutation, "MEMORY_MIB", ended.peak_mib + 1)
    verdict = Verdict()
    verdict.add("well", ended, tmp_path / "canary")
    assert verdict.findings == []
    monkeypatch.setattr(mutation, "MEMORY_MIB", ended.peak_mib - 1)
    verdict.add("case", ended, tmp_path / "canary")
    assert verdict.findings == [f"case: {ended.peak_mib:.0f} MiB"]


def test_a_kill_strikes_in_the_place_of_a_change(tmp_path: Path) -> None:
    def work() -> None:
        for name in "abc":
            (tmp_path / name).write_text(name)

    whole = run_child(work, limit_s=60)
    assert (whole.how, whole.operations) == ("done", 3)
    for path in tmp_path.iterdir():
        path.unlink()
    assert run_child(work, limit_s=60, kill_at=3).how == "killed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
