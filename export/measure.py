"""What an artefact is measured by besides parity: verification accuracy against the bundle's, and milliseconds."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facekd.evaluation.embedding import ModelEmbedder, evaluate_verification
from facekd.evaluation.verification import VerificationResult
from facekd.export.network import feed, run_images
from facekd.export.targets.base import Runner
from facekd.models.bundle import Bundle
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import Accuracy, ArtefactInput, Latency

# One round runs every contender once, so other loads on the machine meet all of them alike.
_ROUNDS = 30
_SECONDS = 6.0


@dataclass(frozen=True)
class RunnerEmbedder:
    """An artefact in its runtime, as facekd's evaluation takes a model."""

    runner: Runner
    artefact_input: ArtefactInput
    embedding_width: int

    @property
    def input(self) -> InputSpec:
        """The model's input spec."""
        return self.artefact_input.spec

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 RGB images [b, 3, h, w] -> raw float32 embeddings [b, e]."""
        return torch.from_numpy(run_images(self.runner.run, self.artefact_input, images.numpy()))


def evaluate_bundle(bundle: Bundle, pairs: Any) -> VerificationResult:
    """10-fold verification of the bundle in float32."""
    return evaluate_verification(ModelEmbedder(bundle.model, bundle.card.input), pairs)


def compare_accuracy(
    reference: VerificationResult, embedder: RunnerEmbedder, pairs: Any, *, max_accuracy_drop: float
) -> Accuracy:
    """The artefact's verification beside the bundle's `reference`; decisions at the bundle's threshold.

    Args:
        max_accuracy_drop: bound, in percentage points; recorded, judged by the caller.
    """
    result = evaluate_verification(embedder, pairs)
    threshold_cos = reference.chosen_threshold_cos
    limit = 2 - 2 * threshold_cos
    changed = (reference.distances < limit) != (result.distances < limit)
    # d = 2 - 2 cos for unit vectors.
    margins = np.abs(reference.distances - limit)[changed] / 2
    return Accuracy(
        dataset=str(pairs.name),
        fingerprint=pairs.fingerprint(),
        pairs=len(reference.issame),
        protocol=reference.protocol,
        float_accuracy=reference.accuracy,
        accuracy=result.accuracy,
        threshold_cos=threshold_cos,
        changed=int(changed.sum()),
        changed_margin=float(margins.max()) if len(margins) else 0.0,
        max_accuracy_drop=max_accuracy_drop,
    )


def measure_latency(
    runner: Runner, spec: ArtefactInput, face: np.ndarray, *, before: tuple[Runner, ArtefactInput] | None = None
) -> Latency | None:
    """Median milliseconds of one image on one thread; with `before`, the unquantised file in turn with it.

    Args:
        face: uint8 RGB [3, h, w].
        before: the float file and its input.

    Returns:
        None for an interpreter, whose time means nothing.
    """
    if not runner.timed:
        return None
    contenders = [(runner, spec), *([before] if before else [])]
    calls: list[Callable[[], object]] = []
    for contender, its in contenders:
        x = feed(np.repeat(face[None], its.batch or 1, axis=0), its)
        calls.append(lambda contender=contender, x=x: contender.run(x))  # type: ignore[misc]
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    deadline = time.perf_counter() + _SECONDS
    while len(times[0]) < _ROUNDS and (time.perf_counter() < deadline or len(times[0]) < 5):
        for call, record in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            record.append((time.perf_counter() - start) * 1e3)
    medians = [statistics.median(record) / (its.batch or 1) for record, (_, its) in zip(times, contenders, strict=True)]
    return Latency(
        runtime=runner.runtime,
        threads=1,
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        repeats=len(times[0]),
        ms=medians[0],
        float_ms=medians[1] if before else None,
    )
