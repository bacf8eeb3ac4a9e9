"""`facekd benchmark compare A B`: both models in turn, A B A B, so that whatever else the machine does meets both.

Two separate runs on a noisy machine compare its noise; only rounds measured side by side can carry a "faster than".
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from facekd.benchmarks.harness import CPU_SHARE
from facekd.benchmarks.run import open_worker
from facekd.benchmarks.statistics import has_settled, ratio_interval
from facekd.benchmarks.subject import Subject
from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import StrictSchema, explain
from facekd.schemas.record import ModelFacts

Turn = Callable[[int], tuple[list[float], list[float]]]
"""Number of runs -> their wall and processor milliseconds."""


@dataclass(frozen=True, kw_only=True)
class ComparePlan:
    """How long to compare.

    Attributes:
        round_s: seconds of one model's turn, about.
        min_rounds: rounds (A then B) at least.
        max_rounds: and at most.
        duration_s: no new round after this.
        interval: stop when the ratio is known to this share of itself.
        max_warm_up_s: bound of each model's warm-up.
    """

    round_s: float = 0.1
    min_rounds: int = 12
    max_rounds: int = 200
    duration_s: float = 60.0
    interval: float = 0.03
    max_warm_up_s: float = 5.0


class Ratio(StrictSchema):
    """Time of B by time of A, with its 95 % interval: above 1, A is the faster."""

    ratio: float
    low: float
    high: float

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 1 out."""
        return self.low > 1 or self.high < 1


class PairedComparison(StrictSchema):
    """What was found.

    Attributes:
        schema_version: rises when a field changes.
        wall: by wall time, which is what a user waits.
        cpu: by processor time over all threads, which preemption by other programs does not lengthen.
        a_ms: median over the rounds of A's median.
        cpu_share: processor time by wall time, of the model that got less of the processor.
        reached: whether the interval of the ratio that the verdict is about became as narrow as asked for.
        verdict: one sentence.
    """

    schema_version: Literal[1] = 1
    a: ModelFacts
    b: ModelFacts
    a_runtime: str
    b_runtime: str
    threads: int
    batch: int
    rounds: int
    runs_a_round: tuple[int, int]
    a_ms: float
    b_ms: float
    a_cpu_ms: float
    b_cpu_ms: float
    wall: Ratio
    cpu: Ratio
    cpu_share: float
    interval_wanted: float
    reached: bool
    verdict: str


