"""`facekd benchmark`: every model with every number of threads and batch, one process each, one record each."""

import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.accuracy import FingerprintedPairs, accuracy_of
from facekd.benchmarks.gemm import arithmetic_of
from facekd.benchmarks.harness import Plan
from facekd.benchmarks.machine import describe_host
from facekd.benchmarks.process import Worker
from facekd.benchmarks.subject import Subject
from facekd.common.errors import UsageError
from facekd.common.progress import progress_bar
from facekd.common.versions import __version__
from facekd.export.golden import cosine
from facekd.runtimes.coreml import UNITS_VARIABLE
from facekd.schemas.record import (
    Device,
    Latency,
    Memory,
    Operators,
    Rate,
    Record,
    Setup,
    Start,
    State,
    append_record,
)

GEMM_SECONDS = 3.0
PROFILE_RUNS = 20
_START_S = 3.0  # a process that imports a runtime and opens a model, on two cores


@dataclass(frozen=True, kw_only=True)
class HostRun:
    """What to measure on this machine.

    Attributes:
        threads: numbers of threads.
        batches: batch sizes.
        plan: how long.
        cores: pin the measuring process to these.
        compute_units: of Core ML, a record each: cpu, gpu, ane, all; empty leaves the choice to FACEKD_COREML_UNITS.
        profile: take per-operator times.
        peak: measure this machine's GEMM.
        pairs: verification set, or None.
        cache: of accuracies.
        trust_input: do not check on the pairs that foreign files are fed as they were trained.
        out: file that each record is appended to as soon as it is there.
        commit: for the history; default what git says of the working folder.
    """

    threads: Sequence[int] = (1,)
    batches: Sequence[int] = (1,)
    plan: Plan = field(default_factory=Plan)
    cores: list[int] | None = None
    compute_units: Sequence[str] = ()
    profile: bool = True
    peak: bool = True
    pairs: FingerprintedPairs | None = None
    cache: Path | None = None
    trust_input: bool = False
    out: Path | None = None
    commit: str | None = None


def expected_time(cells: int, plan: Plan) -> str:
    """About how long so many measurements take, in words: from one repeat each to as many as the plan allows."""
    low, high = (
        cells * (_START_S + warm_up + repeats * plan.duration_s)
        for warm_up, repeats in ((0.5, 1), (plan.max_warm_up_s, plan.max_repeats))
    )
    slow_ms = 1e3 * plan.duration_s / plan.min_runs
    return (
        f"{cells} measurements take about {_minutes(low)} to {_minutes(high)}: an estimate, from {plan.duration_s:g} s "
        f"each, measured up to {plan.max_repeats} times until the median is known to {100 * plan.interval:g} %; longer "
        f"for models of more than {slow_ms:.0f} ms an image"
    )


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def run_on_host(
    subjects: Sequence[Subject],
    settings: HostRun,
    *,
    progress: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Record]:
    """Measures and returns the records, in order; `tell` is told at the start how long several will take, about.

    Raises:
        UsageError: a model cannot take one of the batches; before anything is measured.
        FacekdError: a measuring process failed; the records before it are in `settings.out`.
    """
    cells = [
        (s, threads, batch, units)
        for threads in settings.threads
        for batch in settings.batches
        for s in subjects
        for units in (settings.compute_units if s.runtime == "coreml" and settings.compute_units else (None,))
    ]
    for subject, _, batch, _ in cells:
        if problem := subject.batch_problem(batch):
            raise UsageError(f"--batch {batch}: {problem}")
    if len(cells) > 1:
        beside = " (the accuracy on --pairs not counted)" if settings.pairs is not None else ""
        tell(expected_time(len(cells), settings.plan) + beside)
    run = uuid.uuid4().hex[:12]
    commit = settings.commit or git_commit()
    device = Device(**describe_host())
    records: list[Record] = []
    peaks: dict[tuple[str, int], tuple[float, str]] = {}
    with progress_bar("benchmark", len(cells), shown=progress) as bar:
        for index, (subject, threads, batch, units) in enumerate(cells):
            title = f"{subject.facts.name}, {subject.runtime}, {units or _plural(threads, 'thread')}"
            accuracy = None
            if settings.pairs is not None and settings.cache is not None:
                bar.describe(f"{title}: accuracy")
                with bar.aside():
                    accuracy = accuracy_of(
                        subject,
                        settings.pairs,
                        cache=settings.cache,
                        threads=threads,
                        trust_input=settings.trust_input,
                        progress=progress,
                    )
            peak = None
            if settings.peak and subject.facts.macs:
                key = (arithmetic_of(subject.facts.precision), threads)
                if key not in peaks:
                    bar.describe(f"{title}: {key[0]} GEMM peak")
                    peaks[key] = measure_peak(*key, cores=settings.cores)
                peak = peaks[key]

            def show(phase: str, seconds: float, title: str = title, index: int = index) -> None:
                share = seconds / max(settings.plan.duration_s, 0.1)
                bar.describe(f"{title}: {phase}")
                bar.move(index + (min(share, 1) * 0.9 if phase == "timing" else 0))

            found = measure_cell(subject, threads, batch, settings, show, units=units)
            latency = Latency(**found["latency"])
            record = Record(
                id=uuid.uuid4().hex,
                run=run,
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                facekd_version=__version__,
                commit=commit,
                model=subject.facts,
                setup=Setup(
                    runtime=subject.runtime,
                    runtime_version=found["runtime_version"],
                    provider=found["provider"],
                    threads=threads,
                    batch=batch,
                    cores=settings.cores,
                ),
                device=device,
                plan=settings.plan.as_dict(),
                start=Start(load_ms=found["load_ms"], first_ms=found["first_ms"]),
                latency=latency,
                memory=Memory(**found["memory"]),
                rate=rate_of(subject.facts.macs, batch, threads, latency, peak),
                before=State(**found["before"]),
                after=State(**found["after"]),
                flags=found["flags"],
                operators=Operators(**found["operators"]) if found["operators"] else None,
                accuracy=accuracy,
                cosine_to_golden=found["cosine"],
            )
            if settings.out is not None:
                append_record(settings.out, record)
            records.append(record)
            bar.describe(title)
            bar.move(index + 1)
    return records


