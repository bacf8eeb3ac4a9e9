"""Template pooling, pair scores and TAR at FAR against plain loops over the published definition."""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from facekd.common.errors import FacekdError
from facekd.evaluation import templates as module
from facekd.evaluation.templates import pair_scores, pool_templates, tar_at_nearest_far


def pooled_by_loops(
    features: np.ndarray, templates: np.ndarray, media: np.ndarray, scores: np.ndarray | None, keep_norm: bool
) -> dict[int, np.ndarray]:
    result = {}
    for template in set(templates.tolist()):
        total = np.zeros(features.shape[1])
        for medium in {m for t, m in zip(templates, media, strict=True) if t == template}:
            group = []
            for i in range(len(features)):
                if templates[i] == template and media[i] == medium:
                    feature = features[i].astype(np.float64)
                    if not keep_norm:
                        feature = feature / np.linalg.norm(feature)
                    group.append(feature * (1 if scores is None else scores[i]))
            total += np.mean(group, axis=0)
        result[template] = total / np.linalg.norm(total)
    return result


@pytest.mark.parametrize("keep_norm", [True, False])
@pytest.mark.parametrize("detector", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_pooling_is_mean_in_media_and_sum_over_them(
    keep_norm: bool, detector: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_POOL_ROWS", rows)  # blocks of any size give the same
    rng = np.random.default_rng(3)
    features = rng.normal(size=(60, 5)).astype(np.float32) * rng.uniform(0.1, 9, (60, 1)).astype(np.float32)
    templates, media = rng.integers(100, 112, 60), rng.integers(0, 4, 60)  # media ids recur in other templates
    scores = rng.uniform(0.2, 1, 60).astype(np.float32) if detector else None
    pooled = pool_templates(features, templates, media, scores=scores, keep_norm=keep_norm)
    expected = pooled_by_loops(features, templates, media, scores, keep_norm)
    assert pooled.ids.tolist() == sorted(expected)
    for name, feature in zip(pooled.ids, pooled.features, strict=True):
        np.testing.assert_allclose(feature, expected[int(name)], atol=1e-6)


def test_pooling_refuses_what_has_no_direction_or_no_image() -> None:
    features = np.array([[1.0, 0], [0, 0], [0, 1]], dtype=np.float32)
    with pytest.raises(FacekdError, match="template 9"):
        pool_templates(features, np.array([4, 9, 4]), np.array([1, 2, 1]))
    pooled = pool_templates(features[:1], np.array([4]), np.array([1]))
    with pytest.raises(FacekdError, match="the list names template 5"):
        pooled.rows(np.array([4, 5]), where="the list")
    with pytest.raises(FacekdError, match="do not fit"):
        pool_templates(features, np.array([4, 9]), np.array([1, 2]))


@pytest.mark.parametrize("pairs", [1, 30, 6000])
@pytest.mark.parametrize("dense", [0, 1000], ids=["gathered", "multiplied"])
def test_pair_scores_are_dot_products_in_the_order_of_the_list(
    pairs: int, dense: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_DENSE", dense)
    monkeypatch.setattr(module, "_ROWS", 16)
    monkeypatch.setattr(module, "_GATHER", 7)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(150, 8)).astype(np.float32)
    first, second = rng.integers(10, 74, pairs), rng.integers(20, 150, pairs)
    expected = [
        float(features[a].astype(float) @ features[b].astype(float)) for a, b in zip(first, second, strict=True)
    ]
    np.testing.assert_allclose(pair_scores(features, first, second), expected, atol=1e-5)


@pytest.mark.parametrize("decimals", [1, 2, 6])
def test_tar_is_the_roc_point_of_nearest_far(decimals: int) -> None:
    """As the public script picks it from scikit-learn's curve, here with every point of the curve."""
    rng = np.random.default_rng(decimals)
    issame = rng.random(3000) < 0.2
    scores = (rng.normal(0.1, 0.15, 3000) + 0.4 * issame).clip(-1, 1).round(decimals).astype(np.float32)
    fars = [1e-4, 1e-3, 2e-3, 1e-2, 0.1, 0.37, 0.999]
    fpr, tpr, _ = roc_curve(issame, scores, drop_intermediate=False)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    for point in tar_at_nearest_far(scores, issame, fars):
        at = np.argmin(np.abs(fpr - point.far))
        assert point.measured_far == pytest.approx(fpr[at], abs=1e-12)
        assert point.tar == pytest.approx(tpr[at], abs=1e-12)
        accepted = scores > point.threshold_cos
        assert accepted[issame].mean() == pytest.approx(point.tar)
        assert accepted[~issame].mean() == pytest.approx(point.measured_far)


def test_tar_refuses_one_kind_of_pair_and_scores_that_are_no_numbers() -> None:
    with pytest.raises(FacekdError, match="one kind"):
        tar_at_nearest_far(np.ones(3), np.ones(3, dtype=bool), [0.1])
    with pytest.raises(FacekdError, match="not finite"):
        tar_at_nearest_far(np.array([1, np.nan]), np.array([True, False]), [0.1])
