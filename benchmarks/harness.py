"""How a latency is measured: warm up until it settles, then enough runs, then again until the noise is small.

Everything that tells time is a parameter, so that a test can script it.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from facekd.benchmarks.machine import read_state
from facekd.benchmarks.statistics import drift, has_settled, median_interval, summarise

# facekd's choices: a clock 5 % lower, a loop 10 % slower or a run 10 % slower at its end is no longer noise here.
FREQUENCY_DROP = 0.95
SPIN_RISE = 1.10
DRIFT = 1.10
CPU_SHARE = 0.9

Progress = Callable[[str, float], None]
"""Called with the phase and the seconds spent in it."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long to measure.

    Attributes:
        min_runs: timed inferences of a repeat, at least.
        duration_s: and seconds of a repeat, at least.
        interval: repeats go on until the interval of the median is at most this wide, relative to the median.
        max_repeats: and no further than this.
        max_warm_up_runs: bound of the warm-up.
        max_warm_up_s: bound of the warm-up.
        max_runs: bound of a repeat, for models so fast that the samples would fill the memory.
    """

    min_runs: int = 64
    duration_s: float = 10.0
    interval: float = 0.05
    max_repeats: int = 4
    max_warm_up_runs: int = 500
    max_warm_up_s: float = 5.0
    max_runs: int = 20_000

    def as_dict(self) -> dict[str, float]:
        """For the record."""
        return asdict(self)


@dataclass(kw_only=True)
class Measurement:
    """What `measure` found: fields of record.Latency, of record.State before and after, and the flags."""

    latency: dict[str, Any]
    before: dict[str, Any]
    after: dict[str, Any]
    flags: list[str] = field(default_factory=list)
    first_ms: float = 0.0


@dataclass(frozen=True)
class Timer:
    """Clocks of wall and of processor time, and what reading the first one twice costs; all in nanoseconds."""

    overhead_ns: float
    clock: Callable[[], int] = time.perf_counter_ns
    cpu_clock: Callable[[], int] = time.process_time_ns


def measure(
    call: Callable[[], object],
    plan: Plan,
    *,
    clock: Callable[[], int] = time.perf_counter_ns,
    cpu_clock: Callable[[], int] = time.process_time_ns,
    state: Callable[[], dict[str, Any]] = read_state,
    progress: Progress = lambda phase, seconds: None,
) -> Measurement:
    """Measures `call`, one inference.

    Args:
        call: has not run yet: its first run is timed on its own.
        plan: how long.
        clock: nanoseconds of wall time.
        cpu_clock: nanoseconds of processor time of the whole process.
        state: the machine's state.
        progress: told of the phase as it goes.
    """
    timer = Timer(clock_overhead_ns(clock), clock, cpu_clock)
    first_ms = time_calls(call, 1, timer)[0][0]
    warm, settled = _warm_up(call, plan, timer, progress)
    before = state()
    samples: list[float] = []
    processor: list[float] = []
    wall = cpu = 0
    repeats = 0
    low = high = width = float("inf")
    while repeats < plan.max_repeats and width > plan.interval:
        start, cpu_start = clock(), cpu_clock()
        more, their_processor = _stretch(call, plan, timer, progress)
        samples += more
        processor += their_processor
        cpu += cpu_clock() - cpu_start
        wall += clock() - start
        repeats += 1
        low, high = median_interval(samples)
        width = (high - low) / max(float(np.median(samples)), 1e-9)
    after = state()
    share = cpu / wall if wall else None
    latency = {
        "runs": len(samples),
        **summarise(samples),
        "cpu_p50_ms": float(np.median(processor)),
        "interval_low_ms": low,
        "interval_high_ms": high,
        "interval_width": width,
        "interval_wanted": plan.interval,
        "interval_reached": width <= plan.interval,
        "repeats": repeats,
        "warm_up_runs": 1 + warm,
        "settled": settled,
        "cpu_share": share,
        "clock_overhead_ms": timer.overhead_ns / 1e6,
        "quantiles_ms": [round(float(q), 6) for q in np.percentile(samples, np.arange(101))],
    }
    flags = _flags(latency, samples, before, after)
    return Measurement(latency=latency, before=before, after=after, flags=flags, first_ms=first_ms)


def clock_overhead_ns(clock: Callable[[], int] = time.perf_counter_ns, pairs: int = 1001) -> float:
    """Median nanoseconds between two readings of the clock with nothing between them."""
    readings = []
    for _ in range(pairs):
        start = clock()
        readings.append(clock() - start)
    return float(np.median(readings))


def time_calls(call: Callable[[], object], runs: int, timer: Timer) -> tuple[list[float], list[float]]:
    """(wall, processor) milliseconds of each of `runs` calls, the wall clock's overhead subtracted."""
    clock, cpu_clock = timer.clock, timer.cpu_clock  # looked up here, not between two readings
    wall, cpu = [], []
    for _ in range(runs):
        cpu_start = cpu_clock()  # outside of the wall readings: it is a system call
        start = clock()
        call()
        elapsed = clock() - start
        cpu.append((cpu_clock() - cpu_start) / 1e6)
        wall.append(max(elapsed - timer.overhead_ns, 0.0) / 1e6)
    return wall, cpu


def _warm_up(call: Callable[[], object], plan: Plan, timer: Timer, progress: Progress) -> tuple[int, bool]:
    """Runs until the running median settles: (number of runs, whether it did within the bounds)."""
    samples: list[float] = []
    start = timer.clock()
    while True:
        samples += time_calls(call, 1, timer)[0]
        seconds = (timer.clock() - start) / 1e9
        if has_settled(samples):
            return len(samples), True
        if len(samples) >= plan.max_warm_up_runs or seconds >= plan.max_warm_up_s:
            return len(samples), False
        progress("warm-up", seconds)


def _stretch(
    call: Callable[[], object], plan: Plan, timer: Timer, progress: Progress
) -> tuple[list[float], list[float]]:
    """One repeat, of at least plan.min_runs runs and plan.duration_s seconds: wall and processor milliseconds."""
    wall: list[float] = []
    processor: list[float] = []
    start = timer.clock()
    told = 0.0
    while True:
        more, their_processor = time_calls(call, 1, timer)
        wall += more
        processor += their_processor
        seconds = (timer.clock() - start) / 1e9
        if (len(wall) >= plan.min_runs and seconds >= plan.duration_s) or len(wall) >= plan.max_runs:
            return wall, processor
        if seconds - told >= 0.5:  # seldom: writing to a pipe between two runs would disturb the caches
            told = seconds
            progress("timing", seconds)


def _flags(latency: dict[str, Any], samples: list[float], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    flags = []
    if clock_dropped(before, after):
        flags.append("clock_dropped")
    if drift(samples) > DRIFT:
        flags.append("slowed")
    if latency["cpu_share"] is not None and latency["cpu_share"] < CPU_SHARE:
        flags.append("starved")
    if not latency["settled"]:
        flags.append("warm_up_unsettled")
    if not latency["interval_reached"]:
        flags.append("interval_wide")
    return flags


def clock_dropped(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """By the system's own frequencies, or else by the fixed loop."""
    if before["frequency_mhz"] and after["frequency_mhz"]:
        return bool(max(after["frequency_mhz"]) < FREQUENCY_DROP * max(before["frequency_mhz"]))
    if before["spin_ms"] and after["spin_ms"]:
        return bool(after["spin_ms"] > SPIN_RISE * before["spin_ms"])
    return False
