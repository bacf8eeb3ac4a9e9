"""Activation ranges for static quantisation, from the values of a calibration run: min-max, percentile or entropy."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from facekd.common.errors import FacekdError
from facekd.export.options import CalibrationMethod

_BINS = 2048
_LEVELS = 128  # of an int8 half axis, as the entropy method merges its bins
Named = Iterable[tuple[str, np.ndarray]]


def find_ranges(
    batches: Callable[[], Iterator[Named]], *, method: CalibrationMethod = "minmax", percentile: float = 99.99
) -> dict[str, tuple[float, float]]:
    """(low, high) of every tensor over all batches; zero always lies inside, since padding writes it.

    The batches are walked twice for percentile and entropy (extremes, then a histogram of fixed edges), so memory is a
    histogram a tensor and not the activations.

    Args:
        batches: a fresh walk over the calibration batches: each gives (tensor name, float values).
        method: minmax takes the extremes. percentile leaves out (100 - percentile) % of the values, half on each side.
            entropy clips |x| where the int8 histogram loses least, by Kullback-Leibler divergence (Migacz, "8-bit
            inference with TensorRT", 2017).
        percentile: 50 to 100.

    Raises:
        FacekdError: no batch, or a tensor that is not finite.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for batch in batches():
        for name, values in batch:
            if not values.size:
                continue
            low, high = float(values.min()), float(values.max())
            if not np.isfinite(low) or not np.isfinite(high):
                raise FacekdError(f"calibration: tensor {name} holds values that are not finite")
            old = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, old[0]), max(high, old[1]))
    if not ranges:
        raise FacekdError("calibration: no face reached the network; give faces with --calibration")
    if method == "minmax":
        return ranges
    histograms = {name: np.zeros(_BINS) for name in ranges}
    for batch in batches():
        for name, values in batch:
            if values.size:
                histograms[name] += np.histogram(values, bins=_BINS, range=_edges(ranges[name]))[0]
    choose = _percentile(percentile) if method == "percentile" else _entropy
    return {name: choose(histograms[name], *_edges(ranges[name])) for name in ranges}


def _edges(extremes: tuple[float, float]) -> tuple[float, float]:
    low, high = extremes
    return (low, high) if high > low else (low - 1e-6, high + 1e-6)


def _percentile(percentile: float) -> Callable[[np.ndarray, float, float], tuple[float, float]]:
    tail = (1 - percentile / 100) / 2

    def choose(histogram: np.ndarray, low: float, high: float) -> tuple[float, float]:
        cumulative = np.cumsum(histogram) / histogram.sum()
        edges = np.linspace(low, high, _BINS + 1)
        first = int(np.searchsorted(cumulative, tail, side="right"))
        last = int(np.searchsorted(cumulative, 1 - tail, side="left"))
        return min(float(edges[first]), 0.0), max(float(edges[last + 1]), 0.0)

    return choose


def _entropy(histogram: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Keeps the sign's side that is there; both sides are clipped at the same magnitude."""
    bound = max(-low, high)
    centres = np.linspace(low, high, _BINS + 1)[:-1] + (high - low) / (2 * _BINS)
    magnitudes, edges = np.histogram(np.abs(centres), bins=_BINS // 2, range=(0, bound), weights=histogram)
    # A ReLU's zeros are represented exactly by any clip; left in, they outweigh all values that are not.
    magnitudes[0] = magnitudes[1]
    best, clip = np.inf, bound
    for stop in range(_LEVELS, len(magnitudes) + 1, 8):
        divergence = _divergence(magnitudes, stop)
        if divergence < best:
            best, clip = divergence, float(edges[stop])
    return max(low, -clip), min(high, clip)


def _divergence(histogram: np.ndarray, stop: int) -> float:
    """KL divergence of the first `stop` bins, the rest clipped into the last, from their merger into int8 levels."""
    reference = histogram[:stop].astype(np.float64).copy()
    reference[-1] += histogram[stop:].sum()
    owner = np.minimum(np.arange(stop) * _LEVELS // stop, _LEVELS - 1)
    nonzero = histogram[:stop] > 0
    sums = np.bincount(owner, weights=histogram[:stop], minlength=_LEVELS)
    members = np.bincount(owner, weights=nonzero, minlength=_LEVELS)
    quantised = np.where(nonzero, sums[owner] / np.maximum(members[owner], 1), 0.0)
    p = reference / max(reference.sum(), 1)
    q = quantised / max(quantised.sum(), 1)
    used = p > 0
    # A bin that only clipped mass reached has q = 0: a small floor keeps the divergence finite and large.
    return float(np.sum(p[used] * np.log(p[used] / np.maximum(q[used], 1e-9))))
