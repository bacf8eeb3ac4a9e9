"""A bundle in PyTorch itself, eager: what the artefacts come from."""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.benchmarks.runtimes.base import Runtime, Session


class Torch(Runtime):
    """Opens bundle folders."""

    name = "torch"
    extra = "all"
    modules = ("torch", "facekd.models.bundle")
    package = "torch"
    suffixes = ("",)

    def open(self, path: Path, *, threads: int) -> Session:
        """The bundle's model in eval mode, on the CPU."""
        import torch

        from facekd.models.bundle import load_bundle

        torch.set_num_threads(threads)
        return _TorchSession(load_bundle(path).model.eval())

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """torch.profiler's self time of each operator."""
        import torch

        session = self.open(path, threads=threads)
        for _ in range(3):
            session.run(x)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
            for _ in range(runs):
                session.run(x)
        rows = [
            {
                "operator": event.key,
                "provider": "CPU",
                "calls": event.count / runs,
                "ms": event.self_cpu_time_total / 1e3 / runs,
            }
            for event in profiler.key_averages()
            if event.key.startswith("aten::") and event.self_cpu_time_total > 0
        ]
        rows.sort(key=lambda row: -row["ms"])
        return {"method": f"torch.profiler, self time over {runs} runs", "operators": rows}


class _TorchSession(Session):
    provider = "CPU eager"

    def __init__(self, model: Any) -> None:
        self._model = model

    def run(self, x: np.ndarray) -> np.ndarray:
        """Normalised images [b, 3, h, w] -> embeddings [b, e]."""
        import torch

        with torch.inference_mode():
            return self._model(torch.from_numpy(x)).numpy()
