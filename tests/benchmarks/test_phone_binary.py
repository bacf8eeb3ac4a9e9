"""LiteRT's benchmark_model on phones: its printed lines become a record, and its silent fallbacks an error."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facekd.benchmarks.phone import Phone
from facekd.benchmarks.phone_binary import arguments_of, parse_operators, parse_output
from facekd.benchmarks.phone_run import PhoneRun, run_on_phones
from facekd.benchmarks.subject import Subject
from facekd.common.errors import FacekdError, UsageError
from facekd.schemas.record import Record, read_records

pytest.importorskip("adbutils")
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from fake_adb import FakePhone, Server

# The tool's own lines (tensorflow/lite/tools/benchmark), with figures made up here.
PRINTED = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [50]
INFO: Num threads: [2]
INFO: Graph: [/data/local/tmp/facekd/0011.tflite]
INFO: Use xnnpack: [1]
INFO: Loaded model /data/local/tmp/facekd/0011.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 60 out of 62 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 4 partitions for the whole graph.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 2 delegate kernels.
INFO: The input model file size (MB): 4.76
INFO: Initialized session in 23.456ms.
INFO: Running benchmark for at least 30 iterations and at least 0 seconds but terminate if exceeding 300 seconds.
INFO: count=30 first=11321 curr=8046 min=7999 max=11321 avg=8299.5 std=654 p5=8010 median=8120 p95=9000

INFO: Running benchmark for at least 50 iterations and at least 0 seconds but terminate if exceeding 300 seconds.
INFO: count=50 first=8033 curr=7999 min=7891 max=9100 avg=8049.25 std=150 p5=7950 median=8040 p95=8310

INFO: Inference timings in us: Init: 23456, First inference: 11321, Warmup (avg): 8299.5, Inference (avg): 8049.25
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=9.125 overall=12.5
INFO: Overall peak memory footprint (MB) via periodic monitoring: 17.75
"""  # noqa: E501
PROFILE = """INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t ModifyGraphWithDelegate\t    6.348\t    6.348\t 55.640%\t 55.640%\t  7148.000\t        1\tModifyGraphWithDelegate/0
\t         AllocateTensors\t    5.061\t    5.061\t 44.360%\t100.000%\t 10292.000\t        1\tAllocateTensors/0

Timings (microseconds): count=1 curr=11409
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t                      [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t   Convolution (NHWC, F32) IGEMM\t    1.398\t    1.500\t 20.000%\t 20.000%\t     0.000\t        1\tDelegate/Convolution (NHWC, F32) IGEMM:0
\t  Convolution (NHWC, F32) DWConv\t    0.428\t    0.050\t  8.000%\t 28.000%\t     0.000\t       12\tDelegate/Convolution (NHWC, F32) DWConv:1
\t   Convolution (NHWC, F32) IGEMM\t    0.700\t    0.750\t 10.000%\t 38.000%\t     0.000\t        2\tDelegate/Convolution (NHWC, F32) IGEMM:2
\t                           PRELU\t    0.200\t    0.250\t  3.000%\t 41.000%\t     0.000\t        1\t[prelu_1;prelu]:35
\t                           PRELU\t    0.200\t    0.150\t  2.000%\t 43.000%\t     0.000\t        1\t[prelu_2;prelu]:41

============================== Top by Computation Time ==============================
\t                      [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                           NOTHING\t    1.398\t   99.000\t 20.000%\t 20.000%\t     0.000\t        1\t[x]:0
"""  # noqa: E501


@pytest.fixture
def lite(subject: Subject, tmp_path: Path) -> Subject:
    """The same bytes as a .tflite."""
    path = tmp_path / "model.tflite"
    path.write_bytes(subject.path.read_bytes())
    return replace(subject, path=path, folder=tmp_path, runtime="litert")


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "android_aarch64_benchmark_model"
    path.write_bytes(b"\x7fELF" + bytes(3000))
    return path


def measure(server: Server, subject: Subject, tool: Path, **settings: Any) -> list[Record]:
    plan = PhoneRun(**{"runs": 50, "binary": tool, "provider": "xnnpack", **settings})
    phone = Phone("ONE", host="127.0.0.1", port=server.server_address[1], poll_s=0.02, reconnect_s=0.3)
    return run_on_phones([phone], [subject], plan, sleep=lambda seconds: None)


