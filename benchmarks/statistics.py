"""What is made of a list of latencies: percentiles, the noise of the median, whether a warm-up has settled."""

from collections.abc import Sequence

import numpy as np


def summarise(latencies_ms: Sequence[float] | np.ndarray) -> dict[str, float]:
    """min, p50, p90, p95, p99, max, mean, std [ms]; percentiles interpolate linearly, std is the population's."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    p50, p90, p95, p99 = np.percentile(values, [50, 90, 95, 99])
    return {
        "min_ms": float(values.min()),
        "p50_ms": float(p50),
        "p90_ms": float(p90),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "max_ms": float(values.max()),
        "mean_ms": float(values.mean()),
        "std_ms": float(values.std()),
    }


def median_interval(
    latencies_ms: Sequence[float] | np.ndarray, *, confidence: float = 0.95, resamples: int = 400, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap interval of the median, by moving blocks.

    Successive latencies resemble one another (a busy neighbour stays for many runs), and a bootstrap of single values
    would take that for independent evidence and promise too much. Blocks of sqrt(n) successive values keep it
    (Kunsch 1989; the length is facekd's choice).
    """
    values = np.asarray(latencies_ms, dtype=np.float64)
    length = max(1, round(len(values) ** 0.5))
    needed = -(-len(values) // length)
    generator = np.random.default_rng(seed)
    # Circular: else the first and last values would be drawn less often than the rest.
    wrapped = np.concatenate([values, values[: length - 1]])
    blocks = np.lib.stride_tricks.sliding_window_view(wrapped, length)
    medians = [
        np.median(blocks[generator.integers(0, len(values), needed)].ravel()[: len(values)]) for _ in range(resamples)
    ]
    low, high = np.percentile(medians, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def ratio_interval(
    numerators: Sequence[float] | np.ndarray,
    denominators: Sequence[float] | np.ndarray,
    *,
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """(ratio, low, high) of two series measured in turn: round i of both met the same machine.

    The ratio is the geometric mean of the rounds' ratios, whose inverse is the ratio the other way round; the interval
    resamples whole rounds.
    """
    logs = np.log(np.asarray(numerators, dtype=np.float64)) - np.log(np.asarray(denominators, dtype=np.float64))
    generator = np.random.default_rng(seed)
    means = logs[generator.integers(0, len(logs), (resamples, len(logs)))].mean(axis=1)
    low, high = np.percentile(means, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def has_settled(latencies_ms: Sequence[float], *, window: int = 10, tolerance: float = 0.03) -> bool:
    """Whether the median of the last `window` runs is within `tolerance` of that of the `window` before them."""
    if len(latencies_ms) < 2 * window:
        return False
    last = float(np.median(latencies_ms[-window:]))
    before = float(np.median(latencies_ms[-2 * window : -window]))
    return abs(last - before) <= tolerance * before


def drift(latencies_ms: Sequence[float] | np.ndarray) -> float:
    """Median of the last quarter by that of the first: above 1 the run became slower."""
    values = np.asarray(latencies_ms, dtype=np.float64)
    quarter = max(1, len(values) // 4)
    return float(np.median(values[-quarter:]) / np.median(values[:quarter]))
