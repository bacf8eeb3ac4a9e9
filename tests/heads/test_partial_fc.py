"""Partial FC: with sharded centres as the plain softmax, with a sample of the negatives as its definition."""

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from facekd.common.errors import UsageError
from facekd.heads import HEADS, MarginHead, create_head
from facekd.heads.partial_fc import identity_loss, shard, shard_bounds

NAMES = list(HEADS)
SCRIPT = Path(__file__).parent / "partial_fc_ranks.py"


@pytest.fixture(scope="module")
def differences() -> dict[str, dict[str, dict[str, float]]]:
    """By number of ranks and head: the largest difference to one process after four steps."""
    if not hasattr(os, "fork"):
        pytest.skip("the ranks are forks")
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=590, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, dict[str, float]]] = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found


@pytest.mark.parametrize("ranks", ["2", "4"])
@pytest.mark.parametrize("name", NAMES)
def test_sharded_training_is_that_of_one_process(differences: dict, ranks: str, name: str) -> None:
    found = differences[ranks][name]
    assert {"loss", "weights", "centres"} <= found.keys()
    assert max(found.values()) < 1e-9, found


def made(name: str, rate: float, n: int = 20) -> tuple[MarginHead, torch.Tensor, torch.Tensor]:
    head = create_head(name, embedding_width=8, num_identities=n, scale=16.0).double()
    head.sample_rate = rate
    return head, torch.randn(6, 8, dtype=torch.double, requires_grad=True), torch.tensor([3, 3, 0, 19, 7, 8])


@pytest.mark.parametrize("name", NAMES)
def test_one_shard_of_all_classes_is_the_plain_softmax(name: str) -> None:
    head, x, labels = made(name, 1.0)
    head.eval()
    plain = F.cross_entropy(head(x, labels), labels)
    expected = torch.autograd.grad(plain, [x, head.centres])
    head.owned = (0, 20)
    loss = identity_loss(head, x, labels)
    torch.testing.assert_close(loss, plain)
    torch.testing.assert_close(torch.autograd.grad(loss, [x, head.centres]), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_the_softmax_over_the_classes_that_were_drawn(name: str) -> None:
    head, x, labels = made(name, 0.6)
    head.eval()
    loss = identity_loss(head, x, labels)
    loss.backward()
    assert head.centres.grad is not None
    drawn = torch.nonzero(head.centres.grad.abs().sum(dim=1)).flatten()
    assert len(drawn) == math.ceil(0.6 * 20)
    assert set(labels.tolist()) <= set(drawn.tolist())
    column = {int(label): place for place, label in enumerate(drawn)}
    logits = head(x, labels)[:, drawn]
    expected = F.cross_entropy(logits, torch.tensor([column[int(label)] for label in labels]))
    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(expected, head.centres)[0]
    torch.testing.assert_close(head.centres.grad, gradient)


def test_every_step_draws_anew_and_by_the_seed() -> None:
    head, x, labels = made("arcface", 0.5)
    torch.manual_seed(3)
    first, second = (float(identity_loss(head, x, labels).detach()) for _ in range(2))
    torch.manual_seed(3)
    assert float(identity_loss(head, x, labels).detach()) == first != second


def test_more_positives_than_the_rate_allows_are_all_kept() -> None:
    """As many classes as images, here 6 of 5 people: what the batch holds is known to the device alone."""
    head, x, labels = made("cosface", 0.1)
    identity_loss(head, x, labels).backward()
    assert head.centres.grad is not None
    looked_at = torch.nonzero(head.centres.grad.abs().sum(dim=1)).flatten().tolist()
    assert len(labels) == len(looked_at) == 6
    assert set(labels.tolist()) == {0, 3, 7, 8, 19} < set(looked_at)


@pytest.mark.parametrize(("n", "world"), [(11, 4), (8, 8), (9, 4), (2_060_000, 3)])
def test_shards_are_those_of_torch_and_a_partition(n: int, world: int) -> None:
    bounds = [shard_bounds(n, rank, world) for rank in range(world)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds))
    sizes = [last - first for first, last in bounds if first < last]
    assert sizes == [len(part) for part in torch.arange(n).chunk(world)]


def test_a_sharded_head_says_what_it_cannot_do() -> None:
    head, x, labels = made("arcface", 1.0)
    with pytest.raises(UsageError, match="20 identities cannot be sharded over 21 ranks: start at most 20"):
        shard(head, 0, 21)
    with pytest.raises(UsageError, match="20 identities cannot be sharded over 11 ranks: start at most 10"):
        shard(head, 0, 11)  # two each, so that the eleventh has none
    shard(head, 1, 2)
    assert head.owned == (10, 20)
    for call in (lambda: head(x, labels), lambda: head.cosines(x)):
        with pytest.raises(UsageError, match="only centres 10 to 19 are here"):
            call()
