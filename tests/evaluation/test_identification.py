"""1:N in blocks against plain loops over all scores."""

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation import identification as module
from facekd.evaluation.fairness import compare_groups
from facekd.evaluation.identification import identify, megaface, search
from facekd.evaluation.verification import verify_pairs


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def people(rng: np.random.Generator, subjects: np.ndarray, noise: float) -> np.ndarray:
    """Features around one centre a subject, float32 and not of length 1."""
    centres = np.random.default_rng(99).normal(size=(subjects.max() + 2, 12))
    return ((centres[subjects] + rng.normal(size=(len(subjects), 12)) * noise) * 3).astype(np.float32)


@pytest.mark.parametrize("block_bytes", [1, 900, 1 << 20])
def test_identification_in_blocks_is_that_of_all_scores(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(1)
    gallery_subjects = np.concatenate([rng.permutation(30), rng.integers(0, 30, 9), np.full(20, -1)])
    probe_subjects = rng.integers(0, 45, 160)  # a third are in no gallery
    gallery = people(rng, gallery_subjects, 0.8)
    probes = people(rng, probe_subjects, 0.8)
    result = identify(gallery, gallery_subjects, probes, probe_subjects, ranks=(1, 2, 5), fpirs=(0.02, 0.1, 0.5, 1e-3))

    scores = unit(probes.astype(float)) @ unit(gallery.astype(float)).T
    mated, strangers = [], []
    for i, subject in enumerate(probe_subjects):
        if subject in gallery_subjects:
            order = sorted(range(len(gallery)), key=lambda j: -scores[i, j])
            rank = next(r for r, j in enumerate(order, 1) if gallery_subjects[j] == subject)
            mated.append((rank, max(scores[i, j] for j in order if gallery_subjects[j] == subject)))
        else:
            strangers.append(scores[i].max())
    strangers.sort(reverse=True)
    assert (result.mated, result.non_mated, result.gallery) == (len(mated), len(strangers), 59)
    for k in (1, 2, 5):
        assert result.ranks[k] == pytest.approx(sum(rank <= k for rank, _ in mated) / len(mated))
    assert 0.3 < result.ranks[1] < result.ranks[5] < 1
    assert result.unsupported_fpirs == (1e-3,)
    for fpir in (0.02, 0.1, 0.5):
        limit = strangers[int(fpir * len(strangers))]
        assert result.tpir[fpir] == pytest.approx(sum(r == 1 and s > limit for r, s in mated) / len(mated))
        assert result.threshold_cos[fpir] == pytest.approx(limit, abs=1e-6)


def test_a_model_that_says_the_same_of_all_finds_nobody() -> None:
    """Ties count against: an argsort would find the first."""
    same = np.ones((6, 4), dtype=np.float32)
    found = search(same, np.arange(6), same, np.arange(6))
    assert found.rank_rate(1) == 0
    assert found.rank_rate(6) == 1


def test_probes_of_another_gallery_are_refused() -> None:
    with pytest.raises(FacekdError, match="do not belong together"):
        identify(np.eye(3), np.arange(3), np.eye(3), np.arange(3) + 7)


@pytest.mark.parametrize("block_bytes", [1, 700, 1 << 20])
@pytest.mark.parametrize("far", [1e-2, 1e-3, 1e-5])
def test_megaface_is_that_of_all_scores(block_bytes: int, far: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(2)
    subjects = rng.integers(0, 7, 25)
    probes, distractors = people(rng, subjects, 0.9), rng.normal(size=(150, 12)).astype(np.float32)
    result = megaface(probes, subjects, distractors, far=far)
    p, d = unit(probes.astype(float)), unit(distractors.astype(float))
    won = [
        p[i] @ p[j] > max(p[j] @ x for x in d)
        for i in range(25)
        for j in range(25)
        if i != j and subjects[i] == subjects[j]
    ]
    assert result.rank1 == pytest.approx(np.mean(won))
    assert 0.1 < result.rank1 < 0.99
    genuine = [p[i] @ p[j] for i in range(25) for j in range(i) if subjects[i] == subjects[j]]
    impostors = sorted((float(a @ b) for a in p for b in d), reverse=True)
    assert (result.genuine, result.impostor) == (len(genuine), 25 * 150)
    if far * 25 * 150 < 1:
        assert result.tar is None
    else:
        limit = impostors[int(far * 25 * 150)]
        assert result.tar == pytest.approx(np.mean([g > limit for g in genuine]))
        assert result.threshold_cos == pytest.approx(limit, abs=1e-6)


def test_groups_are_compared_by_their_errors_and_at_one_threshold() -> None:
    rng = np.random.default_rng(5)
    issame = np.arange(400) // 20 % 2 == 0
    results = {}
    for group, noise in (("a", 0.6), ("b", 0.9), ("c", 1.2)):
        centres = rng.normal(size=(800, 6))
        centres[1::2][issame] = centres[0::2][issame]
        results[group] = verify_pairs(centres + noise * rng.normal(size=(800, 6)), issame, name=group)
    compared = compare_groups(results, fars=(0.05, 1e-4))
    errors = [1 - result.accuracy for result in results.values()]
    assert compared.skewed_error_ratio == pytest.approx(max(errors) / min(errors))
    mean = sum(errors) / 3
    assert compared.std == pytest.approx((sum((error - mean) ** 2 for error in errors) / 2) ** 0.5)
    (rates,) = compared.rates
    assert sum(rates.false_match.values()) / 3 <= 0.05
    for group, result in results.items():
        accepted = result.scores > rates.threshold_cos
        assert rates.false_match[group] == pytest.approx(accepted[~issame].mean())
        assert rates.false_non_match[group] == pytest.approx(1 - accepted[issame].mean())
    perfect = verify_pairs(np.repeat(np.eye(2), [1, 1], axis=0)[[0, 0, 0, 1] * 10], np.arange(20) % 2 == 0, name="p")
    assert compare_groups({"a": results["a"], "p": perfect}).skewed_error_ratio is None
    with pytest.raises(UsageError, match="at least two"):
        compare_groups({"a": results["a"]})
