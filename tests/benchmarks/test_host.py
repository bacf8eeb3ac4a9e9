"""Measuring here: a tiny model through its real runtime in its own process, and what surrounds it."""

import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.benchmarks.accuracy import accuracy_of
from facekd.benchmarks.harness import Plan
from facekd.benchmarks.machine import read_state
from facekd.benchmarks.process import Worker
from facekd.benchmarks.run import HostRun, rate_of, run_on_host
from facekd.benchmarks.subject import Subject, find_subjects
from facekd.common.errors import FacekdError, UsageError
from facekd.data.verification_set import VerificationSet
from facekd.runtimes.base import file_facts, get_runtime
from facekd.runtimes.onnx_profile import operators_of
from facekd.runtimes.onnxruntime import OnnxRuntime
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.record import Record, read_records

MACS = 8 * 8 * 8 * 27 + 8 * 8  # a 3x3x3 convolution to 8 channels of 8x8, and an 8x8 product


@pytest.fixture
def subject(onnx_face_model: Path) -> Subject:
    (found,) = find_subjects([onnx_face_model], input_spec=InputSpec(size=(16, 16)))
    return found


def test_a_model_in_its_own_process(subject: Subject, tmp_path: Path) -> None:
    settings = HostRun(
        batches=(1, 3),
        plan=Plan(min_runs=20, duration_s=0.02, max_repeats=1),
        peak=False,
        out=tmp_path / "records.jsonl",
        commit="abc",
    )
    records = run_on_host([subject], settings)
    assert read_records(tmp_path / "records.jsonl") == records
    one, three = records
    assert (one.setup.batch, three.setup.batch) == (1, 3)
    assert one.run == three.run and one.id != three.id
    assert one.model.macs == MACS and one.model.precision == "fp32" and one.model.target == "foreign"
    assert one.latency.runs >= 20
    assert 0 < one.latency.min_ms <= one.latency.p50_ms <= one.latency.p99_ms <= one.latency.max_ms
    assert one.start.load_ms > 0 and one.start.first_ms > 0
    assert one.rate is not None
    assert one.rate.gflops == pytest.approx(2 * MACS / one.latency.p50_ms / 1e6)
    assert one.operators is not None
    assert {"Conv", "MatMul"} <= {o.operator.removeprefix("Fused") for o in one.operators.operators}
    if sys.platform == "linux":
        assert one.memory.peak_mib is not None and one.memory.before_load_mib is not None
        # Without torch in the process: that alone is some 200 MiB.
        assert 10 < one.memory.before_load_mib <= one.memory.peak_mib < 200


def test_core_ml_is_measured_with_each_compute_unit(
    subject: Subject, monkeypatch: pytest.MonkeyPatch, make_record: Callable[..., Record]
) -> None:
    """On a Mac; here a process stands in for the measuring one and says by which units it was asked."""
    plain = make_record()

    class Stand:
        def __init__(self, what: str, *, threads: int, settings: dict[str, str] | None = None) -> None:
            self.units = (settings or {}).get("FACEKD_COREML_UNITS")

        def __enter__(self) -> "Stand":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def ask(self, do: str, **arguments: object) -> dict[str, object]:
            return {
                "open": {"load_ms": 1.0, "runtime_version": "9", "provider": f"Core ML {self.units}"},
                "measure": {
                    "first_ms": 1.0,
                    "latency": plain.latency.model_dump(),
                    "before": {},
                    "after": {},
                    "flags": [],
                    "memory": plain.memory.model_dump(),
                },
                "output": {"output": []},
            }[do]

    monkeypatch.setattr("facekd.benchmarks.run.Worker", Stand)
    settings = HostRun(compute_units=("cpu", "gpu", "ane"), profile=False, peak=False)
    records = run_on_host([replace(subject, runtime="coreml"), subject], settings)
    found = [(record.setup.runtime, record.setup.provider) for record in records]
    assert found == [
        ("coreml", "Core ML cpu"),
        ("coreml", "Core ML gpu"),
        ("coreml", "Core ML ane"),
        ("onnxruntime", "Core ML None"),
    ]