def measure_cell(
    subject: Subject,
    threads: int,
    batch: int,
    settings: HostRun,
    tell: Callable[[str, float], None],
    *,
    units: str | None = None,
) -> dict[str, Any]:
    """One model in a process of its own: everything that the worker reports, in one dict."""
    golden = subject.golden()
    with open_worker(subject, threads=threads, batch=batch, cores=settings.cores, units=units) as (worker, opened):
        found = opened | worker.ask("measure", tell=tell, plan=settings.plan.as_dict())
        output = worker.ask("output")["output"]
        # Exported artefacts return float embeddings; the first row is the golden crop's.
        found["cosine"] = cosine(np.array(output[: len(golden[1])]), golden[1]) if golden else None
        found["operators"] = worker.ask("profile", runs=PROFILE_RUNS)["operators"] if settings.profile else None
        if settings.profile and found["operators"] is None and subject.manifest and subject.manifest.partitions:
            found["operators"] = {
                "method": "no times: this runtime's Python package has no profiler; partitions as exported",
                "operators": [],
                "delegate": found["provider"],
                "partitions": subject.manifest.partitions,
            }
    return found


@contextmanager
def open_worker(
    subject: Subject, *, threads: int, batch: int, cores: list[int] | None, units: str | None = None
) -> Iterator[tuple[Worker, dict[str, Any]]]:
    """A measuring process with the model open in it, and what opening it cost."""
    environment = {UNITS_VARIABLE: units} if units else None
    with (
        tempfile.TemporaryDirectory() as scratch,
        Worker(subject.facts.name, threads=threads, settings=environment) as worker,
    ):
        file = Path(scratch) / "input.npy"
        np.save(file, subject.make_input(batch))
        opened = worker.ask(
            "open",
            runtime=subject.runtime,
            path=str(subject.path.resolve()),
            input_file=str(file),
            threads=threads,
            cores=cores,
            output=subject.output,
        )
        yield worker, opened


def measure_peak(precision: str, threads: int, *, cores: list[int] | None = None) -> tuple[float, str]:
    """(GFLOP/s, kernel) of this machine's fastest matrix product, in a process of its own."""
    with Worker(f"{precision} GEMM", threads=threads) as worker:
        found = worker.ask("gemm", precision=precision, threads=threads, cores=cores, seconds=GEMM_SECONDS)
    return found["gflops"], found["kernel"]


def rate_of(
    macs: int | None, batch: int, threads: int, latency: Latency, peak: tuple[float, str] | None
) -> Rate | None:
    """GFLOP/s at the median, and how many times longer than at the peak it takes."""
    if not macs or latency.p50_ms <= 0:
        return None
    operations = 2e-6 * macs * batch  # in 1e6, so that milliseconds give 1e9 a second
    gflops = operations / latency.p50_ms
    if peak is None:
        return Rate(gflops=gflops)
    return Rate(
        gflops=gflops,
        peak_gflops=peak[0],
        peak_kernel=peak[1],
        times_limit=peak[0] / gflops,
        # With several threads, waiting counts as processor time and a busy machine lowers the peak: no such figure.
        cpu_times_limit=latency.cpu_p50_ms * peak[0] / operations if latency.cpu_p50_ms and threads == 1 else None,
    )


def git_commit(folder: Path | None = None) -> str | None:
    """Short commit of the working folder's checkout, "+" behind it where files differ; None outside of one."""
    try:
        words = ["git", "-C", str(folder or Path.cwd())]
        commit = subprocess.run([*words, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*words, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+" if changed.stdout.strip() else "")


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
