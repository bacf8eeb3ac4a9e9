"""1:N: who is it? Closed set (rank k), open set (TPIR at FPIR) and MegaFace, searched in blocks of bounded memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError
from facekd.evaluation.templates import normalise

BLOCK_BYTES = 256 << 20
"""Size of a block of scores, and of a block of gallery features."""


@dataclass(frozen=True)
class Search:
    """What a search of every probe in a gallery found.

    Attributes:
        mate: float32 [p], the highest score of an entry of the probe's own subject; -inf where the gallery has none.
        above: int64 [p], entries of other subjects that score at least as high as the mate (ties count against).
        top_other: float32 [p], the highest score of an entry of another subject.
        mated: bool [p], whether the gallery has the probe's subject.
    """

    mate: np.ndarray
    above: np.ndarray
    top_other: np.ndarray
    mated: np.ndarray

    def rank_rate(self, rank: int) -> float:
        """Share of the mated probes whose mate is among the first `rank`."""
        return float((self.above[self.mated] < rank).mean())


def search(gallery: np.ndarray, gallery_subjects: np.ndarray, probes: np.ndarray, probe_subjects: np.ndarray) -> Search:
    """Compares every probe with every gallery entry.

    Args:
        gallery: float [g, e]; may be memory-mapped, is normalised block by block.
        gallery_subjects: int64 [g]; negative ones are nobody's (distractors).
        probes: float [p, e]; normalised here.
        probe_subjects: int64 [p], 0 or more.
    """
    probes = normalise(np.asarray(probes, dtype=np.float32), what="probe")
    order = np.argsort(gallery_subjects, kind="stable")
    ordered = gallery_subjects[order]
    first, last = (np.searchsorted(ordered, probe_subjects, side=side) for side in ("left", "right"))
    mated = last > first
    mates = [order[a:b] for a, b in zip(first, last, strict=True)]
    mate = np.full(len(probes), -np.inf, dtype=np.float32)
    for i in np.flatnonzero(mated):
        mate[i] = (normalise(np.asarray(gallery[np.sort(mates[i])], dtype=np.float32)) @ probes[i]).max()
    above = np.zeros(len(probes), dtype=np.int64)
    top_other = np.full(len(probes), -np.inf, dtype=np.float32)
    for start, block in _blocks(gallery):
        for rows in _probe_slices(len(probes), len(block)):
            scores = probes[rows] @ block.T
            for i in np.flatnonzero(mated[rows]):
                own = mates[rows.start + i] - start
                scores[i, own[(own >= 0) & (own < len(block))]] = -np.inf
            above[rows] += (scores >= mate[rows, None]).sum(axis=1)
            top_other[rows] = np.maximum(top_other[rows], scores.max(axis=1))
    above[~mated] = len(gallery)
    return Search(mate, above, top_other, mated)


@dataclass(frozen=True)
class Identification:
    """Attributes:
    ranks: k -> share of mated probes found among the first k.
    tpir: FPIR -> share of mated probes found at rank 1 above the threshold.
    threshold_cos: FPIR -> that threshold (a candidate must score more).
    unsupported_fpirs: rates below 1 / non-mated probes: too few to measure them.
    mated, non_mated, gallery: how many.
    """

    ranks: dict[int, float]
    tpir: dict[float, float]
    threshold_cos: dict[float, float]
    unsupported_fpirs: tuple[float, ...]
    mated: int
    non_mated: int
    gallery: int


def identify(
    gallery: np.ndarray,
    gallery_subjects: np.ndarray,
    probes: np.ndarray,
    probe_subjects: np.ndarray,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    fpirs: Sequence[float] = (1e-2, 1e-1),
) -> Identification:
    """Closed-set ranks, and open-set rates where there are probes without a mate.

    A threshold is the loosest at which at most the share FPIR of the non-mated probes has any candidate above it: the
    top score of the first that must stay out (a step search, as everywhere here; acceptance is strict).
    """
    found = search(gallery, gallery_subjects, probes, probe_subjects)
    if not found.mated.any():
        raise FacekdError("no probe's person is in the gallery: probes and gallery do not belong together")
    strangers = np.sort(found.top_other[~found.mated])[::-1]
    hit = found.mated & (found.above == 0)
    tpir, limits = {}, {}
    for fpir in fpirs:
        allowed = int(fpir * len(strangers) * (1 + 1e-9))
        if 1 <= allowed < len(strangers):
            limits[fpir] = float(strangers[allowed])
            tpir[fpir] = float((hit & (found.mate > limits[fpir])).sum() / found.mated.sum())
    return Identification(
        ranks={rank: found.rank_rate(rank) for rank in ranks},
        tpir=tpir,
        threshold_cos=limits,
        unsupported_fpirs=tuple(fpir for fpir in fpirs if fpir not in limits),
        mated=int(found.mated.sum()),
        non_mated=len(strangers),
        gallery=len(gallery),
    )


@dataclass(frozen=True)
class MegaFaceResult:
    """Attributes:
    rank1: share of the ordered pairs (i in the gallery, j searched) of one person in which i beats all distractors.
    tar: of genuine pairs accepted at `far`; None where the impostor pairs are too few to measure it.
    threshold_cos: accept if score > this.
    genuine, impostor: pairs of 1:1, all of one person, and every probe with every distractor.
    """

    rank1: float
    far: float
    tar: float | None
    threshold_cos: float | None
    genuine: int
    impostor: int


def megaface(
    probes: np.ndarray,
    subjects: np.ndarray,
    distractors: np.ndarray,
    *,
    far: float = 1e-6,
    advance: Callable[[int], Any] = lambda done: None,
) -> MegaFaceResult:
    """MegaFace challenge 1, both protocols in one pass over the distractors.

    Args:
        probes: float [p, e].
        subjects: int [p].
        distractors: float [d, e]; may be memory-mapped.
        far: for verification.
        advance: told how many distractors were compared, after each block.
    """
    probes = normalise(np.asarray(probes, dtype=np.float32), what="probe")
    impostor = len(probes) * len(distractors)
    allowed = int(far * impostor * (1 + 1e-9))
    top = np.full(len(probes), -np.inf, dtype=np.float32)
    highest = np.empty(0, dtype=np.float32)  # the allowed + 1 highest impostor scores so far
    for _, block in _blocks(distractors):
        for rows in _probe_slices(len(probes), len(block)):
            scores = probes[rows] @ block.T
            top[rows] = np.maximum(top[rows], scores.max(axis=1))
            if allowed >= 1:
                floor = highest.min() if len(highest) > allowed else -np.inf
                highest = np.concatenate([highest, scores[scores > floor]])
                if len(highest) > allowed + 1:
                    highest = np.partition(highest, -allowed - 1)[-allowed - 1 :]
        advance(len(block))
    won = pairs = 0
    genuine = []
    for subject in np.unique(subjects):
        own = np.flatnonzero(subjects == subject)
        scores = probes[own] @ probes[own].T
        searched = ~np.eye(len(own), dtype=bool)
        won += int(((scores > top[own][None, :]) & searched).sum())
        pairs += int(searched.sum())
        genuine.append(scores[np.triu(searched, 1)])
    if pairs == 0:
        raise FacekdError("no person has two probe images: there is nothing to find")
    same = np.concatenate(genuine)
    limit = float(highest.min()) if 1 <= allowed < impostor else None
    tar = None if limit is None else float((same > limit).mean())
    return MegaFaceResult(won / pairs, far, tar, limit, len(same), impostor)


def _blocks(features: np.ndarray) -> Any:
    """(start, normalised float32 block) over rows of a gallery that may lie on disk."""
    step = max(1, min(BLOCK_BYTES // (4 * features.shape[1]), 1 << 15))
    for start in range(0, len(features), step):
        yield start, normalise(np.array(features[start : start + step], dtype=np.float32), what="gallery row")


def _probe_slices(probes: int, entries: int) -> list[slice]:
    """Rows of probes whose scores against `entries` fit into a block."""
    step = max(1, BLOCK_BYTES // (4 * entries))
    return [slice(start, min(start + step, probes)) for start in range(0, probes, step)]
