"""A record of which a test may change what it needs, and a tiny model written with onnx alone."""

import copy
import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facekd.benchmarks.compare import PairedComparison, Ratio
from facekd.benchmarks.subject import Subject
from facekd.runtimes.encoding import InputEncoding
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import Manifest
from facekd.schemas.record import ModelFacts, Record

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from fake_adb import FakePhone, Server

_STATE = {"frequency_mhz": [], "temperature_c": {}, "spin_ms": 1.0, "governor": None}
PLAIN: dict[str, Any] = {
    "schema_version": 1,
    "id": "a",
    "run": "r1",
    "created": "2026-01-01T00:00:00+00:00",
    "facekd_version": "0.1.0",
    "commit": "abc",
    "model": {
        "name": "net fp32",
        "file": "model.onnx",
        "sha256": "00",
        "target": "onnx",
        "precision": "fp32",
        "size_bytes": 2**21,
        "macs": 200_000_000,
        "bundle_sha256": None,
    },
    "setup": {
        "runtime": "onnxruntime",
        "runtime_version": "1.28.0",
        "provider": "CPU",
        "threads": 1,
        "batch": 1,
        "cores": None,
    },
    "device": {
        "id": "host-1",
        "kind": "host",
        "name": "Processor, 2 cores",
        "processor": "Processor",
        "cores": 2,
        "memory_mib": 1024,
        "system": "Linux",
        "details": {},
    },
    "plan": {"duration_s": 1.0},
    "start": {"load_ms": 10.0, "first_ms": 5.0},
    "latency": {
        "runs": 101,
        "min_ms": 1.0,
        "p50_ms": 2.0,
        "p90_ms": 3.0,
        "p95_ms": 3.5,
        "p99_ms": 4.0,
        "max_ms": 5.0,
        "mean_ms": 2.1,
        "std_ms": 0.3,
        "interval_low_ms": 1.9,
        "interval_high_ms": 2.1,
        "interval_width": 0.1,
        "interval_wanted": 0.05,
        "interval_reached": False,
        "repeats": 4,
        "warm_up_runs": 21,
        "settled": True,
        "cpu_share": 0.99,
        "clock_overhead_ms": 0.0001,
        "quantiles_ms": [1 + 0.04 * i for i in range(101)],
    },
    "memory": {"before_load_mib": 40.0, "resident_mib": 60.0, "peak_mib": 70.0, "model_mib": 30.0},
    "rate": {"gflops": 200.0, "peak_gflops": 300.0, "peak_kernel": "torch mm", "times_limit": 1.5},
    "before": _STATE,
    "after": _STATE,
    "flags": ["interval_wide"],
    "operators": {
        "method": "profile",
        "operators": [{"operator": "Conv", "provider": "CPU", "calls": 9, "ms": 1.5}],
        "delegate": None,
        "partitions": None,
        "fallback": {},
    },
    "accuracy": {"dataset": "lfw", "fingerprint": "11", "pairs": 6000, "accuracy": 0.99, "std": 0.01},
    "cosine_to_golden": 1.0,
}
"""A line of schema 1 as it was first written. It stays as it is for ever: later schemas must read it."""


@pytest.fixture
def plain() -> dict[str, Any]:
    """PLAIN, to change."""
    return copy.deepcopy(PLAIN)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """make_record(model={"name": "x"}, ...) -> the plain record with these fields of its parts changed."""

    def make(**parts: Any) -> Record:
        data = copy.deepcopy(PLAIN) | {"schema_version": 2}
        for part, value in parts.items():
            if isinstance(value, dict) and isinstance(data.get(part), dict):
                data[part].update(value)
            else:
                data[part] = value
        return Record.model_validate(data)

    return make


@pytest.fixture
def comparison(make_record: Callable[..., Record]) -> PairedComparison:
    """Of a model of 2 ms and one of 8.4."""
    return PairedComparison(
        a=make_record().model,
        b=make_record(model={"name": "other", "sha256": "01"}).model,
        a_runtime="onnxruntime",
        b_runtime="litert",
        threads=1,
        batch=1,
        rounds=12,
        runs_a_round=(50, 12),
        a_ms=2.0,
        b_ms=8.4,
        a_cpu_ms=2.0,
        b_cpu_ms=8.4,
        wall=Ratio(ratio=4.2, low=4.1, high=4.3),
        cpu=Ratio(ratio=4.2, low=4.1, high=4.3),
        cpu_share=0.99,
        interval_wanted=0.03,
        reached=False,
        verdict="net fp32 (onnxruntime) is 4.200 times as fast as other (litert) (95 % interval 4.100 to 4.300)",
    )


@pytest.fixture(scope="session")
def onnx_face_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An .onnx of one 3x3 stride-2 convolution, a mean and one product: [b, 3, 16, 16] -> [b, 8].

    Its MACs by hand: 8 * 8 * 8 * 27 + 8 * 8.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    generator = np.random.default_rng(0)
    weights = {
        "w": generator.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "m": generator.standard_normal((8, 8)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "m"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    path = tmp_path_factory.mktemp("models") / "face.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def phones() -> dict[str, FakePhone]:
    return {"ONE": FakePhone()}


@pytest.fixture
def server(phones: dict[str, FakePhone]) -> Iterator[Server]:
    with Server(phones) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def subject(tmp_path: Path) -> Subject:
    """An artefact's folder as far as a phone is concerned: the manifest, the model's bytes, the golden files."""
    folder = tmp_path / "artefact"
    (folder / "golden").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(bytes(range(256)) * 40)
    (folder / "golden/crop.png").write_bytes(b"png")
    manifest = Manifest.model_validate(
        {
            "name": "net",
            "target": "android",
            "precision": "fp32",
            "created": "2026-01-01",
            "facekd_version": "0",
            "bundle": {"name": "net", "architecture": "mobilefacenet", "sha256": "00"},
            "model": "model.onnx",
            "format_version": "opset 20",
            "size_bytes": 10240,
            "input": {
                "name": "image",
                "dtype": "float32",
                "layout": "nchw",
                "batch": 1,
                "preprocess": "out",
                "spec": InputSpec().model_dump(),
            },
            "output": {"name": "embedding", "width": 8},
            "operators": {"Conv": 1},
            "parity": {
                "runtime": "onnxruntime",
                "faces": 1,
                "source": "drawn",
                "max_abs_difference": 0,
                "scale": 1,
                "max_abs_difference_unit": 0,
                "cosine_min": 1,
                "cosine_mean": 1,
                "bounds": {},
                "batches": [1],
            },
            "golden": {"min_cosine": 0.9999},
            "seconds": 1,
            "versions": {},
            "files": {},
        }
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    sha256 = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    facts = ModelFacts(
        name="net fp32", file="model.onnx", sha256=sha256, target="android", precision="fp32", size_bytes=10240
    )
    return Subject(
        facts=facts,
        path=folder / "model.onnx",
        folder=folder,
        runtime="onnxruntime",
        encoding=InputEncoding(spec=InputSpec()),
        manifest=manifest,
    )
