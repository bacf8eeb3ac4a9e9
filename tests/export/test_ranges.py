"""Activation ranges: from the definition, and where an outlier must not decide."""

from collections.abc import Iterator

import numpy as np
import pytest

from facekd.common.errors import FacekdError
from facekd.export.ranges import find_ranges


def _batches(*arrays: np.ndarray):  # type: ignore[no-untyped-def]
    def walk() -> Iterator[list[tuple[str, np.ndarray]]]:
        for array in arrays:
            yield [("t", array)]

    return walk


def test_minmax_spans_all_batches_and_zero() -> None:
    ranges = find_ranges(_batches(np.array([2.0, 5.0]), np.array([3.0, 9.0])))
    assert ranges == {"t": (0.0, 9.0)}


def test_percentile_leaves_out_the_stated_share() -> None:
    values = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    low, high = find_ranges(_batches(values), method="percentile", percentile=99)["t"]
    wanted = np.percentile(values, [0.5, 99.5])
    width = (values.max() - values.min()) / 2048
    assert abs(low - wanted[0]) <= 2 * width
    assert abs(high - wanted[1]) <= 2 * width


def test_entropy_ignores_a_lonely_outlier_that_minmax_follows() -> None:
    values = np.random.default_rng(1).normal(size=100_000).astype(np.float32)
    values[0] = 60
    assert find_ranges(_batches(values))["t"][1] == 60
    high = find_ranges(_batches(values), method="entropy")["t"][1]
    assert 2 < high < 15


def test_entropy_keeps_a_uniform_range() -> None:
    values = np.random.default_rng(2).uniform(0, 1, size=100_000).astype(np.float32)
    low, high = find_ranges(_batches(values), method="entropy")["t"]
    assert low == 0
    assert high > 0.95


def test_entropy_is_not_misled_by_the_zeros_of_a_relu() -> None:
    values = np.maximum(np.random.default_rng(3).normal(size=100_000), 0).astype(np.float32)
    values[: len(values) * 9 // 10] = 0
    assert find_ranges(_batches(values), method="entropy")["t"][1] > 2


def test_no_faces_and_infinite_values_are_errors() -> None:
    with pytest.raises(FacekdError, match="--calibration"):
        find_ranges(_batches())
    with pytest.raises(FacekdError, match="not finite"):
        find_ranges(_batches(np.array([1.0, np.inf])))
