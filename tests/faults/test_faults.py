"""Faults on purpose, a small size of each suite; the full size is run by hand (docs/reliability.md)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import mutation
from tests.faults.children import run_child
from tests.faults.mutation import Verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a case is a forked process")

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--mutations", "400", "--parts", "2", "--kills", "1", "--jobs", "pack", "train", "--shares", "0.5"]


def run_faults(*options: str) -> list[dict[str, Any]]:
    """The rows of `python -m tests.faults`, which ends well only where no fault was a finding."""
    command = [sys.executable, "-m", "tests.faults", *options, "--json"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr[-2000:]
    rows: list[dict[str, Any]] = json.loads(ended.stdout)["rows"]
    return rows


def test_small_suites_find_nothing() -> None:
    rows = run_faults(*SMALL)
    assert {row["suite"] for row in rows} == {"mutations", "truncation", "confinement", "kills", "disk"}
    assert [row["case"] for row in rows if row["findings"]] == []
    for row in rows:
        assert row["number"] > 0
        if row["suite"] == "mutations":  # the whole file is read, and most forgeries are not
            assert row["figures"]["read"] >= 1 and row["figures"]["refused"] + row["figures"]["read"] == row["number"]
        if row["suite"] == "kills":
            assert row["number"] == 1


def test_five_kills_of_what_reads_millions_lose_nothing() -> None:
    """The command of docs/scaling.md, which kills each job fifty times."""
    rows = run_faults("--suites", "kills", "--kills", "5", "--jobs", "align", "pack", "embed")
    assert [(row["case"], row["number"], row["findings"]) for row in rows] == [
        ("align", 5, []), ("pack", 5, []), ("embed", 5, [])
    ]  # fmt: skip


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_full_suites_find_nothing() -> None:
    """What `python -m tests.faults` runs; hours."""
    rows = run_faults()
    assert [row["case"] for row in rows if row["findings"]] == []
    assert all(row["number"] == 50 for row in rows if row["suite"] == "kills")
    assert sum(row["number"] for row in rows if row["suite"] == "mutations") == 10_000


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
