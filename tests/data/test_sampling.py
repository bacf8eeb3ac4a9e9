"""Batches with images of one identity: what an epoch holds, ranks, resuming, and what a batch is worth to a term."""

from itertools import combinations

import numpy as np
import pytest
import torch

from facekd.common.errors import UsageError
from facekd.data.dataset import EpochSampler
from facekd.data.opening import open_source
from facekd.data.sampling import IdentityGroups
from facekd.data.sources.synthetic import SyntheticSource
from facekd.recipe import Recipe
from facekd.training.stream import BatchStream

COUNTS = (1, 7, 2, 3, 0, 8, 1, 5, 4)  # 31 images of 8 identities, and a label without images
LABELS = np.repeat(np.arange(len(COUNTS)), COUNTS)


def epoch_of(groups: IdentityGroups, seed: int = 1, epoch: int = 0) -> np.ndarray:
    return groups.indices(seed, epoch, np.arange(len(groups)))


@pytest.mark.parametrize("size", [2, 3, 4, 8])
@pytest.mark.parametrize("shuffled", [False, True])
def test_an_epoch_is_every_image_once_in_as_many_whole_groups_as_there_can_be(size: int, shuffled: bool) -> None:
    labels = np.random.default_rng(0).permutation(LABELS) if shuffled else LABELS
    groups = IdentityGroups(labels, size)
    order = epoch_of(groups)
    assert len(order) == len(groups) == 31 // size * size
    assert len(set(order.tolist())) == len(order) and set(order.tolist()) <= set(range(31))
    of_one = [identities for row in labels[order].reshape(-1, size) if len(identities := set(row.tolist())) == 1]
    assert len(of_one) >= sum(count // size for count in COUNTS)
    for identity, count in enumerate(COUNTS):
        assert of_one.count({identity}) >= count // size


def test_a_position_says_the_same_alone_as_among_others() -> None:
    groups = IdentityGroups(LABELS, 3)
    whole = epoch_of(groups, epoch=5)
    positions = np.random.default_rng(2).permutation(len(groups))[:11]
    np.testing.assert_array_equal(groups.indices(1, 5, positions), whole[positions])
    assert not np.array_equal(whole, epoch_of(groups, epoch=6))
    assert not np.array_equal(whole, epoch_of(groups, seed=2, epoch=5))


def test_any_two_images_of_an_identity_meet_as_often_as_any_other_two() -> None:
    """An identity of three images gives one pair an epoch: each of three with chance 1/3."""
    groups = IdentityGroups(LABELS, 2)
    three = np.flatnonzero(LABELS == 3).tolist()
    met = dict.fromkeys(combinations(three, 2), 0)
    left_out = set()
    for epoch in range(300):
        order = epoch_of(groups, epoch=epoch)
        left_out |= set(range(31)) - set(order.tolist())
        for row in order.reshape(-1, 2):
            pair = tuple(sorted(row.tolist()))
            if pair in met:
                met[pair] += 1
    assert sum(met.values()) == 300
    assert all(100 - 4 * 8.2 < count < 100 + 4 * 8.2 for count in met.values())  # four standard deviations
    assert left_out == set(np.flatnonzero(np.isin(LABELS, [0, 1, 3, 6, 7])).tolist())  # of the odd identities, all


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_share_whole_groups_and_resume(ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekd.data.dataset._POSITIONS", 5)
    groups = IdentityGroups(LABELS, 2)
    whole = {tuple(row) for row in epoch_of(groups, seed=4, epoch=2).reshape(-1, 2).tolist()}
    seen: list[tuple[int, ...]] = []
    for rank in range(ranks):
        sampler = EpochSampler(31, seed=4, epoch=2, num_replicas=ranks, rank=rank, groups=groups)
        mine = [i for _, i in sampler]
        assert len(mine) == len(sampler) == 15 // ranks * 2
        seen += [tuple(row) for row in np.reshape(mine, (-1, 2)).tolist()]
        sampler.set_epoch(2, 6)
        assert [i for _, i in sampler] == mine[6:]
    assert set(seen) <= whole and len(set(seen)) == len(seen) == 15 // ranks * ranks


def recipe(**fields: object) -> Recipe:
    data = {"source": "synthetic:identities=7,images=5", "workers": 0, "images_per_identity": 2, **fields}
    return Recipe.model_validate({"name": "t", "seed": 3, "data": data, "training": {"batch_size": 4}})


def test_the_feed_goes_on_in_the_middle_of_an_epoch_and_its_batches_hold_pairs() -> None:
    source = open_source(recipe().data.source)
    stream = BatchStream(recipe(), source)
    steps = stream.steps(1, 0)
    run = [next(steps) for _ in range(stream.batches_per_epoch + 2)]
    again = stream.steps(1, 3)
    for expected in run[3:]:
        one = next(again)
        assert (one.epoch, one.next_batch, one.keys) == (
            expected.epoch,
            expected.next_batch,
            expected.keys,
        )
        assert torch.equal(one.batches[0]["images"], expected.batches[0]["images"])
    pairs = [len(labels) - len(set(labels)) for labels in (one.batches[0]["labels"].tolist() for one in run)]
    # 14 of 17 groups are of one identity; batches of two groups are 8.
    assert sum(pairs[: stream.batches_per_epoch]) >= 14 - 1


def test_what_makes_no_groups_is_refused() -> None:
    with pytest.raises(ValueError, match=r"batch_size 4 is not a multiple of data.images_per_identity 3"):
        recipe(images_per_identity=3)
    with pytest.raises(UsageError, match=r"2 \.\. 5, the images of the largest identity; got 8"):
        BatchStream(recipe().model_copy(update={"data": recipe().data.model_copy(update={"images_per_identity": 8})}),
             SyntheticSource(identities=7, images=5))  # fmt: skip