def test_its_lines_become_a_record(
    server: Server, lite: Subject, tool: Path, phones: dict[str, FakePhone], tmp_path: Path
) -> None:
    phones["ONE"].binary = {False: PRINTED, True: PRINTED + PROFILE}
    (record,) = measure(server, lite, tool, threads=(2,), out=tmp_path / "r.jsonl")
    assert read_records(tmp_path / "r.jsonl") == [record]
    latency = record.latency
    assert (latency.runs, latency.warm_up_runs) == (50, 30)
    assert (latency.min_ms, latency.p50_ms, latency.p95_ms, latency.max_ms) == (7.891, 8.04, 8.31, 9.1)
    assert (latency.mean_ms, latency.std_ms) == pytest.approx((8.04925, 0.15))
    assert latency.p99_ms is None and latency.interval_width is None and latency.quantiles_ms == []
    assert (record.start.load_ms, record.start.first_ms) == (23.456, 11.321)
    assert (record.memory.model_mib, record.memory.peak_mib) == (12.5, 17.75)
    assert (record.setup.runtime, record.setup.provider) == ("litert", "benchmark_model xnnpack")
    assert record.before.temperature_c == {"battery": 31.4}
    operators = record.operators
    assert operators is not None and (operators.delegate, operators.partitions) == ("XNNPACK", 2)
    assert operators.fallback == {"PRELU": 2}
    found = {(o.operator, o.provider): (o.calls, o.ms) for o in operators.operators}
    assert found == {
        ("Convolution (NHWC, F32) IGEMM", "XNNPACK"): (3, pytest.approx(1 * 1.5 + 2 * 0.75)),
        ("Convolution (NHWC, F32) DWConv", "XNNPACK"): (12, pytest.approx(12 * 0.05)),
        ("PRELU", "LiteRT"): (2, pytest.approx(0.4)),
    }
    pushed = phones["ONE"].files
    assert pushed["/data/local/tmp/facekd/benchmark_model"] == tool.read_bytes()
    assert pushed[f"/data/local/tmp/facekd/{lite.facts.sha256[:16]}.tflite"] == lite.path.read_bytes()
    timed, profiled = (c for c in phones["ONE"].commands if c.startswith("/data/local/tmp/facekd/benchmark_model"))
    for word in ("--num_threads=2", "--num_runs=50", "--warmup_runs=30", "--use_xnnpack=true", "--min_secs=0"):
        assert word in timed
    assert "profiling" not in timed and "--enable_op_profiling=true" in profiled  # the profiler costs time


@pytest.mark.parametrize(
    ("printed", "provider", "message"),
    [
        ("ERROR: Could not open 'x.tflite'.\nERROR: Failed to load model x.tflite\n", "cpu", "Failed to load model"),
        ("Segmentation fault\n", "cpu", "did not finish: Segmentation fault"),
        ("", "cpu", "did not finish: nothing"),
        (PRINTED.replace(" p5=7950 median=8040 p95=8310", ""), "xnnpack", "no median: take a newer one"),
        (
            PRINTED.replace("Explicitly applied XNNPACK delegate, and the model graph will be partially executed by",
                            "Though GPU delegate is explicitly applied, the model graph will not be executed by"),
            "gpu",
            "GPU took no part of the model",
        ),
        (PRINTED.replace("Explicitly", "Not").replace("Replacing", "Keeping"), "gpu", "gpu took no part"),
        (PRINTED.replace("count=50", "count=37"), "xnnpack", "did 37 of 50 runs"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    server: Server, lite: Subject, tool: Path, phones: dict[str, FakePhone], printed: str, provider: str, message: str
) -> None:
    phones["ONE"].binary = {False: printed, True: printed}
    with pytest.raises(FacekdError, match=message):
        measure(server, lite, tool, provider=provider)


def test_what_is_refused_before_anything_is_pushed(
    server: Server, lite: Subject, subject: Subject, tool: Path, phones: dict[str, FakePhone]
) -> None:
    for model, settings, message in (
        (subject, {}, "benchmark_model runs .tflite"),
        (lite, {"provider": "npu"}, "--provider npu: valid are cpu, xnnpack, gpu, nnapi"),
        (lite, {"binary": tool.with_name("none")}, "none is no file"),
    ):
        with pytest.raises(UsageError, match=message):
            measure(server, model, tool, **settings)
    assert phones["ONE"].files == {}
    phones["ONE"].free_kib = 2
    with pytest.raises(FacekdError, match="MiB free at"):
        measure(server, lite, tool)


def test_equal_latencies_and_large_numbers() -> None:
    """Two forms of stats_calculator.h: all samples alike, and microseconds above a million."""
    alike = PRINTED.replace("first=8033 curr=7999 min=7891 max=9100 avg=8049.25 std=150", "curr=8040(all same)")
    found = parse_output(alike, provider="xnnpack")
    assert (found.min_ms, found.mean_ms, found.max_ms, found.std_ms) == (8.04, 8.04, 8.04, 0)
    slow = PRINTED.replace("avg=8049.25", "avg=1.24027e+06").replace(
        "Inference (avg): 8049.25", "Inference (avg): 1.24027e+06"
    )
    assert parse_output(slow, provider="xnnpack").mean_ms == pytest.approx(1240.27)


def test_an_older_profile_has_one_more_column() -> None:
    head = "\t [node type]\t [start]\t [first]\t [avg ms]\t [%]\t [cdf%]\t [mem KB]\t[times called]\t[Name]\n"
    old = (
        "Operator-wise Profiling Info for Regular Benchmark Runs:\n=== Run Order ===\n"
        + head
        + "\t CONV_2D\t 0.066\t 87.7\t 60.9\t 2.0%\t 2.0%\t 0.000\t 1\t[MobilenetV1/Conv2d_0/Relu6]:0\n\n"
    )
    found = parse_operators(old, parse_output(PRINTED, provider="xnnpack"))
    assert found is not None
    assert found["operators"] == [{"operator": "CONV_2D", "provider": "LiteRT", "calls": 1, "ms": 60.9}]
    assert parse_operators(PRINTED, parse_output(PRINTED, provider="xnnpack")) is None


def test_at_least_one_run_of_warm_up() -> None:
    words = arguments_of("m", threads=1, runs=5, warm_up=0, provider="cpu", timeout_s=60)
    assert "--warmup_runs=1" in words and "--use_xnnpack=false" in words
