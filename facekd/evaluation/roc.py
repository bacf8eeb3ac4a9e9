"""The ROC curve of a set of pairs, and what is read from it: an operating point, the equal error rate, the area."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RocCurve:
    """Every distinct operating point, from accepting nothing to accepting everything.

    Attributes:
        far: float64 [k], false accept rate, non-decreasing from 0 to 1.
        tar: float64 [k], true accept rate, non-decreasing from 0 to 1.
        threshold_distance: float64 [k], a pair is accepted if its squared distance is smaller; the last is infinite.
    """

    far: np.ndarray
    tar: np.ndarray
    threshold_distance: np.ndarray

    @property
    def frr(self) -> np.ndarray:
        """False reject rate, 1 - tar: the vertical axis of a DET plot."""
        return 1 - self.tar


def roc_curve(distances: np.ndarray, issame: np.ndarray) -> RocCurve:
    """The curve of squared distances [n] and labels [n]; both kinds of pair must be present.

    Pairs of equal distance are accepted together: they make one step, so duplicates need no special care later.
    """
    order = np.argsort(distances, kind="stable")
    ordered, genuine = distances[order], issame[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    true_accepts = np.concatenate([[0], np.cumsum(genuine)[ends]])
    false_accepts = np.concatenate([[0], np.cumsum(~genuine)[ends]])
    # Strict acceptance: to let in everything up to one distance, the threshold is the next greater one.
    threshold = np.append(ordered[ends], np.inf)
    return RocCurve(
        far=false_accepts / false_accepts[-1], tar=true_accepts / true_accepts[-1], threshold_distance=threshold
    )


def operating_point(impostor_distances: np.ndarray, far: float) -> float:
    """The loosest threshold (squared distance) at which at most the share `far` of impostors is accepted.

    Args:
        impostor_distances: float64 [n], sorted ascending.
        far: 1 / n <= far < 1.

    A step search (facekd's choice): the distance of the first impostor that must be refused. With acceptance strict,
    all impostors that share that distance are refused with it, so duplicates can only lower the rate, never raise it.
    """
    # The factor keeps 0.001 * 3000 from being cut to 2 by rounding.
    allowed = int(far * len(impostor_distances) * (1 + 1e-9))
    return float(impostor_distances[allowed])


def equal_error_rate(curve: RocCurve) -> float:
    """Where the false accept rate meets the false reject rate, linear between the two points that enclose it."""
    gap = curve.far - curve.frr
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(curve.far[before] + share * (curve.far[after] - curve.far[before]))


def area_under_curve(curve: RocCurve) -> float:
    """Area under the ROC curve by trapezoids: the chance that a genuine pair is nearer than an impostor one."""
    return float(np.sum(np.diff(curve.far) * (curve.tar[1:] + curve.tar[:-1]) / 2))
