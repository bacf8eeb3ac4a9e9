"""The published protocol against scikit-learn and plain loops, and what must not change a result."""

import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation.roc import operating_point, roc_curve
from facekd.evaluation.verification import far_name, k_fold_accuracy, pair_distances, verify_pairs


def make_pairs(pairs: int, seed: int, width: int = 16, noise: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings [2 * pairs, width] whose genuine pairs share a centre, and labels [pairs]; overlap is wanted."""
    rng = np.random.default_rng(seed)
    issame = rng.random(pairs) < 0.5
    left, right = rng.normal(size=(2, pairs, width))
    right[issame] = left[issame] + noise * rng.normal(size=(issame.sum(), width))
    embeddings = np.empty((2 * pairs, width))
    embeddings[0::2], embeddings[1::2] = left, right
    return embeddings, issame


def plain_protocol(embeddings: np.ndarray, issame: np.ndarray) -> tuple[list[float], list[float]]:
    """protocols.md read aloud: one pair, one threshold, one fold at a time."""
    from sklearn.model_selection import KFold
    from sklearn.preprocessing import normalize

    unit = normalize(np.asarray(embeddings, dtype=np.float64))
    distances = [float(np.sum(np.square(unit[2 * i] - unit[2 * i + 1]))) for i in range(len(issame))]
    accuracies, thresholds = [], []
    for train, test in KFold(n_splits=10, shuffle=False).split(np.arange(len(issame))):
        best, chosen = -1.0, -1.0
        for threshold in np.arange(0, 4, 0.01):
            accuracy = sum((distances[i] < threshold) == issame[i] for i in train) / len(train)
            if accuracy > best:
                best, chosen = accuracy, float(threshold)
        thresholds.append(chosen)
        accuracies.append(sum((distances[i] < chosen) == issame[i] for i in test) / len(test))
    return accuracies, thresholds


@pytest.mark.parametrize(("pairs", "seed"), [(10, 0), (60, 1), (97, 2)])
def test_ten_folds_agree_with_sklearn_folds_and_a_plain_loop(pairs: int, seed: int) -> None:
    embeddings, issame = make_pairs(pairs, seed)
    issame[:2] = [True, False]
    accuracies, thresholds = plain_protocol(embeddings, issame)
    result = verify_pairs(embeddings, issame)
    np.testing.assert_allclose(result.fold_accuracies, accuracies, rtol=0, atol=1e-15)
    np.testing.assert_allclose(result.fold_thresholds, thresholds, rtol=0, atol=1e-15)
    best = max(((result.distances < t) == issame).mean() for t in np.arange(0, 4, 0.01))
    assert result.best_accuracy == pytest.approx(best)
    right = [((result.distances < t) == issame).mean() for t in np.arange(0, 4, 0.01)]
    assert ((result.distances < result.best_threshold) == issame).mean() == pytest.approx(max(right))
    if pairs == 10:  # folds of one pair hold one kind
        assert (result.accuracy, result.std, result.protocol) == (best, None, "one threshold for all pairs")
        assert result.chosen_threshold_cos == 1 - result.best_threshold / 2
        return
    mean = sum(accuracies) / 10
    assert (result.accuracy, result.protocol) == (pytest.approx(mean), "10 folds")
    assert result.std == pytest.approx((sum((a - mean) ** 2 for a in accuracies) / 10) ** 0.5)
    assert result.chosen_threshold_cos == pytest.approx(1 - sum(thresholds) / 20)


def test_acceptance_is_strict_at_a_threshold_of_the_grid() -> None:
    # Distance 2.0 exactly (orthogonal): accepted by 2.01, not by 2.0. Genuine pairs all lie at 2.0 and impostors at
    # 4.0, so the first best threshold is 2.01; with "<=" it would be 2.0.
    distances = np.array([2.0, 4.0] * 10)
    accuracies, thresholds, *_ = k_fold_accuracy(distances, np.array([True, False] * 10))
    assert (accuracies == 1).all()
    np.testing.assert_allclose(thresholds, 2.01)


def test_orthogonal_and_opposite_embeddings_have_distances_2_and_4() -> None:
    np.testing.assert_allclose(pair_distances(np.array([[3.0, 0], [0, 5], [1, 0], [-7, 0], [1, 2], [2, 4]])), [2, 4, 0])


@pytest.mark.parametrize("duplicates", [False, True])
def test_roc_auc_and_tar_agree_with_sklearn(duplicates: bool) -> None:
    from sklearn.metrics import roc_auc_score
    from sklearn.metrics import roc_curve as sklearn_roc

    embeddings, issame = make_pairs(3000, 3)
    distances = pair_distances(embeddings)
    if duplicates:
        distances = distances.round(1)
    far, tar, _ = sklearn_roc(issame, -distances, drop_intermediate=False)
    curve = roc_curve(distances, issame)
    np.testing.assert_allclose(curve.far, far, atol=1e-12)
    np.testing.assert_allclose(curve.tar, tar, atol=1e-12)
    for far_at, tar_at, threshold in list(zip(curve.far, curve.tar, curve.threshold_distance, strict=True))[:50]:
        assert (distances[~issame] < threshold).mean() == pytest.approx(far_at)
        assert (distances[issame] < threshold).mean() == pytest.approx(tar_at)

    impostors = np.sort(distances[~issame])
    for target in (1e-1, 1e-2, 1e-3):
        threshold = operating_point(impostors, target)
        # The step that sklearn's curve shows: the last point whose rate is not above the target.
        assert (distances[issame] < threshold).mean() == pytest.approx(tar[far <= target].max())

    if not duplicates:
        result = verify_pairs(embeddings, issame)
        assert result.auc == pytest.approx(roc_auc_score(issame, result.scores), abs=1e-12)


def test_equal_error_rate_is_where_the_rates_meet() -> None:
    embeddings, issame = make_pairs(4000, 4)
    result = verify_pairs(embeddings, issame)
    # By brute force over every threshold: the rates can only meet within one pair's step.
    thresholds = np.unique(result.distances)
    false_accepts = np.array([(result.distances[~issame] < t).mean() for t in thresholds])
    false_rejects = np.array([(result.distances[issame] >= t).mean() for t in thresholds])
    nearest = np.abs(false_accepts - false_rejects).argmin()
    assert result.eer == pytest.approx((false_accepts[nearest] + false_rejects[nearest]) / 2, abs=1 / 1500)


def test_the_reported_thresholds_give_the_reported_rates() -> None:
    embeddings, issame = make_pairs(5000, 5)
    result = verify_pairs(embeddings, issame)
    assert list(result.tar_at_far) == [1e-1, 1e-2, 1e-3]
    for far, tar in result.tar_at_far.items():
        by_cosine = result.scores > result.threshold_cos[far]
        by_distance = result.distances < result.threshold_distance[far]
        np.testing.assert_array_equal(by_cosine, by_distance)
        assert by_distance[~issame].mean() <= far
        assert by_distance[issame].mean() == tar


def test_a_far_below_one_impostor_is_named_and_not_reported() -> None:
    embeddings, issame = make_pairs(400, 6)
    result = verify_pairs(embeddings, issame)
    assert (~issame).sum() < 1000
    assert set(result.tar_at_far) == {1e-1, 1e-2}
    assert result.unsupported_fars == (1e-3, 1e-4)
    assert result.to_dict()["unsupported_fars"] == ["1e-3", "1e-4"]


def test_scale_rotation_and_order_within_a_pair_change_nothing() -> None:
    embeddings, issame = make_pairs(500, 7)
    expected = verify_pairs(embeddings, issame)
    rng = np.random.default_rng(8)
    scaled = embeddings * rng.uniform(0.1, 30, size=(len(embeddings), 1))
    rotated = embeddings @ np.linalg.qr(rng.normal(size=(16, 16)))[0]
    swapped = embeddings.reshape(-1, 2, 16)[:, ::-1].reshape(-1, 16)
    for changed in (scaled, rotated, swapped):
        result = verify_pairs(changed, issame)
        np.testing.assert_allclose(result.scores, expected.scores, atol=1e-12)
        np.testing.assert_array_equal(result.fold_accuracies, expected.fold_accuracies)
        assert result.tar_at_far == expected.tar_at_far
        assert result.eer == expected.eer


def test_folds_of_one_kind_are_counted() -> None:
    embeddings, _ = make_pairs(100, 10)
    assert verify_pairs(embeddings, np.arange(100) < 50).one_kind_folds == 10
    assert verify_pairs(embeddings, np.arange(100) < 45).one_kind_folds == 9
    assert verify_pairs(embeddings, np.arange(100) % 2 == 0).one_kind_folds == 0


def test_a_sets_own_folds_are_used() -> None:
    """Each fold is judged at the threshold that is best on the others, whatever their sizes."""
    embeddings, issame = make_pairs(60, 3)
    issame[[0, 1, 10, 11, 45, 46]] = [True, False] * 3
    sizes = [10, 35, 15]
    result = verify_pairs(embeddings, issame, folds=sizes)
    assert (result.protocol, result.fold_sizes.tolist()) == ("3 folds", sizes)
    start = 0
    for size, accuracy, threshold in zip(sizes, result.fold_accuracies, result.fold_thresholds, strict=True):
        inside = np.zeros(60, bool)
        inside[start : start + size] = True
        right = [((result.distances < t) == issame)[~inside].mean() for t in np.arange(0, 4, 0.01)]
        assert threshold == np.arange(0, 4, 0.01)[int(np.argmax(right))]
        assert accuracy == pytest.approx(((result.distances < threshold) == issame)[inside].mean())
        start += size
    with pytest.raises(FacekdError, match="are not those of 60 pairs"):
        verify_pairs(embeddings, issame, folds=[30, 31])


def test_a_set_of_one_fold_is_judged_at_one_threshold() -> None:
    embeddings, issame = make_pairs(60, 4)
    result = verify_pairs(embeddings, issame, folds=[60])
    assert (result.accuracy, result.std) == (result.best_accuracy, None)
    assert "since it has one fold" in " ".join(result.notes())


def test_embeddings_that_hardly_differ_are_said_to() -> None:
    """Seen: every method of the first documented sweep ended with exactly 50.00 %, without a word."""
    rng = np.random.default_rng(0)
    issame = np.arange(40) % 2 == 0
    close = np.ones((80, 16)) + 1e-3 * rng.normal(size=(80, 16))
    result = verify_pairs(close, issame)
    assert result.accuracy == 0.5
    assert result.too_close is not None
    assert f"the AUC is {result.auc:.4f}" in result.notes()[-1]
    assert verify_pairs(rng.normal(size=(80, 16)), issame).too_close is None


def test_perfect_and_useless_embeddings() -> None:
    centres = np.eye(20)
    issame = np.array([True, False] * 10)
    embeddings = np.empty((40, 20))
    embeddings[0::2] = centres
    embeddings[1::2] = np.where(issame[:, None], centres, np.roll(centres, 1, axis=0))
    perfect = verify_pairs(embeddings, issame)
    assert (perfect.accuracy, perfect.std, perfect.eer, perfect.auc) == (1, 0, 0, 1)
    constant = verify_pairs(np.ones((40, 20)), issame)
    assert constant.accuracy == 0.5
    assert constant.eer == pytest.approx(0.5)
    assert constant.auc == pytest.approx(0.5)
    assert constant.tar_at_far == {1e-1: 0}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, s: (e[:18], s[:9]), "9 pairs cannot be cut into 10 folds"),
        (lambda e, s: (e, np.ones_like(s)), "all 20 pairs are genuine"),
        (lambda e, s: (e, np.zeros_like(s)), "all 20 pairs are impostor"),
        (lambda e, s: (np.where(np.arange(40)[:, None] == 7, np.nan, e), s), "that of image 7 is not finite"),
        (lambda e, s: (np.where(np.arange(40)[:, None] == 3, 0, e), s), "that of image 3 is zero"),
        (lambda e, s: (e[:-1], s), r"\[40, e\]: got \(39, 16\)"),
    ],
)
def test_bad_input_is_one_line(change, words: str) -> None:  # type: ignore[no-untyped-def]
    embeddings, _ = make_pairs(20, 9)
    with pytest.raises(FacekdError, match=words) as caught:
        verify_pairs(*change(embeddings, np.array([True, False] * 10)), name="set")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("set: ")


def test_a_far_that_is_no_rate_is_refused() -> None:
    embeddings, issame = make_pairs(20, 9)
    with pytest.raises(UsageError, match="far 10"):
        verify_pairs(embeddings, issame, fars=[10])


def test_far_names() -> None:
    assert [far_name(far) for far in (1e-1, 1e-3, 1e-6, 0.05, 0.0025)] == ["1e-1", "1e-3", "1e-6", "5e-2", "2.5e-3"]
