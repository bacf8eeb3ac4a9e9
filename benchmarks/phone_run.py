"""`facekd benchmark --device adb:SERIAL`: every model with every number of threads on one or several phones."""

import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from facekd import __version__
from facekd.benchmarks.harness import DRIFT, clock_dropped
from facekd.benchmarks.phone import PROVIDERS, Phone
from facekd.benchmarks.record import Device, Latency, Memory, Record, Setup, Start, State, append_record
from facekd.benchmarks.run import rate_of
from facekd.benchmarks.statistics import drift, median_interval, summarise
from facekd.benchmarks.subject import Subject
from facekd.errors import FacekdError, UsageError


@dataclass(frozen=True, kw_only=True)
class PhoneRun:
    """What to measure on a phone.

    Attributes:
        threads: numbers of threads.
        provider: ONNX Runtime's, as the app offers it: cpu, xnnpack or nnapi.
        runs: timed inferences.
        warm_up: inferences before them.
        interval: the relative width of the median's interval above which a record is flagged.
        cool_down_s: of rest before each measurement.
        timeout_s: of one measurement.
        out: file that each record is appended to as soon as it is there.
        commit: for the history.
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


def run_on_phones(
    phones: Sequence[Phone],
    subjects: Sequence[Subject],
    settings: PhoneRun,
    *,
    tell: Callable[[str], None] = lambda what: None,
    sleep: Callable[[float], None] = time.sleep,
) -> list[Record]:
    """Measures on each phone in turn and returns the records.

    Raises:
        UsageError: a phone may not be used or a model is not for the app; before anything is measured.
        FacekdError: a phone failed, also after one more try; what was measured before is in `settings.out`.
    """
    if settings.provider not in PROVIDERS:
        raise UsageError(f"--provider {settings.provider}: valid are {', '.join(PROVIDERS)}")
    for subject in subjects:
        if subject.manifest is None or subject.runtime != "onnxruntime":
            raise UsageError(f"{subject.folder}: the demo app runs exported ONNX artefacts (--target onnx or android)")
    for phone in phones:
        phone.require()
    run = uuid.uuid4().hex[:12]
    records: list[Record] = []
    for phone in phones:
        for subject in subjects:
            for threads in settings.threads:
                title = f"adb:{phone.serial}, {subject.facts.name}, threads {threads}"
                if records:
                    tell(f"{title}: cooling down {settings.cool_down_s:g} s")
                    sleep(settings.cool_down_s)
                tell(title)

                def once(phone: Phone = phone, subject: Subject = subject, threads: int = threads) -> Record:
                    return _measure(phone, subject, threads, settings, run)

                try:
                    record = phone.retried_once(title, once)
                except FacekdError as error:
                    kept = f"; {len(records)} records before it are in {settings.out}" if settings.out else ""
                    raise type(error)(f"{error}{kept}") from error
                if settings.out is not None:
                    append_record(settings.out, record)
                records.append(record)
    return records


def _measure(phone: Phone, subject: Subject, threads: int, settings: PhoneRun, run: str) -> Record:
    device = Device(**phone.describe())
    folder = phone.push_folder(subject.folder, subject.facts.sha256[:16])
    before = phone.state()
    found = phone.run_app(
        folder,
        subject.path.name,
        name=f"{subject.facts.sha256[:12]}-{threads}-{uuid.uuid4().hex[:8]}",
        threads=threads,
        warm_up=settings.warm_up,
        runs=settings.runs,
        provider=settings.provider,
        timeout_s=settings.timeout_s,
    )
    after = phone.state()
    return record_of(
        found, subject, threads, settings, run=run, device=device, before=before, after=after, hot=phone.is_hot()
    )


def record_of(
    found: dict[str, Any],
    subject: Subject,
    threads: int,
    settings: PhoneRun,
    *,
    run: str,
    device: Device,
    before: dict[str, Any],
    after: dict[str, Any],
    hot: bool,
) -> Record:
    """The record of what the app wrote.

    Raises:
        FacekdError: the app measured something else, or its figures cannot be.
    """
    asked = {"model_sha256": subject.facts.sha256, "provider": settings.provider, "threads": threads}
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
        "clock_dropped": clock_dropped(before, after),
        "slowed": drift(samples) > DRIFT,
        "interval_wide": not latency.interval_reached,
        "hot": hot,
    }
    android = {key: str(value) for key, value in (found.get("android") or {}).items() if value is not None}
    return Record(
        id=uuid.uuid4().hex,
        run=run,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        facekd_version=__version__,
        commit=settings.commit,
        model=subject.facts,
        setup=Setup(
            runtime=subject.runtime,
            runtime_version=android.get("onnxruntime", "of the app"),
            provider=settings.provider,
            threads=threads,
            batch=1,
        ),
        device=device.model_copy(update={"details": {**device.details, **android}}),
        plan={"runs": settings.runs, "warm_up": settings.warm_up, "cool_down_s": settings.cool_down_s},
        start=Start(load_ms=load_ms, first_ms=first_ms),
        latency=latency,
        memory=Memory(before_load_mib=None, resident_mib=None, peak_mib=None, model_mib=None),
        rate=rate_of(subject.facts.macs, 1, threads, latency, None),
        before=State(**before),
        after=State(**after),
        flags=[flag for flag, raised in states.items() if raised],  # type: ignore[misc]
        cosine_to_golden=cosine,
    )
