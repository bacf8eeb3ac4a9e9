"""Thresholds for low false accept rates and for galleries: from the definition, by brute force, and on real faces."""

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation.calibration import FEWEST_ABOVE, calibrate, impostor_tail
from facekd.evaluation.gallery import measure_galleries, named_rate, split_people
from facekd.schemas.calibration import Calibration


def made_faces(people: int, images: int, *, seed: int, width: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings around a direction for each person; people are independent."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((people, width))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    identities = np.repeat(np.arange(people), images)
    return centres[identities] + 0.08 * random.standard_normal((len(identities), width)), identities


def table_of(embeddings: np.ndarray, identities: np.ndarray) -> Calibration:
    return calibrate(embeddings, identities, faces="made", fingerprint="f")


def impostor_scores(embeddings: np.ndarray, identities: np.ndarray) -> np.ndarray:
    """All of them, by the definition."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), 1)
    different = identities[first] != identities[second]
    scores: np.ndarray = (unit @ unit.T)[first[different], second[different]]
    return scores


def test_the_tail_is_the_highest_of_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the pairs are cut into blocks."""
    embeddings, identities = made_faces(60, 4, seed=0)
    expected = np.sort(impostor_scores(embeddings, identities))[::-1]
    for block in (500, 1 << 23):
        monkeypatch.setattr("facekd.evaluation.calibration._BLOCK_SCORES", block)
        tail = impostor_tail(embeddings, identities, share=0.02)
        assert tail.pairs == len(expected)
        assert len(tail.scores) == int(0.02 * tail.pairs) + 1
        np.testing.assert_allclose(tail.scores, expected[: len(tail.scores)], atol=1e-6)
        assert (identities[tail.first] != identities[tail.second]).all()


def test_a_threshold_is_the_loosest_that_keeps_its_rate() -> None:
    embeddings, identities = made_faces(150, 3, seed=1)
    table = table_of(embeddings, identities)
    scores = impostor_scores(embeddings, identities)
    assert table.impostor_pairs == len(scores) == 150 * 149 // 2 * 9
    assert table.lowest_far * len(scores) >= FEWEST_ABOVE > 10**-0.1 * table.lowest_far * len(scores)
    for entry in table.thresholds:
        above = (scores > entry.threshold_cos + 1e-6).sum()
        assert above <= entry.far * len(scores) < (scores > entry.threshold_cos - 1e-6).sum() + 1
        assert entry.far_low < above / len(scores) < entry.far_high


def test_the_interval_holds_the_rate_of_other_people() -> None:
    """Thresholds of one sample of people, rates on a large sample of others: inside nine times out of ten or more."""
    others, of_others = made_faces(1500, 1, seed=99)
    scores = impostor_scores(others, of_others)
    inside = total = 0
    for seed in range(20):
        for entry in table_of(*made_faces(120, 2, seed=seed)).thresholds[::5]:
            inside += entry.far_low <= (scores > entry.threshold_cos).mean() <= entry.far_high
            total += 1
    assert total >= 40 and inside / total >= 0.88


def test_people_who_resemble_each_other_widen_the_interval() -> None:
    """More images of the same people tell nothing new: the interval stays, though there are 16 times the pairs."""
    random = np.random.default_rng(3)
    embeddings, identities = made_faces(100, 1, seed=3)
    copies = np.repeat(embeddings, 4, axis=0) + 1e-4 * random.standard_normal((400, 32))
    one = table_of(embeddings, identities).thresholds[0]
    four = table_of(copies, np.repeat(identities, 4)).thresholds[0]
    width = np.log(four.far_high / four.far_low) / np.log(one.far_high / one.far_low)
    assert 0.8 < width < 1.25


def test_the_table_answers_only_what_it_holds() -> None:
    table = table_of(*made_faces(150, 3, seed=1))
    assert table.threshold_for(1e-2) == table.thresholds[0] == table.threshold_for(0.5)
    assert table.threshold_for(table.lowest_far) == table.thresholds[-1]
    assert table.threshold_for(table.lowest_far / 2) is None
    between = table.threshold_for(0.0099)
    assert between is not None and between.far < 0.0099
    with pytest.raises(FacekdError, match=r"made has 45 pairs of two people: a rate of 0.01 needs 3,000"):
        table_of(*made_faces(10, 1, seed=0))
    with pytest.raises(FacekdError, match="all faces are of one person"):
        table_of(*made_faces(1, 5, seed=0))


def test_the_rate_of_every_gallery_is_that_of_drawn_galleries() -> None:
    """The formula against galleries that are drawn and searched."""
    random = np.random.default_rng(0)
    for others, above, size in ((50, 3, 10), (50, 0, 10), (50, 41, 10), (20, 1, 19), (300, 2, 100)):
        hits = np.arange(others) < above
        drawn = np.mean([hits[random.choice(others, size, replace=False)].any() for _ in range(4000)])
        assert named_rate(np.array([above]), others, size)[0] == pytest.approx(drawn, abs=0.03)


def test_a_gallerys_rate_is_what_searching_it_gives() -> None:
    """Galleries drawn one by one, each stranger searched: the same FPIR as the mean over all."""
    embeddings, identities = made_faces(80, 2, seed=5)
    table = table_of(*made_faces(300, 2, seed=6))
    (rate,) = measure_galleries(embeddings, identities, table, sizes=[10], promises=[0.1], seed=4)
    assert rate.threshold_cos is not None and rate.far == 0.01
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    random = np.random.default_rng(4)
    enrolled = np.array([random.choice(np.flatnonzero(identities == person)) for person in range(80)])
    draw = np.random.default_rng(0)
    named = []
    for _ in range(600):
        people = draw.choice(80, 10, replace=False)
        strangers = unit[~np.isin(identities, people)]
        named.append(((strangers @ unit[enrolled[people]].T).max(axis=1) > rate.threshold_cos).mean())
    assert rate.fpir == pytest.approx(np.mean(named), abs=4 * np.std(named) / np.sqrt(600))
    others = np.setdiff1d(np.arange(160), enrolled)
    mates = np.einsum("ij,ij->i", unit[others], unit[enrolled[identities[others]]])
    assert rate.found == pytest.approx((mates > rate.threshold_cos).mean())


@pytest.mark.parametrize("size", [10, 100, 200])
def test_a_promise_to_a_gallery_holds_for_other_people(size: int) -> None:
    """Calibrated on some people, others enrolled and searched: within the intervals; the 1:1 threshold is not."""
    table = table_of(*made_faces(2000, 2, seed=7))
    embeddings, identities = made_faces(600, 2, seed=8)
    rates = measure_galleries(embeddings, identities, table, sizes=[size], promises=[0.1, 0.02])
    for rate in rates:
        assert rate.fpir is not None and rate.fpir_low is not None and rate.promised_low is not None
        assert rate.fpir_low <= (rate.promised_high or 1) and rate.promised_low <= (rate.fpir_high or 0)
        assert rate.fpir < 1.3 * rate.promised
    naive = table.threshold_for(0.01)
    assert naive is not None
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    strangers, enrolled = unit[2 * size :], unit[: 2 * size : 2]
    by_pairs = ((strangers @ enrolled.T).max(axis=1) > naive.threshold_cos).mean()
    assert by_pairs > 5 * 0.01  # what the 1:1 threshold of "1 in 100" does with a gallery


def test_what_no_table_supports_is_left_open() -> None:
    table = table_of(*made_faces(150, 2, seed=9))
    embeddings, identities = made_faces(40, 2, seed=10)
    (rate,) = measure_galleries(embeddings, identities, table, sizes=[39], promises=[1e-3])
    assert (rate.threshold_cos, rate.fpir, rate.far) == (None, None, 1e-3 / 39)
    for sizes in ([40], [0]):
        with pytest.raises(UsageError, match=f"a gallery of {sizes[0]} of 40 people: give 1 to 39"):
            measure_galleries(embeddings, identities, table, sizes=sizes)


def test_halves_share_nobody() -> None:
    _, identities = made_faces(31, 3, seed=0)
    first, second = split_people(identities)
    assert not set(identities[first]) & set(identities[second])
    assert sorted([*first, *second]) == list(range(93))
