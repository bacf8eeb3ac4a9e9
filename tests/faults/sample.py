"""A benchmark record with every part filled, to be damaged."""

from facekd.schemas.record import Record

_STATE = {"frequency_mhz": [2400.0], "temperature_c": {"cpu 0": 41.5}, "spin_ms": 1.0, "governor": "schedutil"}


def sample_record() -> Record:
    """Made-up figures."""
    return Record.model_validate(
        {
            "id": "1",
            "run": "1",
            "created": "2026-01-01T00:00:00+00:00",
            "facekd_version": "0",
            "model": {
                "name": "net", "file": "model.onnx", "sha256": "00", "target": "onnx", "precision": "fp32",
                "size_bytes": 1, "macs": 1,
            },
            "setup": {"runtime": "onnxruntime", "runtime_version": "1", "provider": "CPU", "threads": 1, "batch": 1},
            "device": {
                "id": "d", "kind": "host", "name": "d", "processor": "p", "cores": 1, "system": "s", "details": {},
            },
            "plan": {"duration_s": 1.0},
            "start": {"load_ms": 1.0, "first_ms": 1.0},
            "latency": {
                "runs": 3, "min_ms": 1.0, "p50_ms": 2.0, "p90_ms": 3.0, "p95_ms": 3.0, "p99_ms": 3.0, "max_ms": 3.0,
                "mean_ms": 2.0, "std_ms": 1.0, "interval_low_ms": 1.0, "interval_high_ms": 3.0, "interval_width": 1.0,
                "interval_wanted": 0.1, "interval_reached": False, "repeats": 1, "warm_up_runs": 1, "settled": True,
                "cpu_share": 1.0, "clock_overhead_ms": 0.0, "quantiles_ms": [2.0] * 101,
            },
            "memory": {"before_load_mib": 1.0, "resident_mib": 1.0, "peak_mib": 1.0, "model_mib": 1.0},
            "rate": {"gflops": 1.0, "peak_gflops": 1.0, "peak_kernel": "k", "times_limit": 1.0},
            "before": _STATE,
            "after": _STATE,
            "flags": ["hot"],
            "operators": {
                "method": "m", "operators": [{"operator": "Conv", "provider": "CPU", "calls": 1.0, "ms": 1.0}],
                "delegate": "X", "partitions": 1, "fallback": {"PRELU": 1},
            },
            "accuracy": {"dataset": "d", "fingerprint": "f", "pairs": 1, "accuracy": 1.0, "std": 0.0},
            "cosine_to_golden": 1.0,
        }
    )  # fmt: skip
