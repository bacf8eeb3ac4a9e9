"""`facekd benchmark --device adb:SERIAL`: every model with every number of threads on one or several phones."""

import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facekd.benchmarks import phone_binary
from facekd.benchmarks.phone import PROVIDERS, Phone
from facekd.benchmarks.phone_record import Circumstances, PhoneRun, record_of, record_of_binary
from facekd.benchmarks.subject import Subject
from facekd.common.errors import FacekdError, UsageError
from facekd.schemas.record import Device, Memory, Operators, Record, append_record

__all__ = ["PhoneRun", "run_on_phones"]


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
    valid = tuple(phone_binary.PROVIDERS if settings.binary else PROVIDERS)
    if settings.provider not in valid:
        raise UsageError(f"--provider {settings.provider}: valid are {', '.join(valid)}")
    for subject in subjects:
        if settings.binary and subject.runtime != "litert":
            raise UsageError(f"{subject.folder}: benchmark_model runs .tflite (facekd export --target tflite)")
        if not settings.binary and (subject.manifest is None or subject.runtime != "onnxruntime"):
            raise UsageError(f"{subject.folder}: the demo app runs exported ONNX artefacts (--target onnx or android)")
        if subject.other_files:
            other = subject.other_files[0].name
            raise UsageError(f"{subject.path} keeps weights in {other}: a phone measures models of one file only")
    if settings.binary and not settings.binary.is_file():
        raise UsageError(f"--binary {settings.binary} is no file: give benchmark_model as built for the phone")
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

    def around(before: dict[str, Any]) -> Circumstances:
        return Circumstances(
            subject=subject,
            threads=threads,
            settings=settings,
            run=run,
            device=device,
            before=before,
            after=phone.state(),
            hot=phone.is_hot(),
        )

    if settings.binary is not None:
        return _measure_binary(phone, subject, threads, settings, settings.binary, device=device, around=around)
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
    return record_of(found, around(before), Memory(before_load_mib=None, model_mib=None, **phone.app_memory()))


def _measure_binary(
    phone: Phone,
    subject: Subject,
    threads: int,
    settings: PhoneRun,
    binary: Path,
    *,
    device: Device,
    around: Callable[[dict[str, Any]], Circumstances],
) -> Record:
    program = phone.push_file(binary, "benchmark_model")
    model = phone.push_file(subject.path, f"{subject.facts.sha256[:16]}.tflite", mode=0o644)

    def call(runs: int, *, profile: bool) -> str:
        words = phone_binary.arguments_of(
            model,
            threads=threads,
            runs=runs,
            warm_up=settings.warm_up,
            provider=settings.provider,
            timeout_s=settings.timeout_s,
            profile=profile,
        )
        # Its limit holds for each of its two phases; loading comes on top.
        return phone.shell(program, *words, timeout_s=2 * settings.timeout_s + 30)

    before = phone.state()
    try:
        result = phone_binary.parse_output(call(settings.runs, profile=False), provider=settings.provider)
    except FacekdError as error:
        raise type(error)(f"{device.name}: {error}") from error
    measured = around(before)
    operators = None
    if settings.profile:
        operators = phone_binary.parse_operators(call(phone_binary.PROFILED_RUNS, profile=True), result)
    return record_of_binary(result, measured, Operators(**operators) if operators else None)
