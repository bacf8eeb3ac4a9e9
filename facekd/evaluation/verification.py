"""1:1 face verification by the published 10-fold protocol (LFW View 2 and the .bin sets that follow it).

One rule for all sets, in every verb: a set's own folds where it publishes them, else ten; and where a fold holds pairs
of one kind only, or there is a single fold, the accuracy at the best single threshold for all pairs.

Conventions, used everywhere in this package:

- an image's embedding is L2norm(f(x) + f(flip(x))), the sum taken on the raw features;
- a pair's distance d is the squared L2 distance of its two embeddings, 0 to 4; its score is their cosine, 1 - d / 2;
- a pair is accepted as the same person if d < t, strictly; in cosine: score > threshold_cos = 1 - t / 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation.roc import RocCurve, area_under_curve, equal_error_rate, operating_point, roc_curve

THRESHOLDS = np.arange(0, 4, 0.01)
"""The squared distances among which a fold's threshold is chosen: the published grid of 400."""

ONE_THRESHOLD = "one threshold for all pairs"

FARS = (1e-1, 1e-2, 1e-3, 1e-4)
"""False accept rates reported where the set has the impostor pairs to measure them."""


@dataclass(frozen=True)
class VerificationResult:
    """What a model reached on a set of pairs.

    Attributes:
        accuracy: 0 to 1, as `protocol` says: the mean of the folds' accuracies or, where the set has no folds that hold
            pairs of both kinds, `best_accuracy`.
        std: standard deviation of the folds' accuracies (ddof 0); None where they were not used.
        fold_sizes: int64 [folds], pairs in each.
        fold_accuracies: float64 [folds].
        fold_thresholds: float64 [folds], the squared distance each fold was judged with, chosen on the other folds.
        tar_at_far: FAR -> share of genuine pairs accepted at the loosest threshold whose FAR does not exceed it.
            A step search over the whole set, not an interpolation: every figure is a point that was measured.
        threshold_cos: FAR -> that threshold as a cosine (accept if the cosine is greater).
        threshold_distance: FAR -> the same threshold as a squared distance (accept if the distance is smaller).
        unsupported_fars: the FARs below 1 / impostor pairs: the set is too small to measure them.
        best_accuracy: the highest accuracy over all pairs at one threshold of the grid. Optimistic, since the threshold
            saw the pairs it is judged on.
        best_threshold: that threshold as a squared distance; the middle one of equals.
        eer: the rate at which false accepts equal false rejects, 0 to 1.
        auc: area under the ROC curve.
        distances: float64 [pairs], each pair's squared distance.
        issame: bool [pairs].
        name: the set's name, where known.
        seconds: time taken to embed and compare, where measured.
        images_embedded: distinct images that went through the model (flips not counted), where known.
        set_notes: what was done to the set's images.
    """

    accuracy: float
    std: float | None
    fold_sizes: np.ndarray
    fold_accuracies: np.ndarray
    fold_thresholds: np.ndarray
    tar_at_far: dict[float, float]
    threshold_cos: dict[float, float]
    threshold_distance: dict[float, float]
    unsupported_fars: tuple[float, ...]
    best_accuracy: float
    best_threshold: float
    eer: float
    auc: float
    distances: np.ndarray = field(repr=False)
    issame: np.ndarray = field(repr=False)
    name: str | None = None
    seconds: float | None = None
    images_embedded: int | None = None
    set_notes: tuple[str, ...] = ()

    @property
    def pairs(self) -> int:
        """Number of pairs."""
        return len(self.issame)

    @property
    def scores(self) -> np.ndarray:
        """Each pair's cosine, float64 [pairs]."""
        return 1 - self.distances / 2

    @property
    def one_kind_folds(self) -> int:
        """Folds that hold genuine or impostor pairs only: there the other folds' threshold is chosen on an unequal mix,
        and the accuracy says nothing. LFW's View 1 lists its genuine pairs first."""
        return _one_kind_folds(self.issame, self.fold_sizes)

    @property
    def protocol(self) -> str:
        """What `accuracy` is: "10 folds", or "one threshold for all pairs"."""
        return ONE_THRESHOLD if self.std is None else f"{len(self.fold_sizes)} folds"

    @property
    def accuracy_percent(self) -> str:
        """The accuracy for people: "99.48 ± 0.32", and without folds "67.70"."""
        return f"{100 * self.accuracy:.2f}" + ("" if self.std is None else f" ± {100 * self.std:.2f}")

    @property
    def chosen_threshold_cos(self) -> float:
        """The cosine that `accuracy` was judged with; the mean of the folds'."""
        limit = self.best_threshold if self.std is None else float(np.mean(self.fold_thresholds))
        return 1 - limit / 2

    def notes(self) -> list[str]:
        """What somebody who reads the figures must know, a sentence each."""
        notes = list(self.set_notes)
        if self.unsupported_fars:
            notes.append(
                f"{int((~self.issame).sum()):,} impostor pairs cannot show a FAR of "
                f"{', '.join(map(far_name, self.unsupported_fars))}"
            )
        if self.std is None:
            why = "it has one fold"
            if len(self.fold_sizes) > 1:
                why = f"{self.one_kind_folds} of {len(self.fold_sizes)} folds would hold pairs of one kind"
            notes.append(f"accuracy is that of the best threshold for all pairs, since {why}")
        return notes + ([self.too_close] if self.too_close else [])

    @property
    def too_close(self) -> str | None:
        """A sentence where the protocol's thresholds cannot part the distances, else None."""
        if np.ptp(np.searchsorted(THRESHOLDS, self.distances, side="right")) > 0:
            return None
        return (
            f"all distances lie within one step of the protocol's thresholds ({THRESHOLDS[1] - THRESHOLDS[0]:g}), so "
            f"accuracy says nothing: the embeddings hardly differ from face to face; the AUC is {self.auc:.4f}"
        )

    def roc(self) -> RocCurve:
        """The whole ROC curve of this result."""
        return roc_curve(self.distances, self.issame)

    def to_dict(self) -> dict[str, Any]:
        """The result without its scores, as plain types for JSON; FARs become keys such as "1e-3"."""
        return {
            "set": self.name,
            "pairs": self.pairs,
            "genuine": int(self.issame.sum()),
            "impostor": int((~self.issame).sum()),
            "accuracy": self.accuracy,
            "std": self.std,
            "protocol": self.protocol,
            "notes": self.notes(),
            "fold_sizes": self.fold_sizes.tolist(),
            "fold_accuracies": self.fold_accuracies.tolist(),
            "fold_thresholds_distance": self.fold_thresholds.tolist(),
            "tar_at_far": {far_name(far): tar for far, tar in self.tar_at_far.items()},
            "threshold_cos": {far_name(far): value for far, value in self.threshold_cos.items()},
            "threshold_distance": {far_name(far): value for far, value in self.threshold_distance.items()},
            "unsupported_fars": [far_name(far) for far in self.unsupported_fars],
            "best_accuracy": self.best_accuracy,
            "one_kind_folds": self.one_kind_folds,
            "eer": self.eer,
            "auc": self.auc,
            "seconds": self.seconds,
            "images_embedded": self.images_embedded,
        }


