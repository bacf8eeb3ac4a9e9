"""log.jsonl: one object a line, cut back on resume; progress lines for a pipe."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from facekd.training.log import Pace, Reporter, TrainingLog, clock, resident_mib


def test_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path: Path) -> None:
    with TrainingLog(tmp_path) as log:
        for step in (1, 2, 3, 4):
            log.write("step", step, {"parts": {"loss": float(step)}})
    with log.path.open("a") as stream:
        stream.write('{"kind": "step", "st')  # a kill in the middle of a line
    with TrainingLog(tmp_path, after_step=2) as log:
        log.write("step", 3, {"parts": {"loss": float("nan")}})
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[2]["parts"]["loss"] is None


def test_a_pipe_gets_plain_lines_with_the_time_left() -> None:
    text = io.StringIO()
    reporter = Reporter(Console(file=text, width=200))
    reporter.start(0, 10)
    reporter.figures(5, 10, "loss 1.000 [b]")
    reporter.stop()
    assert text.getvalue().startswith("step 5/10  loss 1.000 [b]  0:00:0")
    assert text.getvalue().endswith(" left\n")


@pytest.mark.parametrize("every", [1, 10], ids=["each step told", "only the logged ones"])
@pytest.mark.parametrize("before", [0, 500], ids=["from the start", "resumed"])
def test_the_time_left_is_that_of_the_steps_after_a_slow_first_one(
    monkeypatch: pytest.MonkeyPatch, every: int, before: int
) -> None:
    """Seen: the estimate of quickstart jumped, since the mean pace held what starts up in the first step."""
    now, pace, total = [1000.0], 0.5, before + 1000
    monkeypatch.setattr("facekd.training.log.time.monotonic", lambda: now[0])
    text = io.StringIO()
    reporter = Reporter(Console(file=text, width=200))
    reporter.start(before, total)
    for done in range(before + 1, total):
        now[0] += 60 if done == before + 1 else pace * (1.02 if done % 2 else 0.98)
        if done % every == 0:
            reporter.advance(done)
        if done % 10 == 0:
            reporter.figures(done, total, "")
    lines = [line for line in text.getvalue().splitlines() if line]
    if every == 10:
        lines = lines[1:]  # the first line knows of the first step alone
    assert len(lines) > 90
    for line in lines:
        done = int(line.split()[1].partition("/")[0])
        hours, minutes, seconds = line.split()[2].split(":")
        left = 3600 * int(hours) + 60 * int(minutes) + int(seconds)
        assert left == pytest.approx(pace * (total - done), rel=0.1, abs=1), line


def test_the_time_left_follows_a_pace_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("facekd.training.log.time.monotonic", lambda: now[0])
    pace = Pace()
    pace.start(0)
    assert pace.seconds_a_step() == 0
    for done in range(1, 400):
        now[0] += 1 if done < 200 else 3
        pace.add(done)
    assert pace.seconds_a_step() == pytest.approx(3)


def test_units() -> None:
    assert clock(3 * 3600 + 125.9) == "3:02:05"
    memory = resident_mib()
    assert memory is not None
    assert 20 < memory < 100_000