def read_comparisons(path: Path) -> list[PairedComparison]:
    """All comparisons of a file that `compare --out` wrote.

    Raises:
        UsageError: there is no such file.
        FacekdError: a line is not a comparison; names the line.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a file that facekd benchmark compare --out wrote")
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        try:
            found.append(PairedComparison.model_validate_json(line))
        except ValidationError as error:
            raise FacekdError(
                f"{path}, line {number} is not a comparison ({explain(error, PairedComparison)}): remove the line"
            ) from None
    return found


def in_words(found: PairedComparison) -> str:
    """The verdict and what it was drawn from, for reports."""
    by = "" if found.reached else f"; the interval is wider than the {100 * found.interval_wanted:g} % asked for"
    return (
        f"{found.verdict}; medians {found.a_ms:.2f} and {found.b_ms:.2f} ms, {found.threads} "
        f"thread{'' if found.threads == 1 else 's'}, {found.rounds} rounds{by}"
    )


def compare(
    a: Subject,
    b: Subject,
    *,
    threads: int = 1,
    batch: int = 1,
    cores: list[int] | None = None,
    plan: ComparePlan | None = None,
    progress: Callable[[int, float], None] = lambda rounds, width: None,
) -> PairedComparison:
    """Measures `a` and `b` in turn, each in a process of its own that sleeps while the other runs.

    Raises:
        UsageError: a model cannot take the batch.
        FacekdError: a measuring process failed.
    """
    plan = plan or ComparePlan()
    for subject in (a, b):
        if problem := subject.batch_problem(batch):
            raise UsageError(f"--batch {batch}: {problem}")
    with ExitStack() as stack:
        turns: list[Turn] = []
        for subject in (a, b):
            worker, _ = stack.enter_context(open_worker(subject, threads=threads, batch=batch, cores=cores))

            def turn(runs: int, worker: object = worker) -> tuple[list[float], list[float]]:
                reply = worker.ask("round", runs=runs)  # type: ignore[attr-defined]
                return reply["latencies_ms"], reply["cpu_ms"]

            turns.append(turn)
        rounds = interleave(turns[0], turns[1], plan, progress=progress)
    wall, cpu = _ratio(rounds.wall), _ratio(rounds.cpu)
    share = cpu_share(rounds)
    a_ms, b_ms = (float(np.median(series)) for series in rounds.wall)
    a_cpu, b_cpu = (float(np.median(series)) for series in rounds.cpu)
    return PairedComparison(
        a=a.facts,
        b=b.facts,
        a_runtime=a.runtime,
        b_runtime=b.runtime,
        threads=threads,
        batch=batch,
        rounds=len(rounds.wall[0]),
        runs_a_round=rounds.runs,
        a_ms=a_ms,
        b_ms=b_ms,
        a_cpu_ms=a_cpu,
        b_cpu_ms=b_cpu,
        wall=wall,
        cpu=cpu,
        cpu_share=share,
        interval_wanted=plan.interval,
        reached=_width(cpu if share < CPU_SHARE and threads == 1 else wall) <= plan.interval,
        verdict=verdict(
            f"{a.facts.name} ({a.runtime})",
            f"{b.facts.name} ({b.runtime})",
            wall,
            cpu,
            share=share,
            threads=threads,
        ),
    )


@dataclass
class Rounds:
    """Medians of the rounds, A's and B's, and how many runs a round held."""

    wall: tuple[list[float], list[float]]
    cpu: tuple[list[float], list[float]]
    runs: tuple[int, int]


def interleave(
    a: Turn,
    b: Turn,
    plan: ComparePlan,
    *,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, float], None] = lambda rounds, width: None,
) -> Rounds:
    """A B A B until the ratio is known well enough or a bound is met."""
    runs = tuple(max(1, round(plan.round_s * 1e3 / _warm_up(turn, plan, clock))) for turn in (a, b))
    found = Rounds(wall=([], []), cpu=([], []), runs=(runs[0], runs[1]))
    start = clock()
    while len(found.wall[0]) < plan.max_rounds:
        for side, (turn, number) in enumerate(zip((a, b), runs, strict=True)):
            wall, cpu = turn(number)
            found.wall[side].append(float(np.median(wall)))
            # Processor clocks may be coarse; a model of microseconds must not come out as 0.
            found.cpu[side].append(max(float(np.median(cpu)), 1e-6))
        done = len(found.wall[0])
        if done < plan.min_rounds:
            progress(done, float("nan"))
            continue
        width = _width(_ratio(found.wall))
        progress(done, width)
        if width <= plan.interval or clock() - start >= plan.duration_s:
            break
    return found


def cpu_share(rounds: Rounds) -> float:
    """Processor time by wall time over all rounds, of the side where it is less."""
    return min(sum(cpu) / sum(wall) for wall, cpu in zip(rounds.wall, rounds.cpu, strict=True))


def verdict(a: str, b: str, wall: Ratio, cpu: Ratio, *, share: float, threads: int) -> str:
    """What may be claimed, and no more.

    Wall time decides, unless the processes did not get the processor: then their rounds tell when others ran, not how
    fast they are. One thread's processor time still tells; that of several, which wait for one another, does not.
    """
    if share >= CPU_SHARE:
        return _claim(a, b, wall, "")
    starved = f"the processor was theirs only {100 * share:.0f} % of the time, so wall time says nothing"
    if threads > 1:
        return f"no claim: {starved}, and with {threads} threads processor time does not stand in for it"
    return f"{_claim(a, b, cpu, ' by processor time')}; {starved}"


def _claim(a: str, b: str, ratio: Ratio, by: str) -> str:
    if not ratio.shown:
        return (
            f"no difference between {a} and {b} is shown{by}: the interval {ratio.low:.3f} to {ratio.high:.3f} holds 1"
        )
    if ratio.low > 1:
        return f"{a} is {ratio.ratio:.3f} times as fast as {b}{by} (95 % interval {ratio.low:.3f} to {ratio.high:.3f})"
    times, low, high = 1 / ratio.ratio, 1 / ratio.high, 1 / ratio.low
    return f"{b} is {times:.3f} times as fast as {a}{by} (95 % interval {low:.3f} to {high:.3f})"


def _ratio(series: tuple[list[float], list[float]]) -> Ratio:
    ratio, low, high = ratio_interval(series[1], series[0])
    return Ratio(ratio=ratio, low=low, high=high)


def _width(ratio: Ratio) -> float:
    return (ratio.high - ratio.low) / ratio.ratio


def _warm_up(turn: Turn, plan: ComparePlan, clock: Callable[[], float]) -> float:
    """Runs until the running median settles: it, in milliseconds."""
    samples: list[float] = []
    start = clock()
    while not has_settled(samples) and clock() - start < plan.max_warm_up_s:
        samples += turn(5)[0]
    return max(float(np.median(samples[-10:])), 1e-3)
