"""What a phone measured as a record: of the demo app's JSON, or of benchmark_model's summary."""

import dataclasses
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.harness import DRIFT, clock_dropped
from facekd.benchmarks.phone_binary import BinaryResult
from facekd.benchmarks.run import rate_of
from facekd.benchmarks.statistics import drift, median_interval, summarise
from facekd.benchmarks.subject import Subject
from facekd.common.errors import FacekdError
from facekd.common.versions import __version__
from facekd.schemas.record import Device, Latency, Memory, Operators, Record, Setup, Start, State


@dataclass(frozen=True, kw_only=True)
class PhoneRun:
    """What to measure on a phone.

    Attributes:
        threads: numbers of threads.
        provider: ONNX Runtime's, as the app offers it: cpu, xnnpack or nnapi; or benchmark_model's.
        runs: timed inferences.
        warm_up: inferences before them.
        interval: the relative width of the median's interval above which a record is flagged.
        cool_down_s: of rest before each measurement.
        timeout_s: of one measurement.
        out: file that each record is appended to as soon as it is there.
        commit: for the history.
        binary: LiteRT's benchmark_model for the phone, in place of the demo app.
        profile: take per-operator times, where the binary does.
    """

    threads: Sequence[int] = (1,)
    provider: str = "cpu"
    runs: int = 200
    warm_up: int = 30
    interval: float = 0.05
    cool_down_s: float = 10.0
    timeout_s: float = 300.0
    out: Path | None = None
    commit: str | None = None
    binary: Path | None = None
    profile: bool = True


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """What was measured, on what, and how the phone was before and after.

    Attributes:
        subject: the model.
        threads: its threads.
        settings: what was asked for.
        run: shared by the records of one call.
        device: the phone.
        before: its state (see record.State) before the runs.
        after: its state after them.
        hot: whether the phone itself says that it throttles.
    """

    subject: Subject
    threads: int
    settings: PhoneRun
    run: str
    device: Device
    before: dict[str, Any]
    after: dict[str, Any]
    hot: bool


def record_of(found: dict[str, Any], around: Circumstances, memory: Memory) -> Record:
    """The record of what the app wrote.

    Raises:
        FacekdError: the app measured something else, or its figures cannot be.
    """
    subject, settings, device = around.subject, around.settings, around.device
    asked = {"model_sha256": subject.facts.sha256, "provider": settings.provider, "threads": around.threads}
    for key, value in asked.items():
        if found.get(key) != value:
            raise FacekdError(f"{device.name}: asked for {key} {value}, the app measured {found.get(key)}")
    try:
        samples = np.array(found["latencies_ms"], dtype=np.float64)
        load_ms, first_ms, cosine = (float(found[key]) for key in ("load_ms", "first_ms", "cosine_to_golden"))
    except (KeyError, TypeError, ValueError) as error:
        raise FacekdError(f"{device.name}: the app's record lacks or spoils {error}: update the demo app") from error
    figures = [*samples.ravel(), load_ms, first_ms, cosine]
    if samples.shape != (settings.runs,) or not all(map(math.isfinite, figures)) or samples.min() <= 0:
        raise FacekdError(
            f"{device.name}: the app gave {samples.size} latencies of {settings.runs}, or impossible ones"
        )
    assert subject.manifest is not None
    if cosine < subject.manifest.golden.min_cosine:
        raise FacekdError(
            f"{device.name}, {settings.provider}: the golden crop's embedding has cosine {cosine:.4f}, at least "
            f"{subject.manifest.golden.min_cosine} is needed: this provider computes something else; use --provider cpu"
        )
    low, high = median_interval(samples)
    figures_ms = summarise(samples)
    width = (high - low) / figures_ms["p50_ms"]
    latency = Latency(
        runs=len(samples),
        **figures_ms,
        interval_low_ms=low,
        interval_high_ms=high,
        interval_width=width,
        interval_wanted=settings.interval,
        interval_reached=width <= settings.interval,
        repeats=1,
        warm_up_runs=1 + settings.warm_up,
        settled=drift(samples) <= DRIFT,
        cpu_share=None,
        clock_overhead_ms=0.0,
        quantiles_ms=[round(float(q), 6) for q in np.percentile(samples, np.arange(101))],
    )
    states = {
        "clock_dropped": clock_dropped(around.before, around.after),
        "slowed": drift(samples) > DRIFT,
        "interval_wide": not latency.interval_reached,
        "hot": around.hot,
    }
    android = {key: str(value) for key, value in (found.get("android") or {}).items() if value is not None}
    described = device.model_copy(update={"details": {**device.details, **android}})
    return _record(
        dataclasses.replace(around, device=described),
        latency=latency,
        start=Start(load_ms=load_ms, first_ms=first_ms),
        memory=memory,
        flags=states,
        runtime_version=android.get("onnxruntime", "of the app"),
        provider=settings.provider,
        cosine_to_golden=cosine,
    )


def record_of_binary(result: BinaryResult, around: Circumstances, operators: Operators | None) -> Record:
    """The record of what benchmark_model printed.

    Raises:
        FacekdError: it stopped before the last run.
    """
    settings = around.settings
    if result.runs != settings.runs:
        raise FacekdError(
            f"{around.device.name}: benchmark_model did {result.runs} of {settings.runs} runs: give fewer --runs"
        )
    latency = Latency(
        runs=result.runs,
        min_ms=result.min_ms,
        p50_ms=result.p50_ms,
        p90_ms=None,
        p95_ms=result.p95_ms,
        p99_ms=None,
        max_ms=result.max_ms,
        mean_ms=result.mean_ms,
        std_ms=result.std_ms,
        interval_low_ms=None,
        interval_high_ms=None,
        interval_width=None,
        interval_wanted=settings.interval,
        interval_reached=None,
        repeats=1,
        warm_up_runs=max(settings.warm_up, 1),
        settled=None,
        cpu_share=None,
        clock_overhead_ms=0.0,
        quantiles_ms=[],
    )
    return _record(
        around,
        latency=latency,
        start=Start(load_ms=result.load_ms, first_ms=result.first_ms),
        memory=Memory(before_load_mib=None, resident_mib=None, peak_mib=result.peak_mib, model_mib=result.model_mib),
        flags={"clock_dropped": clock_dropped(around.before, around.after), "hot": around.hot},
        runtime_version="of benchmark_model",
        provider=f"benchmark_model {settings.provider}",
        operators=operators,
    )


def _record(
    around: Circumstances,
    *,
    latency: Latency,
    flags: dict[str, bool],
    runtime_version: str,
    provider: str,
    **fields: Any,
) -> Record:
    subject, threads, settings = around.subject, around.threads, around.settings
    return Record(
        id=uuid.uuid4().hex,
        run=around.run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        facekd_version=__version__,
        commit=settings.commit,
        model=subject.facts,
        setup=Setup(
            runtime=subject.runtime, runtime_version=runtime_version, provider=provider, threads=threads, batch=1
        ),
        device=around.device,
        plan={"runs": settings.runs, "warm_up": settings.warm_up, "cool_down_s": settings.cool_down_s},
        latency=latency,
        rate=rate_of(subject.facts.macs, 1, threads, latency, None),
        before=State(**around.before),
        after=State(**around.after),
        flags=[flag for flag, raised in flags.items() if raised],  # type: ignore[misc]
        **fields,
    )
