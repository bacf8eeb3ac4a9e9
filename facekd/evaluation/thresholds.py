"""Thresholds in a bundle's card: written by an evaluation, read by whoever must decide about one pair."""

import math
from collections.abc import Sequence
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.common.writing import atomic_file
from facekd.evaluation.verification import VerificationResult, far_name
from facekd.models.readme import write_readme
from facekd.schemas.card import CARD_FILE, Card, Threshold, read_card


def save_thresholds(bundle: Path, results: Sequence[VerificationResult]) -> Card:
    """Writes the results' thresholds into the bundle's card (and README), in place of those of the same data sets.

    The weights and their hash are not touched. The card is replaced whole or not at all.
    """
    card = read_card(bundle)
    measured = [
        Threshold(far=far, threshold_cos=threshold, dataset=str(result.name))
        for result in results
        for far, threshold in result.threshold_cos.items()
    ]
    datasets = {threshold.dataset for threshold in measured}
    kept = [threshold for threshold in card.thresholds if threshold.dataset not in datasets]
    card = card.model_copy(update={"thresholds": kept + measured})
    with atomic_file(bundle / CARD_FILE, overwrite=True) as file:
        file.write((card.as_json(indent=2) + "\n").encode())
    write_readme(bundle / "README.md", card)
    return card


def find_threshold(card: Card, far: float, *, bundle: Path) -> Threshold:
    """The card's threshold for a FAR; where several data sets gave one, the strictest (facekd's choice).

    Raises:
        UsageError: the card has none for this FAR; says which it has, or how to measure them.
    """
    if not card.thresholds:
        raise UsageError(
            f"{bundle} has no measured thresholds: run `facekd evaluate {bundle} --pairs SET --save-thresholds` first"
        )
    at_far = [threshold for threshold in card.thresholds if math.isclose(threshold.far, far, rel_tol=1e-6)]
    if not at_far:
        known = ", ".join(far_name(value) for value in sorted({t.far for t in card.thresholds}, reverse=True))
        raise UsageError(f"{bundle} has no threshold measured at FAR {far_name(far)}: it has {known}")
    return max(at_far, key=lambda threshold: threshold.threshold_cos)
