"""Templates (IJB): many images of one person as one vector, pairs of templates, and TAR at FAR as it is published.

The published order: an image's feature f(x) + f(flip(x)), its norm kept, times the detector's score; the mean within a
media id; the sum over media; L2 normalisation; the cosine of two templates is the pair's score.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekd.common.errors import FacekdError

_POOL_ROWS = 1 << 15  # images pooled at once: 64 MB of 512 floats
_ROWS = 256  # templates compared with all others at once
_DENSE = 64  # a dense product is cheaper where a pair in so many is wanted: 17 ns a product, 1.2 us a gathered pair
_GATHER = 1 << 13


@dataclass(frozen=True)
class Templates:
    """Attributes:
    ids: int64 [t], ascending.
    features: float32 [t, e], of length 1.
    """

    ids: np.ndarray
    features: np.ndarray

    def rows(self, ids: np.ndarray, *, where: str) -> np.ndarray:
        """int64 rows of template `ids`; raises FacekdError for one without an image, `where` says who asked."""
        rows = np.searchsorted(self.ids, ids)
        rows[rows == len(self.ids)] = 0
        if len(unknown := np.flatnonzero(self.ids[rows] != ids)):
            raise FacekdError(f"{where} names template {ids[unknown[0]]}, of which there is no image")
        return rows


def pool_templates(
    features: np.ndarray,
    templates: np.ndarray,
    media: np.ndarray,
    *,
    scores: np.ndarray | None = None,
    keep_norm: bool = True,
) -> Templates:
    """Image features to template features.

    Args:
        features: float [n, e], raw, flips already summed; may be memory-mapped, and is read in blocks.
        templates: int [n].
        media: int [n].
        scores: float [n], weight of each image (the detector's score); None weighs all alike.
        keep_norm: False normalises each image's feature first. (Public scripts call this `use_norm_score` and mean
            opposite things by it; the usual figures keep the norm.)

    Raises:
        FacekdError: lengths that do not fit; a template whose feature is zero or not finite.
    """
    if not len(features) == len(templates) == len(media) or (scores is not None and len(scores) != len(features)):
        raise FacekdError(f"{len(features)} features, {len(templates)} template and {len(media)} media ids do not fit")
    order = np.lexsort((media, templates))
    by_template, by_media = templates[order], media[order]
    new_template = np.append(True, by_template[1:] != by_template[:-1])
    new_media = new_template | np.append(True, by_media[1:] != by_media[:-1])
    # The mean within a medium and the sum over media in one: weigh each image by 1 / images of its medium.
    counts = np.diff(np.append(np.flatnonzero(new_media), len(order)))
    weights = np.repeat(1.0 / counts, counts)
    if scores is not None:
        weights *= scores[order]
    starts = np.flatnonzero(new_template)
    ids = by_template[starts].astype(np.int64)
    pooled = np.empty((len(starts), features.shape[1]), dtype=np.float32)
    ends = np.append(starts[1:], len(order))
    first = 0
    while first < len(starts):
        last = max(first + 1, int(np.searchsorted(ends, starts[first] + _POOL_ROWS, side="right")))
        rows = slice(starts[first], ends[last - 1])
        part = np.asarray(features[order[rows]], dtype=np.float32)
        weight = weights[rows]
        if not keep_norm:
            weight = weight / np.maximum(np.linalg.norm(part, axis=1), np.finfo(np.float32).tiny)
        part *= weight[:, None].astype(np.float32)
        pooled[first:last] = np.add.reduceat(part, starts[first:last] - starts[first], axis=0)
        first = last
    return Templates(ids, normalise(pooled, names=ids, what="template"))


def normalise(
    features: np.ndarray, *, names: Sequence[int] | np.ndarray | None = None, what: str = "row"
) -> np.ndarray:
    """float32 rows of length 1; raises FacekdError naming the first that is zero or not finite."""
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        name = bad[0] if names is None else names[bad[0]]
        raise FacekdError(
            f"{len(bad)} of {len(features)} features have no direction, the first that of {what} {name}: "
            "check the model and its input spec"
        )
    array: np.ndarray = (features / norms).astype(np.float32, copy=False)
    return array


def pair_scores(features: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The dot products of rows `first` and `second` (int [n]) of `features` [t, e], float32 [n].

    The published lists compare a few thousand templates with many others: there, whole blocks are multiplied and the
    pairs picked out, which is faster than gathering 1,024 floats a pair. Where pairs are sparse, they are gathered.
    """
    scores = np.empty(len(first), dtype=np.float32)
    (rows, row), (columns, column) = _distinct(first, len(features)), _distinct(second, len(features))
    if len(rows) * len(columns) > _DENSE * len(first):
        for start in range(0, len(first), _GATHER):
            part = slice(start, start + _GATHER)
            scores[part] = np.einsum("ij,ij->i", features[first[part]], features[second[part]])
        return scores
    order = np.argsort(row, kind="stable")
    edges = np.searchsorted(row[order], np.arange(0, len(rows) + _ROWS, _ROWS))
    others = np.ascontiguousarray(features[columns].T)
    for block, (start, end) in enumerate(itertools.pairwise(edges)):
        pairs = order[start:end]
        products = features[rows[block * _ROWS : (block + 1) * _ROWS]] @ others
        scores[pairs] = products[row[pairs] - block * _ROWS, column[pairs]]
    return scores


def _distinct(values: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """np.unique(values, return_inverse=True) of values in 0 .. limit - 1, by counting: nothing is sorted."""
    used = np.bincount(values, minlength=limit) > 0
    return np.flatnonzero(used), (np.cumsum(used) - 1).astype(np.int32)[values]


@dataclass(frozen=True)
class TarAtFar:
    """One point of the ROC.

    Attributes:
        far: the rate asked for.
        measured_far: the nearest that a threshold gives.
        tar: the true accept rate there.
        threshold_cos: accept if score > this.
    """

    far: float
    measured_far: float
    tar: float
    threshold_cos: float


def tar_at_nearest_far(scores: np.ndarray, issame: np.ndarray, fars: Sequence[float]) -> list[TarAtFar]:
    """The ROC points with the FAR nearest to each asked for, not interpolated, as the IJB figures are published.

    Of two equally near the larger FAR counts, and of the points of one FAR the highest TAR. Pairs of equal score are
    accepted together. This is the whole ROC: scikit-learn's default leaves out points within straight stretches.

    Args:
        scores: float [n].
        issame: bool [n]; both kinds must be there.
        fars: rates between 0 and 1.
    """
    if issame.all() or not issame.any():
        raise FacekdError(f"all {len(issame)} pairs are of one kind: a ROC needs genuine and impostor pairs")
    if not np.isfinite(scores).all():
        raise FacekdError("a pair's score is not finite: check the model")
    impostors = np.sort(scores[~issame])[::-1]
    genuine = np.sort(scores[issame])
    total = len(impostors)

    def attainable(count: int) -> bool:
        """Whether a threshold accepts exactly the `count` highest impostors."""
        return count in (0, total) or bool(impostors[count - 1] > impostors[count])

    points = []
    for far in fars:
        wanted = far * total
        low = int(np.floor(wanted))
        while not attainable(low):
            low -= 1
        high = min(int(np.floor(wanted)) + 1, total)
        while not attainable(high):
            high += 1
        count = high if abs(high - wanted) <= abs(wanted - low) else low
        limit = float(impostors[count]) if count < total else -np.inf
        accepted = len(genuine) - np.searchsorted(genuine, limit, side="right")
        points.append(TarAtFar(far, count / total, float(accepted / len(genuine)), max(limit, -1.0)))
    return points
