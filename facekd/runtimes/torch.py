"""PyTorch itself, eager, on the CPU: runs the bundles that artefacts come from."""

from pathlib import Path
from typing import Any

import numpy as np

from facekd.runtimes.base import FileFacts, OpenOptions, Runtime, Session, Tensor, register_runtime
from facekd.schemas.card import CARD_FILE, WEIGHTS_FILE, Card, read_card


@register_runtime
class Torch(Runtime):
    """Opens bundle folders."""

    name = "torch"
    title = "torch"
    extra = "all"
    modules = ("torch", "facekd.models.bundle")
    package = "torch"
    free_batch = True

    def opens(self, path: Path) -> bool:
        """Whether there is a bundle."""
        return (path / CARD_FILE).is_file()

    def open(self, path: Path, options: OpenOptions) -> Session:
        """The bundle's model in eval mode."""
        import torch

        from facekd.models.bundle import load_bundle

        torch.set_num_threads(options.num_threads)
        bundle = load_bundle(path)
        return _TorchSession(self, path, bundle.model.eval(), bundle.card)

    def files(self, path: Path) -> list[Path]:
        """The weights, which the card's sha256 names the model by."""
        return [path / WEIGHTS_FILE]

    def facts(self, path: Path) -> FileFacts:
        """As the card has them."""
        return FileFacts(read_card(path).macs, "fp32")

    def profile(self, path: Path, x: np.ndarray, *, threads: int, runs: int) -> dict[str, Any] | None:
        """torch.profiler's self time of each operator."""
        import torch

        session = self.open(path, OpenOptions(threads=threads, exclusive=True))
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

    def __init__(self, runtime: Runtime, path: Path, model: Any, card: Card) -> None:
        image = Tensor(name="image", dtype="float32", shape=(None, 3, *card.input.size))
        embedding = Tensor(name="embedding", dtype="float32", shape=(None, card.embedding_width))
        super().__init__(runtime, path, inputs=[image], outputs=[embedding])
        self._model = model

    def run(self, x: np.ndarray) -> np.ndarray:
        """Normalised images [b, 3, h, w] -> embeddings [b, e]."""
        import torch

        with torch.inference_mode():
            return self._model(torch.from_numpy(x)).numpy()  # type: ignore[no-any-return]
