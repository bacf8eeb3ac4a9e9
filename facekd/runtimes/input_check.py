"""Whether a model is fed as it was trained, judged on faces: the way it is fed against the other usual ways.

A model that is fed BGR for RGB, or pixels in another unit, still gives embeddings, only worse ones. So embeddings of
one person must be nearer than those of two, and no other usual way of feeding may separate people clearly better.

The statistic (facekd's choice). For a way of feeding, z of a pair of one person is its cosine, less the mean cosine of
two people, over the standard deviation of those; `separation` is the mean of z. Two ways are compared by the paired t
of z over the same pairs, turned into a normal deviate (Wallace 1959): another way is better where that exceeds CLEARLY
and the separation grows by LEAST_GAIN. Two stages keep it cheap: FIRST_PAIRS for all ways, and only where one of them
looks better, MOST_PAIRS for it and its nearest rivals.

The margin. On EdgeFace-XS and on a MobileFaceNet, 128 pairs of CelebA and of LFW each, drawn 40 times: the right way
against BGR 6.0 or more, against x / 255, the nearest normalisation, 3.3 or more, against the others 8.8 or more. So a
wrong way never came above -3.3, a right one never below 6.0 where it is to be named, and 4 is far from both.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facekd.schemas.input_spec import StatedInput

FIRST_PAIRS, MOST_PAIRS = 24, 128
FEWEST_PAIRS = 8
CLEARLY = 4.0
"""Standard errors by which another way must be better."""
LEAST_GAIN = 0.02
RIVALS = 3
"""Ways that the second stage looks at."""
LEAST_SEPARATION = 1.0
"""Below it a way does not tell people apart, so it is not worth proposing."""


@dataclass(frozen=True)
class Feeding:
    """A way to feed a model, or another of its outputs.

    Attributes:
        words: for people: "BGR, (x - 127.5) / 127.5".
        stated: what a person states to get it.
        embed: uint8 RGB images [n, 3, h, w] -> embeddings [n, e].
    """

    words: str
    stated: StatedInput
    embed: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Better:
    """Another way that separates people clearly better.

    Attributes:
        now, better: the ways' words.
        stated: what a person states to get the better one.
        separation_now, separation_better: see the module.
        deviate: by how many standard errors.
        pairs: how many there were.
    """

    now: str
    better: str
    stated: StatedInput
    separation_now: float
    separation_better: float
    deviate: float
    pairs: int


@dataclass(frozen=True)
class Verdict:
    """What came out: the separation as the model is fed, and what is wrong with it, if anything is.

    Attributes:
        separation: of the first way; None where there were too few pairs.
        probabilities: its rows look like a Softmax's.
        better: another way.
    """

    separation: float | None = None
    probabilities: bool = False
    better: Better | None = None


def judge(ways: Sequence[Feeding], read: Callable[[int], np.ndarray], *, tell: Callable[[str], None]) -> Verdict:
    """Compares the first way with the others.

    Args:
        ways: how the model is fed, then how else it could be.
        read: a number of pairs -> that many or fewer, uint8 RGB [2n, 3, h, w]; rows 2i and 2i + 1 are one person's.
        tell: told what is being tried, once a way.
    """
    images = read(FIRST_PAIRS)
    if len(images) < 2 * FEWEST_PAIRS:
        return Verdict()

    def scores_of(way: Feeding) -> np.ndarray:
        tell(way.words)
        return pair_scores(way.embed(images))

    tell(ways[0].words)
    embeddings = ways[0].embed(images)
    probabilities = _are_probabilities(embeddings)
    now = pair_scores(embeddings)
    others = [(way, scores_of(way)) for way in ways[1:]]
    better = [(way, scores) for way, scores in others if scores.mean() > max(now.mean(), LEAST_SEPARATION)]
    if better:
        better = sorted(better, key=lambda entry: -entry[1].mean())[:RIVALS]
        images = read(MOST_PAIRS)
        now = scores_of(ways[0])
        way, scores = max(((way, scores_of(way)) for way, _ in better), key=lambda entry: entry[1].mean())
        by = deviate(scores - now)
        if by > CLEARLY and scores.mean() > (1 + LEAST_GAIN) * max(now.mean(), 0.0):
            found = Better(
                ways[0].words, way.words, way.stated, float(now.mean()), float(scores.mean()), by, len(scores)
            )
            return Verdict(float(now.mean()), probabilities, found)
    return Verdict(float(now.mean()), probabilities)


def pair_scores(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings [2n, e], rows 2i and 2i + 1 of one person -> z of each pair, float64 [n] (see the module).

    The cosines of two people are those between all rows of different pairs. Embeddings without a direction count 0.
    """
    rows = embeddings.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        units = np.nan_to_num(np.where(lengths > 0, rows / lengths, 0.0))
    cosines = units @ units.T
    person = np.arange(len(rows)) // 2
    two = cosines[person[:, None] < person[None, :]]
    genuine = cosines[np.arange(0, len(rows), 2), np.arange(1, len(rows), 2)]
    z: np.ndarray = (genuine - two.mean()) / max(float(two.std()), 1e-9)
    return z


def deviate(differences: np.ndarray) -> float:
    """The t statistic of paired differences [n] as a normal deviate of nearly the same tail (Wallace 1959)."""
    freedom = len(differences) - 1
    spread = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    t = float(differences.mean()) / max(spread, 1e-12)
    size = (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
    return math.copysign(size, t)


def _are_probabilities(embeddings: np.ndarray) -> bool:
    """Whether every row is non-negative and sums to 1."""
    rows = embeddings.astype(np.float64)
    return rows.shape[1] > 1 and bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=2e-2))
