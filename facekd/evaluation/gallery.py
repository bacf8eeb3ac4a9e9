"""Strangers before a gallery: how often is somebody named who is not enrolled (FPIR), and which threshold keeps it?

A stranger is compared with every sample of the gallery. At a threshold with false accept rate FAR, N samples name a
stranger at a rate of at most N * FAR whatever the scores depend on (the union bound), so a promised FPIR needs the
threshold of FAR = FPIR / N.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.evaluation.templates import normalise
from facekd.schemas.calibration import Calibration

GROUPS = 20
STUDENT_T = 2.09
"""Of the jackknife's interval: 95 % of Student's t with GROUPS - 1 degrees of freedom lies within this."""
PROMISES = (1e-1, 1e-2, 1e-3)
MOST_PEOPLE = 3_000
"""People of whom galleries are made; of more, so many are drawn, which bounds the memory."""


@dataclass(frozen=True)
class GalleryRate:
    """What a threshold promises and does for one size of gallery.

    Attributes:
        people: enrolled, one sample each.
        promised: the FPIR that was asked for.
        far: promised / people.
        threshold_cos: of that rate; None where the table of thresholds ends before it, and all that follows is None.
        promised_low, promised_high: 95 % interval of the FPIR that the calibration leaves open: people times FAR's.
        fpir: measured: share of the searches of a stranger that name somebody, over all galleries of this size.
        fpir_low, fpir_high: 95 % interval of it, by a jackknife over identities; None where nearly all are enrolled.
        found: share of the comparisons of an enrolled person with their own sample that are accepted.
        strangers: identities searched.
    """

    people: int
    promised: float
    far: float
    threshold_cos: float | None = None
    promised_low: float | None = None
    promised_high: float | None = None
    fpir: float | None = None
    fpir_low: float | None = None
    fpir_high: float | None = None
    found: float | None = None
    strangers: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain types for JSON."""
        return asdict(self)


def measure_galleries(
    embeddings: np.ndarray,
    identities: np.ndarray,
    calibration: Calibration,
    *,
    sizes: Sequence[int],
    promises: Sequence[float] = PROMISES,
    seed: int = 0,
) -> list[GalleryRate]:
    """Enrols `sizes` people at a time and searches everybody else; the mean over every possible gallery, not a sample.

    Each person is enrolled with one image, drawn by `seed`. If k of the M - 1 other people's samples score above the
    threshold for a stranger, a gallery of N of them names the stranger with probability
    1 - C(M - 1 - k, N) / C(M - 1, N): none of the N is among the k.

    Args:
        embeddings: float [n, e], flips added; of people that the calibration has not seen.
        identities: int [n]; of more than MOST_PEOPLE, so many are drawn by `seed`.
        calibration: the thresholds that are put to the test.
        sizes: N, people enrolled.
        promises: FPIRs.
        seed: of the enrolled images and the jackknife's groups.

    Raises:
        UsageError: a size that leaves no stranger, or a promise that is no rate.
        FacekdError: an embedding has no direction.
    """
    random = np.random.default_rng(seed)
    people = np.unique(identities)
    if len(people) > MOST_PEOPLE:
        kept = np.isin(identities, random.choice(people, MOST_PEOPLE, replace=False))
        embeddings, identities = embeddings[kept], identities[kept]
    people, person = np.unique(identities, return_inverse=True)
    count = len(people)
    if wrong := [size for size in sizes if not 1 <= size < count]:
        raise UsageError(
            f"a gallery of {wrong[0]} of {count} people: give 1 to {count - 1}, so that strangers are left"
        )
    if bad := [promise for promise in promises if not 0 < promise < 1]:
        raise UsageError(f"FPIR {bad[0]:g} is not a rate: give values between 0 and 1, such as 1e-2")
    unit = normalise(np.asarray(embeddings, dtype=np.float32), what="image")
    enrolled = np.array([random.choice(np.flatnonzero(person == number)) for number in range(count)])
    scores = unit @ unit[enrolled].T  # [n, M]
    own = person[:, None] == np.arange(count)[None, :]
    probes = np.ones(len(unit), dtype=bool)
    probes[enrolled] = False  # an image is never compared with itself
    mates = scores[own & probes[:, None]]
    strangers = np.where(own, -np.inf, scores)
    order = random.permutation(count)
    rates = []
    for size in sizes:
        for promise in promises:
            rate = GalleryRate(size, promise, promise / size)
            chosen = calibration.threshold_for(rate.far)
            if chosen is None:
                rates.append(rate)
                continue
            named = strangers > chosen.threshold_cos
            fpir = float(named_rate(named.sum(axis=1), count - 1, size).mean())
            low, high = _interval(named, person, size, order) or (None, None)
            rates.append(
                GalleryRate(
                    people=size,
                    promised=promise,
                    far=rate.far,
                    threshold_cos=chosen.threshold_cos,
                    promised_low=min(size * chosen.far_low, 1.0),
                    promised_high=min(size * chosen.far_high, 1.0),
                    fpir=fpir,
                    fpir_low=low,
                    fpir_high=high,
                    found=float((mates > chosen.threshold_cos).mean()) if len(mates) else None,
                    strangers=count - size,
                )
            )
    return rates


def named_rate(above: np.ndarray, others: int, size: int) -> np.ndarray:
    """Share of the galleries of `size` out of `others` people that hold one of the `above` people, float64 [n].

    Args:
        above: int [n], people that score above the threshold.
        others: people that can be enrolled.
        size: of the gallery.
    """
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, others + 1)))])
    left = others - above
    possible = left >= size
    left = np.where(possible, left, size)
    none = log_factorial[left] - log_factorial[left - size] - log_factorial[others] + log_factorial[others - size]
    return np.where(above == 0, 0.0, np.where(possible, -np.expm1(none), 1.0))


def _interval(named: np.ndarray, person: np.ndarray, size: int, order: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the FPIR by a jackknife that leaves out a group of the people at a time, both as strangers and
    as those enrolled. None where a gallery of `size` needs the people of every group.

    The FPIR of fewer people has the same expected value, which that of people drawn with replacement has not: copies of
    one person make a smaller gallery of it.
    """
    count = named.shape[1]
    groups = np.array_split(order, min(GROUPS, count))
    if count - len(groups[0]) <= size:
        return None
    without = []
    for group in groups:
        kept = np.ones(count, dtype=bool)
        kept[group] = False
        rows = kept[person]
        above = named[rows][:, kept].sum(axis=1)
        without.append(float(named_rate(above, int(kept.sum()) - 1, size).mean()))
    rates = np.array(without)
    deviation = float(np.sqrt((len(rates) - 1) / len(rates) * ((rates - rates.mean()) ** 2).sum()))
    mean = float(named_rate(named.sum(axis=1), count - 1, size).mean())
    return max(mean - STUDENT_T * deviation, 0.0), min(mean + STUDENT_T * deviation, 1.0)


def split_people(identities: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a random half of the people, and rows of the other half.

    Raises:
        FacekdError: fewer than four people.
    """
    people = np.unique(identities)
    if len(people) < 4:
        raise FacekdError(f"{len(people)} people cannot be halved into two sets: give at least 4")
    chosen = np.random.default_rng(seed).permutation(people)[: len(people) // 2]
    first = np.isin(identities, chosen)
    return np.flatnonzero(first), np.flatnonzero(~first)
