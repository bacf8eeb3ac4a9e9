"""The benchmark record: one JSON line for one model in one runtime with one number of threads on one device.

Versioned: `schema_version` says which schema wrote a line, `read_records` lifts every older one to the present, and
`json_schema` gives the JSON Schema for readers in other languages. Milliseconds, mebibytes and GFLOP/s (two
floating-point operations to a multiply-accumulate) throughout.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import StrictSchema, explain, shown

SCHEMA_VERSION = 2

Flag = Literal["clock_dropped", "slowed", "starved", "warm_up_unsettled", "interval_wide", "hot"]
FLAGS: dict[str, str] = {
    "clock_dropped": "the processor's clock was lower after the run than before it",
    "slowed": "the last quarter of the run was over 10 % slower than the first",
    "starved": "the process did not get the processor: it slept, was throttled or had to share a core",
    "warm_up_unsettled": "the running median had not settled when warm-up ended at its bound",
    "interval_wide": "the interval of the median is wider than asked for, in spite of the repeats",
    "hot": "the device reported a thermal state above normal",
}
"""Why a record should be read with care; what each flag means."""


class ModelFacts(StrictSchema):
    """What was measured.

    Attributes:
        name: for tables.
        file: the model file's name, without its folder.
        sha256: of the model file (of a bundle: its weights).
        target: export target, "bundle", or "foreign" for a file that facekd did not export.
        precision: of the weights and activations; "fp32" for a foreign file unless the user says otherwise.
        macs: multiply-accumulates of one image, or None where they cannot be counted.
        bundle_sha256: of the weights it was exported from.
    """

    name: str
    file: str
    sha256: str
    target: str
    precision: str
    size_bytes: int
    macs: int | None = None
    bundle_sha256: str | None = None


class Setup(StrictSchema):
    """How it was run. `cores` are the cores it was pinned to, if it was."""

    runtime: str
    runtime_version: str
    provider: str
    threads: int
    batch: int
    cores: list[int] | None = None


class Device(StrictSchema):
    """Where it was run. `id` is the same for records of the same device: ratios across devices are not offered."""

    id: str
    kind: Literal["host", "android"]
    name: str
    processor: str
    cores: int
    memory_mib: int | None = None
    system: str
    details: dict[str, str] = Field(default_factory=dict)


class State(StrictSchema):
    """The machine's state at one moment; None or empty where the system does not show it.

    Attributes:
        frequency_mhz: current frequency of each core.
        temperature_c: by thermal zone (or battery).
        spin_ms: fastest of several runs of one fixed loop on one core: a clock that needs no help from the system.
        governor: of core 0.
    """

    frequency_mhz: list[float] = Field(default_factory=list)
    temperature_c: dict[str, float] = Field(default_factory=dict)
    spin_ms: float | None = None
    governor: str | None = None


class Latency(StrictSchema):
    """Milliseconds of one inference (of the whole batch), the clock's own overhead subtracted.

    None stands for what a tool that reports a summary and no single latencies (LiteRT's benchmark_model) does not tell.

    Attributes:
        runs: number of timed inferences, over all repeats.
        interval_low_ms: lower end of the 95 % bootstrap interval of the median.
        interval_width: width of that interval relative to the median.
        interval_wanted: the width asked for.
        interval_reached: whether it was reached within the allowed repeats.
        repeats: timed stretches.
        warm_up_runs: inferences before the first timed one, the first inference included.
        settled: whether the running median settled within the bounds of the warm-up.
        cpu_p50_ms: median of the processor time of one inference, summed over its threads: what preemption by other
            programs cannot lengthen. None where the device does not tell.
        cpu_share: processor seconds of the process by wall seconds while timing; below 0.9 it did not get its core.
        clock_overhead_ms: of one pair of clock readings; already subtracted.
        quantiles_ms: the 0, 1, ..., 100 % quantiles, for the percentile plot; empty without single latencies.
    """

    runs: int
    min_ms: float
    p50_ms: float
    p90_ms: float | None
    p95_ms: float
    p99_ms: float | None
    max_ms: float
    mean_ms: float
    std_ms: float
    cpu_p50_ms: float | None = None
    interval_low_ms: float | None
    interval_high_ms: float | None
    interval_width: float | None
    interval_wanted: float
    interval_reached: bool | None
    repeats: int
    warm_up_runs: int
    settled: bool | None
    cpu_share: float | None
    clock_overhead_ms: float
    quantiles_ms: list[float]

    @field_validator("quantiles_ms")
    @classmethod
    def _all_or_none(cls, quantiles: list[float]) -> list[float]:
        if len(quantiles) not in (0, 101):
            raise ValueError(f"has {len(quantiles)} values: 101 are needed, 0 to 100 %, or none")
        return quantiles


class Start(StrictSchema):
    """What it costs to begin: `load_ms` opens and compiles the model, `first_ms` is the first inference after it."""

    load_ms: float
    first_ms: float


class Memory(StrictSchema):
    """Resident memory of the measuring process, which holds the runtime and this one model. None where not shown.

    On a phone it is the process of the demo app (all of the app, so `model_mib` is not told) or of benchmark_model.

    Attributes:
        before_load_mib: with the runtime imported, before the model is opened.
        resident_mib: after the timed runs.
        peak_mib: highest since just before loading.
        model_mib: peak - before loading: what the model itself costs.
    """

    before_load_mib: float | None
    resident_mib: float | None
    peak_mib: float | None
    model_mib: float | None


class Rate(StrictSchema):
    """Arithmetic done a second at the median latency, beside this machine's own measured matrix product.

    Attributes:
        gflops: 2 * macs * batch / p50.
        peak_gflops: best GEMM of this machine, same precision and number of threads, measured in the same run.
        peak_kernel: which one.
        times_limit: peak_gflops / gflops, how many times longer than if every operation ran at the peak.
        cpu_times_limit: the same by processor time, cpu_p50 for p50; of one thread only.
    """

    gflops: float
    peak_gflops: float | None = None
    peak_kernel: str | None = None
    times_limit: float | None = None
    cpu_times_limit: float | None = None


class OperatorTime(StrictSchema):
    """One kind of operator in one inference: calls, milliseconds (None where nothing tells), and who ran it."""

    operator: str
    provider: str
    calls: float
    ms: float | None


class Operators(StrictSchema):
    """Where an inference's time goes and who runs what.

    Attributes:
        method: how the times were taken.
        operators: largest time first.
        delegate: name of the accelerated delegate, or None where the runtime has none.
        partitions: pieces of the graph given to the delegate.
        fallback: operators that the delegate did not take, with their number.
    """

    method: str
    operators: list[OperatorTime]
    delegate: str | None = None
    partitions: int | None = None
    fallback: dict[str, int] = Field(default_factory=dict)


class Accuracy(StrictSchema):
    """Verification through the same runtime; fractions. `std` over folds is None where `protocol` has none."""

    dataset: str
    fingerprint: str
    pairs: int
    accuracy: float
    std: float | None = None
    protocol: str = "10 folds"


class Record(StrictSchema):
    """One measurement.

    Attributes:
        id: of the record.
        run: the same for all records of one call of the command; only within a run do noise and peak agree.
        commit: of the checkout the command ran in, if it was one.
        plan: the harness's settings.
        cosine_to_golden: cosine of this device's embedding of the golden crop to the exporting machine's.
    """

    schema_version: Literal[2] = 2
    id: str
    run: str
    created: str
    facekd_version: str
    commit: str | None = None
    model: ModelFacts
    setup: Setup
    device: Device
    plan: dict[str, float]
    start: Start
    latency: Latency
    memory: Memory
    rate: Rate | None = None
    before: State
    after: State
    flags: list[Flag] = Field(default_factory=list)
    operators: Operators | None = None
    accuracy: Accuracy | None = None
    cosine_to_golden: float | None = None


_LIFT: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    # 2 admits None for p90, p99, the interval and `settled`, and an empty list of quantiles; all of 1 stays valid.
    1: lambda data: {**data, "schema_version": 2},
}
"""Schema version -> what turns a line of it into one of the next version."""


def require_appendable(path: Path) -> None:
    """Checks that lines can be added to `path`, before minutes are spent on them; leaves no new file.

    Raises:
        UsageError: it cannot be written.
    """
    new = not path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise UsageError(f"--out {path} cannot be written ({error.strerror}): give a file at another place") from error
    if new:
        path.unlink()


def append_record(path: Path, record: BaseModel) -> None:
    """Adds one line to `path`, in one write that is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = ((record.as_json() if isinstance(record, StrictSchema) else record.model_dump_json()) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_records(path: str | Path) -> list[Record]:
    """All records of a file of JSON lines, older schemas lifted.

    Raises:
        UsageError: there is no such file, or no record in it.
        FacekdError: a line is damaged or of a newer schema; names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} does not exist: give a file that facekd benchmark --out wrote")
    records = list(_read(path))
    if not records:
        raise UsageError(f"{path} holds no record: give a file that facekd benchmark --out wrote")
    return records


def json_schema() -> dict[str, Any]:
    """JSON Schema of one line."""
    return Record.model_json_schema()


def _read(path: Path) -> Iterator[Record]:
    # A byte that is no text becomes a sign that no JSON and no name holds, so that its line is named.
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                version = data["schema_version"]
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise FacekdError(
                    f"{path}, line {number} is not a benchmark record ({shown(error)}): remove the line"
                ) from None
            if not isinstance(version, int) or version > SCHEMA_VERSION:
                raise FacekdError(
                    f"{path}, line {number} has schema {version}, read here are up to {SCHEMA_VERSION}: update facekd"
                )
            try:
                while version < SCHEMA_VERSION:
                    data = _LIFT[version](data)
                    version += 1
                yield Record.model_validate(data)
            except KeyError:
                raise FacekdError(f"{path}, line {number} has the unknown schema {version}") from None
            except ValidationError as error:
                raise FacekdError(f"{path}, line {number}: {explain(error, Record)}") from None
