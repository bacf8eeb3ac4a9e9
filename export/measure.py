"""What an artefact is measured by besides parity: verification accuracy against the bundle's, and milliseconds."""

import functools
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from facekd.evaluation.embedding import evaluate_verification
from facekd.evaluation.verification import VerificationResult
from facekd.models.bundle import Bundle
from facekd.models.embedder import ModelEmbedder
from facekd.runtimes.embedder import FileEmbedder
from facekd.schemas.manifest import Accuracy, Latency

# One round runs every contender once, so other loads on the machine meet all of them alike.
_ROUNDS = 30
_SECONDS = 6.0


def evaluate_bundle(bundle: Bundle, pairs: Any) -> VerificationResult:
    """10-fold verification of the bundle in float32."""
    return evaluate_verification(ModelEmbedder(bundle.model, bundle.card.input), pairs)


def compare_accuracy(
    reference: VerificationResult, embedder: FileEmbedder, pairs: Any, *, max_accuracy_drop: float
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


def measure_latency(embedder: FileEmbedder, face: np.ndarray, *, before: FileEmbedder | None = None) -> Latency | None:
    """Median milliseconds of one image on one thread; with `before`, the unquantised file in turn with it.

    Args:
        face: uint8 RGB [3, h, w].
        before: the float file.

    Returns:
        None for an interpreter, whose time means nothing.
    """
    session = embedder.session
    if not session.runtime.timed:
        return None
    contenders = [embedder, *([before] if before else [])]
    calls: list[Callable[[], object]] = []
    for contender in contenders:
        x = contender.encoding.encode(np.repeat(face[None], contender.fixed_batch or 1, axis=0))
        calls.append(functools.partial(contender.session.run, x))
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    deadline = time.perf_counter() + _SECONDS
    while len(times[0]) < _ROUNDS and (time.perf_counter() < deadline or len(times[0]) < 5):
        for call, record in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            record.append((time.perf_counter() - start) * 1e3)
    medians = [
        statistics.median(record) / (contender.fixed_batch or 1)
        for record, contender in zip(times, contenders, strict=True)
    ]
    return Latency(
        runtime=session.label,
        threads=1,
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        repeats=len(times[0]),
        ms=medians[0],
        float_ms=medians[1] if before else None,
    )
