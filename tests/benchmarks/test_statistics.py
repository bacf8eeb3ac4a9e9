"""The statistics against numpy and against samples whose answer is known."""

import numpy as np
import pytest

from facekd.benchmarks.statistics import drift, has_settled, median_interval, ratio_interval, summarise


def test_summary_is_numpys() -> None:
    values = np.random.default_rng(1).gamma(2.0, 3.0, 997)
    found = summarise(values)
    for percent in (50, 90, 95, 99):
        ordered = np.sort(values)  # by definition: linear between the two ranks around percent of (n - 1)
        rank = percent / 100 * (len(values) - 1)
        low = int(rank)
        assert found[f"p{percent}_ms"] == pytest.approx(ordered[low] + (rank - low) * (ordered[low + 1] - ordered[low]))
    assert found["mean_ms"] == pytest.approx(sum(values) / 997)
    assert found["std_ms"] == pytest.approx((sum((v - found["mean_ms"]) ** 2 for v in values) / 997) ** 0.5)
    assert (found["min_ms"], found["max_ms"]) == (min(values), max(values))


def test_interval_covers_the_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for trial in range(60):
        low, high = median_interval(generator.normal(10, 1, 200), resamples=150, seed=trial)
        covered += low <= 10 <= high
    assert 50 <= covered <= 60  # 57 expected; under 50 has a probability of 1e-4 at 95 %


def test_correlated_noise_widens_the_interval() -> None:
    """The same values in long busy and idle stretches say less about the median than shuffled."""
    generator = np.random.default_rng(3)
    stretches = np.repeat(generator.normal(10, 1, 25), 40) + generator.normal(0, 0.1, 1000)
    shuffled = generator.permutation(stretches)
    width = [np.subtract(*median_interval(values)[::-1]) for values in (stretches, shuffled)]
    assert width[0] > 2 * width[1]


def test_ratio_cancels_what_both_meet() -> None:
    generator = np.random.default_rng(4)
    noise = generator.uniform(1, 5, 40)  # a neighbour that slows whole rounds up to five times
    a, b = 3.0 * noise * generator.normal(1, 0.01, 40), 2.0 * noise * generator.normal(1, 0.01, 40)
    ratio, low, high = ratio_interval(a, b)
    assert low <= 1.5 <= high
    assert high - low < 0.02
    back = ratio_interval(b, a)
    assert back[0] == pytest.approx(1 / ratio)


def test_settling_and_drift() -> None:
    assert not has_settled([5.0] * 19)
    assert has_settled([9.0] * 7 + [5.0] * 20)
    assert not has_settled([10 - 0.3 * i for i in range(25)])
    assert drift([2.0] * 100) == 1
    assert drift([2.0] * 75 + [3.0] * 25) == 1.5
