"""Thresholds for false accept rates down to the lowest that the faces at hand support, with intervals.

All pairs of images of two people are impostor pairs, so a few hundred people give rates that a list of pairs never
reaches. Pairs that share a person depend on each other: intervals come from a bootstrap over identities, not pairs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.evaluation.templates import normalise
from facekd.schemas.calibration import CalibratedThreshold, Calibration

RATES = tuple(10 ** (-2 - step / 10) for step in range(71))
"""False accept rates of the table: from 1e-2 down to 1e-9, ten to a decade (facekd's choice)."""

FEWEST_ABOVE = 30
"""Impostor pairs that must score above a threshold. The rule of 30 (Doddington et al., "The NIST speaker recognition
evaluation", 2000): with fewer errors a rate is known to no better than 30 % either way."""

REPLICATES = 200
METHOD = f"95 % of {REPLICATES} bootstrap replicates over identities; at least {FEWEST_ABOVE} impostor pairs above"
_BLOCK_SCORES = 1 << 23
_Scored = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class ImpostorTail:
    """The highest scores of a set of faces with themselves.

    Attributes:
        scores: float32 [t], by falling value.
        first, second: int64 [t], the two images of each.
        pairs: impostor pairs in all, of which these are the highest.
    """

    scores: np.ndarray
    first: np.ndarray
    second: np.ndarray
    pairs: int

    def count_above(self, threshold: float) -> int:
        """How many impostor pairs score more than `threshold`."""
        return int(np.searchsorted(-self.scores, -threshold, side="left"))


def impostor_tail(
    embeddings: np.ndarray,
    identities: np.ndarray,
    *,
    share: float = RATES[0],
    advance: Callable[[int], Any] = lambda images: None,
) -> ImpostorTail:
    """The highest `share` of the scores of all pairs of images of two people; memory is bounded by it.

    Args:
        embeddings: float [n, e]; normalised here.
        identities: int [n].
        share: of the pairs, 0 to 1.
        advance: told how many images were compared with all others, after each block.

    Raises:
        FacekdError: there are not two people, or an embedding has no direction.
    """
    unit = normalise(np.asarray(embeddings, dtype=np.float32), what="image")
    count = len(unit)
    sizes = np.unique(identities, return_counts=True)[1].astype(np.int64)
    pairs = int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    if pairs == 0:
        raise FacekdError("all faces are of one person: a false accept rate needs at least two")
    wanted = int(share * pairs * (1 + 1e-9)) + 1  # one more: the first that must stay out
    kept: _Scored = np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64)
    floor = np.float32(-np.inf)
    step = max(1, _BLOCK_SCORES // count)
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        scores = unit[rows] @ unit[start:].T
        columns = np.arange(start, count)
        valid = (columns[None, :] > rows[:, None]) & (identities[None, columns] != identities[rows, None])
        row, column = np.nonzero(valid & (scores >= floor))
        found = scores[row, column], rows[row], columns[column]
        kept = _joined(kept, found)
        if len(kept[0]) > 2 * wanted:
            highest = np.argpartition(-kept[0], wanted)[:wanted]
            kept = kept[0][highest], kept[1][highest], kept[2][highest]
            floor = kept[0].min()
        advance(len(rows))
    order = np.argsort(-kept[0], kind="stable")[:wanted]
    return ImpostorTail(kept[0][order], kept[1][order], kept[2][order], pairs)


def _joined(kept: _Scored, found: _Scored) -> _Scored:
    return (
        np.concatenate([kept[0], found[0]]),
        np.concatenate([kept[1], found[1]]),
        np.concatenate([kept[2], found[2]]),
    )


def calibrate(
    embeddings: np.ndarray,
    identities: np.ndarray,
    *,
    faces: str,
    fingerprint: str,
    seed: int = 0,
    advance: Callable[[int], Any] = lambda images: None,
) -> Calibration:
    """Thresholds for RATES, as far as the faces support them.

    A threshold is the loosest at which at most the share `far` of the impostor pairs scores above it (a step search;
    acceptance is strict).

    Args:
        embeddings: float [n, e], flips added as wherever a threshold is used.
        identities: int [n].
        faces, fingerprint: of the source, for the table.
        seed: of the bootstrap.
        advance: see impostor_tail.

    Raises:
        FacekdError: too few faces for even the highest rate; says how many pairs they have.
    """
    tail = impostor_tail(embeddings, identities, advance=advance)
    rates = [far for far in RATES if int(far * tail.pairs * (1 + 1e-9)) >= FEWEST_ABOVE]
    if not rates:
        raise FacekdError(
            f"{faces} has {tail.pairs:,} pairs of two people: a rate of {RATES[0]:g} needs "
            f"{int(FEWEST_ABOVE / RATES[0]):,}, so give more people"
        )
    limits = [float(tail.scores[int(far * tail.pairs * (1 + 1e-9))]) for far in rates]
    counts = np.array([tail.count_above(limit) for limit in limits])
    replicates = np.array([*_resampled_rates(tail, identities, counts, seed)])
    low, high = np.quantile(replicates, (0.025, 0.975), axis=0)
    return Calibration(
        faces=faces,
        fingerprint=fingerprint,
        images=len(identities),
        identities=len(np.unique(identities)),
        impostor_pairs=tail.pairs,
        method=METHOD,
        thresholds=[
            CalibratedThreshold(far=far, threshold_cos=limit, far_low=float(bottom), far_high=min(float(top), 1.0))
            for far, limit, bottom, top in zip(rates, limits, low, high, strict=True)
        ],
    )


def _resampled_rates(tail: ImpostorTail, identities: np.ndarray, counts: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """The false accept rates [thresholds] of people drawn with replacement, a replicate at a time.

    A pair counts as often as both its people were drawn together: the product of their draws.
    """
    people, person, sizes = np.unique(identities, return_inverse=True, return_counts=True)
    first, second = person[tail.first], person[tail.second]
    random = np.random.default_rng(seed)
    for _ in range(REPLICATES):
        drawn = np.bincount(random.integers(0, len(people), len(people)), minlength=len(people))
        images = drawn * sizes
        pairs = (int(images.sum()) ** 2 - int((images**2).sum())) / 2
        if pairs == 0:
            continue
        above = np.concatenate([[0], np.cumsum(drawn[first] * drawn[second])])
        yield above[counts] / pairs
