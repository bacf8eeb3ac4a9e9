"""Reading one step ahead: the order, and errors when they are due. The copies themselves need a GPU."""

from collections.abc import Iterator

import pytest
import torch

from facekd.common.errors import FacekdError
from facekd.training.ahead import Ahead
from facekd.training.data import StepBatches


def steps(count: int, read: list[int]) -> Iterator[StepBatches]:
    for number in range(count):
        read.append(number)
        yield StepBatches([{"images": torch.full((2,), number), "labels": torch.zeros(2), "keys": []}], 0, number + 1)
    raise FacekdError("the data end here")


def test_one_is_read_ahead_and_errors_come_when_they_are_due() -> None:
    read: list[int] = []
    ahead = Ahead(steps(3, read), torch.device("cpu"))
    assert read == []
    for number in range(3):
        step_batches = next(ahead)
        assert int(step_batches.batches[0]["images"][0]) == number
        assert read == list(range(min(number + 2, 3)))
    with pytest.raises(FacekdError, match="the data end here"):
        next(ahead)
