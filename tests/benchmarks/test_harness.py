"""The harness against a fake runtime whose clock and latencies are scripted: no real time passes."""

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import numpy as np
import pytest

from facekd.benchmarks.harness import Plan, clock_overhead_ns, measure

STILL = {"frequency_mhz": [], "temperature_c": {}, "spin_ms": 1.0, "governor": None}


class Script:
    """A clock that only moves when the fake model runs, or is read: each reading costs `reading_ns`."""

    def __init__(self, latencies_ms: Iterator[float], *, cpu_share: float = 1.0, reading_ns: int = 0) -> None:
        self.now = self.cpu = 0.0
        self.calls = 0
        self._latencies = latencies_ms
        self._share = cpu_share
        self._reading = reading_ns

    def clock(self) -> int:
        self.now += self._reading
        return int(self.now)

    def cpu_clock(self) -> int:
        return int(self.cpu)

    def call(self) -> None:
        elapsed = next(self._latencies) * 1e6
        self.now += elapsed
        self.cpu += elapsed * self._share
        self.calls += 1

    def measure(self, plan: Plan, states: tuple[dict[str, Any], dict[str, Any]] = (STILL, STILL)) -> Any:
        remaining = iter(states)
        return measure(self.call, plan, clock=self.clock, cpu_clock=self.cpu_clock, state=lambda: next(remaining))


def test_first_warm_up_and_timed_runs_are_told_apart() -> None:
    """100 ms at first, then a falling warm-up, then 2 ms: only the 2 ms may be among the timed runs."""
    script = Script(chain([100.0], [10 - 0.4 * i for i in range(20)], repeat(2.0)))
    found = script.measure(Plan(min_runs=50, duration_s=0.2))
    latency = found.latency
    assert found.first_ms == pytest.approx(100)
    assert latency["settled"]
    assert latency["max_ms"] == latency["min_ms"] == latency["p50_ms"] == pytest.approx(2)
    assert latency["runs"] == 100  # 0.2 s of 2 ms, which is more than 50
    assert latency["repeats"] == 1
    assert latency["cpu_p50_ms"] == pytest.approx(2)
    assert script.calls == latency["warm_up_runs"] + latency["runs"]
    assert found.flags == []


def test_percentiles_are_those_of_the_script() -> None:
    timed = np.random.default_rng(0).permutation(np.linspace(1.9, 2.1, 200))
    script = Script(chain(repeat(2.0, 21), timed, repeat(2.0)))
    latency = script.measure(Plan(min_runs=200, duration_s=0, interval=1)).latency
    assert latency["warm_up_runs"] == 21
    assert latency["p99_ms"] == pytest.approx(np.percentile(timed, 99), abs=1e-5)
    assert latency["quantiles_ms"] == pytest.approx(np.percentile(timed, range(101)), abs=1e-5)


def test_clock_overhead_is_subtracted_and_shown() -> None:
    script = Script(repeat(1.0), reading_ns=40_000)
    assert clock_overhead_ns(script.clock) == 40_000
    latency = script.measure(Plan(min_runs=30, duration_s=0)).latency
    assert latency["clock_overhead_ms"] == pytest.approx(0.04)
    assert latency["p50_ms"] == pytest.approx(1.0)


def test_warm_up_that_never_settles_is_bounded_and_flagged() -> None:
    endless = (100 * 1.01**-i for i in range(100_000))
    found = Script(endless).measure(Plan(min_runs=20, duration_s=0, max_warm_up_runs=60, max_warm_up_s=1e9))
    assert found.latency["warm_up_runs"] == 61
    assert "warm_up_unsettled" in found.flags


def test_noise_repeats_until_the_interval_is_narrow_or_says_so() -> None:
    generator = np.random.default_rng(5)

    def noisy(spread: float) -> Iterator[float]:
        yield from repeat(2.0, 21)
        while True:
            yield float(generator.lognormal(0.7, spread))

    plan = Plan(min_runs=40, duration_s=0, interval=0.05, max_repeats=6)
    wild = Script(noisy(1.5)).measure(plan)
    assert (wild.latency["repeats"], wild.latency["interval_reached"]) == (6, False)
    assert "interval_wide" in wild.flags
    mild = Script(noisy(0.1)).measure(plan)
    assert mild.latency["repeats"] < 6
    assert mild.latency["interval_width"] <= 0.05
    assert "interval_wide" not in mild.flags


@pytest.mark.parametrize(
    ("make", "states", "flag"),
    [
        (lambda: Script(repeat(2.0), cpu_share=0.02), (STILL, STILL), "starved"),
        (lambda: Script(chain(repeat(2.0, 171), repeat(2.6))), (STILL, STILL), "slowed"),
        (
            lambda: Script(repeat(2.0)),
            (STILL | {"frequency_mhz": [2400.0, 1800.0]}, STILL | {"frequency_mhz": [1200.0, 1800.0]}),
            "clock_dropped",
        ),
        (lambda: Script(repeat(2.0)), (STILL, STILL | {"spin_ms": 1.3}), "clock_dropped"),
    ],
    ids=["a sleeping model", "throttled midway", "the system's frequency", "the loop where the system shows none"],
)
def test_a_disturbed_run_is_flagged(
    make: Callable[[], Script], states: tuple[dict[str, Any], dict[str, Any]], flag: str
) -> None:
    found = make().measure(Plan(min_runs=200, duration_s=0, interval=10), states)
    assert found.flags == [flag]


def test_runs_are_bounded() -> None:
    latency = Script(repeat(0.001)).measure(Plan(min_runs=10, duration_s=60, max_runs=500)).latency
    assert latency["runs"] == 500


def test_the_expected_time_is_said_and_holds_what_a_measurement_can_take() -> None:
    """Seen: five models, and no word of how long they take."""
    import re

    from facekd.benchmarks.run import expected_time

    plan = Plan(duration_s=10, max_repeats=4, max_warm_up_s=5, min_runs=64, interval=0.05)
    text = expected_time(5, plan)
    found = re.match(r"5 measurements take about (\d+) s to (\d+) min: an estimate, ", text)
    assert found is not None, text
    # The shortest possible: one repeat each; the longest: the whole warm-up and every repeat.
    assert 5 * 10 <= int(found[1]) <= 5 * 15
    assert 5 * (5 + 4 * 10) / 60 <= float(found[2]) <= 5 * (5 + 4 * 10 + 5) / 60
    assert "more than 156 ms an image" in text  # 64 runs of it take 10 s
