"""Thresholds of a model, in a bundle's card or an artefact's manifest: written once measured, read to decide."""

import math
from collections.abc import Sequence
from pathlib import Path

from facekd.common.errors import UsageError
from facekd.common.writing import atomic_file
from facekd.evaluation.verification import VerificationResult, far_name
from facekd.models.readme import write_readme
from facekd.schemas.calibration import Calibration
from facekd.schemas.card import CARD_FILE, Card, Threshold, read_card
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest, write_manifest


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


def save_calibration(model: Path, calibration: Calibration) -> Path:
    """Writes a table of thresholds into a bundle's card or an artefact's manifest, in place of the one there.

    The model's file and its hash are not touched. Returns the file written.

    Raises:
        UsageError: the model is neither a bundle nor an artefact, so it has no place for the table.
    """
    if (model / MANIFEST_FILE).is_file():
        write_manifest(model, read_manifest(model).model_copy(update={"calibration": calibration}))
        return model / MANIFEST_FILE
    if not (model / CARD_FILE).is_file():
        raise UsageError(
            f"--save writes into a bundle's {CARD_FILE} or an artefact's {MANIFEST_FILE}: {model} has none"
        )
    card = read_card(model).model_copy(update={"calibration": calibration})
    with atomic_file(model / CARD_FILE, overwrite=True) as file:
        file.write((card.as_json(indent=2) + "\n").encode())
    return model / CARD_FILE


def read_calibration(model: Path) -> Calibration | None:
    """The table of thresholds in a bundle's card or an artefact's manifest; None where there is none."""
    if (model / MANIFEST_FILE).is_file():
        return read_manifest(model).calibration
    return read_card(model).calibration if (model / CARD_FILE).is_file() else None


def find_threshold(card: Card, far: float, *, bundle: Path) -> Threshold:
    """The card's threshold for a FAR; where several data sets gave one, the strictest (facekd's choice). A FAR that no
    list of pairs measured is looked up in the calibration.

    Raises:
        UsageError: the card has none for this FAR; says which it has, or how to measure them.
    """
    if not card.thresholds and card.calibration is None:
        raise UsageError(
            f"{bundle} has no measured thresholds: run `facekd evaluate {bundle} --pairs SET --save-thresholds` first"
        )
    at_far = [threshold for threshold in card.thresholds if math.isclose(threshold.far, far, rel_tol=1e-6)]
    if not at_far and card.calibration is not None and (entry := card.calibration.threshold_for(far)) is not None:
        return Threshold(far=entry.far, threshold_cos=entry.threshold_cos, dataset=card.calibration.faces)
    if not at_far:
        known = ", ".join(far_name(value) for value in sorted({t.far for t in card.thresholds}, reverse=True))
        if card.calibration is not None:
            known += f"{' and ' if known else ''}1e-2 to {far_name(card.calibration.lowest_far)}"
        raise UsageError(f"{bundle} has no threshold measured at FAR {far_name(far)}: it has {known}")
    return max(at_far, key=lambda threshold: threshold.threshold_cos)