def test_a_batch_that_the_file_cannot_take_is_refused_first(subject: Subject) -> None:
    subject = replace(subject, encoding=replace(subject.encoding, batch=1))
    with pytest.raises(UsageError, match="--batch 2: face takes batch 1 only"):
        run_on_host([subject], HostRun(batches=(1, 2)))


def test_macs_by_hand(onnx_face_model: Path, tmp_path: Path) -> None:
    assert file_facts(onnx_face_model) == (MACS, "fp32")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(FacekdError, match=r"bad\.onnx is not a readable ONNX model"):
        file_facts(tmp_path / "bad.onnx")


@pytest.mark.parametrize(("height", "macs"), [(16, 12 * 5 * 64), ("height", None)])
def test_macs_where_the_batch_goes_through_a_reshape(tmp_path: Path, height: int | str, macs: int | None) -> None:
    """Its target is computed from the input's own shape, as torch exports x.reshape(x.shape[0], 12, -1)."""
    from onnx import TensorProto, helper, numpy_helper, save

    generator = np.random.default_rng(0)
    constants = {
        "start": np.array([0]),
        "end": np.array([1]),
        "rest": np.array([12, -1]),
        "w": generator.standard_normal((64, 5)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Slice", ["shape", "start", "end"], ["batch_size"]),
        helper.make_node("Concat", ["batch_size", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["image", "target"], ["x"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "reshaped",
        [value("image", TensorProto.FLOAT, ["batch", 3, height, 16])],
        [value("y", TensorProto.FLOAT, ["batch", 12, 5])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    assert file_facts(tmp_path / "m.onnx") == (macs, "fp32")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            "import os, sys; sys.stdin.readline(); os.kill(os.getpid(), 9)",
            "net: the measuring process was killed by SIGK",
        ),
        ("import sys; sys.stdin.readline(); sys.exit('out of luck')", "ended with exit code 1: out of luck"),
    ],
)
def test_a_dead_worker_is_named(program: str, message: str) -> None:
    with (
        pytest.raises(FacekdError, match=message),
        Worker("net", threads=1, command=[sys.executable, "-c", program]) as worker,
    ):
        worker.ask("open")


def test_a_worker_that_says_nothing_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that does not end, or the profile of one: whatever it does, its process is killed."""
    monkeypatch.setattr("facekd.benchmarks.process.SILENCE_S", 0.5)
    program = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
    start = time.monotonic()
    with (
        pytest.raises(FacekdError, match=r"net: waiting for the measuring process took more than 0\.5 s and was ended"),
        Worker("net", threads=1, command=[sys.executable, "-c", program]) as worker,
    ):
        worker.ask("profile")
    assert time.monotonic() - start < 60  # not 600


def test_runtimes_that_are_not_there() -> None:
    with pytest.raises(
        UsageError,
        match=r"unknown runtime 'tvm'; valid: coreml, executorch, litert, mil, onnxruntime, torch or package",
    ):
        get_runtime("tvm")
    if sys.platform != "darwin":
        with pytest.raises(UsageError, match="coreml runs on a Mac"):
            get_runtime("coreml").require()


def test_what_runtimes_say_at_import_does_not_reach_the_screen(
    onnx_face_model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(OnnxRuntime, "require", lambda self: os.write(2, b"I0000 hello"))
    find_subjects([onnx_face_model])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [None, "mine.txt"])
def test_paths_without_a_model(tmp_path: Path, content: str | None) -> None:
    if content:
        (tmp_path / content).touch()
    with pytest.raises(UsageError, match="give an artefact"):
        find_subjects([tmp_path])
    with pytest.raises(UsageError, match="does not exist"):
        find_subjects([tmp_path / "none"])


def test_rate_and_limit(make_record: Callable[..., Record]) -> None:
    latency = make_record(latency={"p50_ms": 4.0, "cpu_p50_ms": 6.0}).latency
    rate = rate_of(200_000_000, 2, 1, latency, (800.0, "mm"))
    assert rate is not None
    assert rate.gflops == pytest.approx(200)  # 0.8 GFLOP in 4 ms
    assert rate.times_limit == pytest.approx(4)
    assert rate.cpu_times_limit == pytest.approx(6)  # 6 ms of processor; 0.8 GFLOP at 800 a second is 1 ms
    several = rate_of(200_000_000, 2, 2, latency, (800.0, "mm"))
    assert several is not None and several.cpu_times_limit is None
    assert rate_of(None, 1, 1, latency, None) is None


def test_profile_events_become_operators() -> None:
    def node(name: str, provider: str, index: int, start: int, microseconds: int) -> dict[str, object]:
        arguments = {"op_name": name, "provider": provider + "ExecutionProvider", "node_index": str(index)}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": microseconds, "args": arguments}

    events: list[dict[str, object]] = [
        {"cat": "Session", "name": "model_run", "ts": t, "dur": 9} for t in (0, 100, 200)
    ]
    for start in (0, 100, 200):
        slow = 10 if start == 0 else 1  # the first run is warm-up and must not count
        events += [
            node("Conv", "Xnnpack", 0, start + 1, 500 * slow),
            node("Relu", "CPU", 1, start + 2, 100 * slow),
            node("Conv", "Xnnpack", 2, start + 3, 300 * slow),
        ]
    found = operators_of(events, skip=1)
    assert found["operators"] == [
        {"operator": "Conv", "provider": "Xnnpack", "calls": 2, "ms": pytest.approx(0.8)},
        {"operator": "Relu", "provider": "CPU", "calls": 1, "ms": pytest.approx(0.1)},
    ]
    assert (found["delegate"], found["partitions"], found["fallback"]) == ("Xnnpack", 2, {"Relu": 1})


def test_accuracy_is_remembered_by_file_and_set(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Mean:
        input, embedding_width = InputSpec(size=(16, 16)), 3

        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return images.float().mean((2, 3)) - 127

    monkeypatch.setattr(Subject, "embedder", lambda self, threads: Mean())
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(80)]
    issame = np.arange(40) % 2 == 0
    pairs = VerificationSet("drawn", images, issame, size=(16, 16))
    first = accuracy_of(subject, pairs, cache=tmp_path, threads=1)
    measured = len(calls)
    assert measured and first.pairs == 40 and 0 <= first.accuracy <= 1
    assert accuracy_of(subject, pairs, cache=tmp_path, threads=1) == first
    assert len(calls) == measured
    accuracy_of(subject, VerificationSet("drawn", images, ~issame, size=(16, 16)), cache=tmp_path, threads=1)
    assert len(calls) > measured


def test_accuracy_shows_its_images_and_the_time_left(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a terminal: one bar for the measurements, and while faces are embedded a bar of its own with an ETA."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(80)]
    pairs = VerificationSet("drawn", images, np.arange(40) % 2 == 0, size=(16, 16))
    settings = HostRun(
        plan=Plan(min_runs=5, duration_s=0, max_repeats=1), peak=False, profile=False, pairs=pairs, cache=tmp_path
    )
    (record,) = run_on_host([subject], settings, progress=True)
    assert record.accuracy is not None and record.accuracy.pairs == 40
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert re.search(r"drawn .*80/80 0:00:00", shown)
    assert re.search(r"face, onnxruntime, 1 thread .*1/1", shown)


def test_state_reads_what_the_system_shows(tmp_path: Path) -> None:
    for core, kilohertz in ((0, 2_400_000), (1, 1_800_000)):
        folder = tmp_path / f"devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{kilohertz}\n")
        (folder / "scaling_governor").write_text("schedutil\n")
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("41500\n")
    (zone / "type").write_text("cpu\n")
    state = read_state(tmp_path)
    assert state["frequency_mhz"] == [2400, 1800]
    assert state["temperature_c"] == {"cpu 0": 41.5}
    assert state["governor"] == "schedutil"
    assert state["spin_ms"] > 0
    assert read_state(tmp_path / "nothing")["frequency_mhz"] == []