def verify_pairs(
    embeddings: np.ndarray,
    issame: np.ndarray,
    *,
    folds: int | Sequence[int] = 10,
    fars: Sequence[float] = FARS,
    name: str | None = None,
) -> VerificationResult:
    """Judges pairs of embeddings by the k-fold protocol, or by one threshold where the set has no folds for it.

    Args:
        embeddings: float [2n, e], raw, flips already summed; pair i is rows 2i and 2i + 1. They are normalised here.
        issame: bool [n].
        folds: how many contiguous folds to cut the pairs into, in their order, as scikit-learn's KFold(folds,
            shuffle=False); or the size of each fold, where the set publishes its own. One published fold is none.
        fars: false accept rates to report the true accept rate at.
        name: the set's name, for the result and the errors.

    Raises:
        UsageError: a FAR that is not between 0 and 1.
        FacekdError: shapes that do not fit, fewer pairs than folds, pairs of one kind only, an embedding that is
            not finite or has no direction.
    """
    issame = np.asarray(issame, dtype=bool)
    if wrong := [far for far in fars if not 0 < far < 1]:
        raise UsageError(f"far {wrong[0]} is not a rate: give values between 0 and 1, such as 1e-3")
    label = f"{name}: " if name else ""
    if np.ndim(embeddings) != 2 or len(embeddings) != 2 * len(issame):
        raise FacekdError(
            f"{label}{len(issame)} pairs need embeddings of shape [{2 * len(issame)}, e]: got {np.shape(embeddings)}"
        )
    sizes = _fold_sizes(len(issame), folds, label)
    if issame.all() or not issame.any():
        kind = "genuine" if issame.all() else "impostor"
        raise FacekdError(f"{label}all {len(issame)} pairs are {kind}: verification needs both kinds")
    distances = pair_distances(embeddings, label=label)
    fold_accuracies, fold_thresholds, best_accuracy, best_threshold = k_fold_accuracy(distances, issame, folds=sizes)
    by_folds = len(sizes) > 1 and not _one_kind_folds(issame, sizes)

    impostors = np.sort(distances[~issame])
    genuine = distances[issame]
    supported = [far for far in fars if far * len(impostors) >= 1 - 1e-9]
    limits = {far: operating_point(impostors, far) for far in supported}
    curve = roc_curve(distances, issame)
    return VerificationResult(
        accuracy=float(fold_accuracies.mean()) if by_folds else best_accuracy,
        std=float(fold_accuracies.std()) if by_folds else None,
        fold_sizes=sizes,
        fold_accuracies=fold_accuracies,
        fold_thresholds=fold_thresholds,
        tar_at_far={far: float((genuine < limit).mean()) for far, limit in limits.items()},
        threshold_cos={far: 1 - limit / 2 for far, limit in limits.items()},
        threshold_distance=limits,
        unsupported_fars=tuple(far for far in fars if far not in limits),
        best_accuracy=best_accuracy,
        best_threshold=best_threshold,
        eer=equal_error_rate(curve),
        auc=area_under_curve(curve),
        distances=distances,
        issame=issame,
        name=name,
    )


def pair_distances(embeddings: np.ndarray, *, label: str = "") -> np.ndarray:
    """Squared L2 distances, float64 [n], of the normalised rows 2i and 2i + 1 of `embeddings` [2n, e].

    Raises:
        FacekdError: a row is not finite or is zero; the row is named, with `label` in front.
    """
    embeddings = np.asarray(embeddings, dtype=np.float64)
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0))
    if len(bad):
        value = "zero" if norms[bad[0], 0] == 0 else "not finite (NaN or infinite)"
        raise FacekdError(
            f"{label}{len(bad)} of {len(embeddings)} embeddings have no direction: that of image {bad[0]} is {value}; "
            "check the model and its input spec"
        )
    unit = embeddings / norms
    difference = unit[0::2] - unit[1::2]
    array: np.ndarray = np.einsum("ij,ij->i", difference, difference)
    return array


def k_fold_accuracy(
    distances: np.ndarray, issame: np.ndarray, *, folds: int | Sequence[int] | np.ndarray = 10
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Each fold's accuracy [folds], the threshold [folds] it was judged with, the best accuracy over all pairs at one
    threshold, and that threshold (the middle one of equals).

    A fold's threshold is the first of THRESHOLDS with the highest accuracy over the other folds. Counting is exact and
    O(pairs): a pair is accepted by every threshold greater than its distance, so a histogram of first accepting
    thresholds, accumulated, gives the accepted pairs of every threshold at once.
    """
    pairs = len(distances)
    sizes = _fold_sizes(pairs, folds, "")
    count = len(sizes)
    fold = np.repeat(np.arange(count), sizes)
    bins = len(THRESHOLDS) + 1
    first_accepting = np.searchsorted(THRESHOLDS, distances, side="right")

    def accepted(which: np.ndarray) -> np.ndarray:
        cells = np.bincount(fold[which] * bins + first_accepting[which], minlength=count * bins)
        return cells.reshape(count, bins).cumsum(axis=1)[:, :-1]

    impostors = np.bincount(fold[~issame], minlength=count)
    correct = accepted(issame) + impostors[:, None] - accepted(~issame)
    right = correct.sum(axis=0)
    best = np.flatnonzero(right == right.max())
    # Of a single fold nothing is left to choose on.
    chosen = (right - correct).argmax(axis=1) if count > 1 else best[:1]
    accuracies = correct[np.arange(count), chosen] / sizes
    return accuracies, THRESHOLDS[chosen], float(right.max() / pairs), float(THRESHOLDS[best[len(best) // 2]])


def _fold_sizes(pairs: int, folds: int | Sequence[int] | np.ndarray, label: str) -> np.ndarray:
    """Pairs in each fold, int64 [folds]."""
    if isinstance(folds, int):
        if folds < 2 or pairs < folds:
            raise FacekdError(f"{label}{pairs} pairs cannot be cut into {folds} folds: give at least as many pairs")
        # scikit-learn's KFold: the first `pairs % folds` folds hold one pair more.
        return np.array([pairs // folds + (number < pairs % folds) for number in range(folds)])
    sizes = np.asarray(folds, dtype=np.int64)
    if len(sizes) == 0 or sizes.min() < 1 or sizes.sum() != pairs:
        raise FacekdError(f"{label}folds of {sizes.tolist()[:12]} pairs are not those of {pairs} pairs")
    return sizes


def _one_kind_folds(issame: np.ndarray, sizes: np.ndarray) -> int:
    cut = np.split(issame, np.cumsum(sizes)[:-1])
    return sum(1 for part in cut if part.all() or not part.any())


def far_name(far: float) -> str:
    """A rate as people write it: 0.001 -> "1e-3", 0.05 -> "5e-2"."""
    mantissa, exponent = f"{far:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
