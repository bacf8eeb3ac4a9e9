"""How a model differs between groups of people (RFW): each group's accuracy, their spread, one threshold for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facekd.common.errors import UsageError
from facekd.evaluation.roc import operating_point
from facekd.evaluation.verification import VerificationResult


@dataclass(frozen=True)
class GroupRates:
    """Error rates of each group at one threshold, chosen over the impostor pairs of all groups together.

    Attributes:
        far: asked for, over all.
        threshold_cos: accept if cosine > this.
        false_match: group -> share of its impostor pairs accepted.
        false_non_match: group -> share of its genuine pairs refused.
    """

    far: float
    threshold_cos: float
    false_match: dict[str, float]
    false_non_match: dict[str, float]


@dataclass(frozen=True)
class Fairness:
    """Attributes:
    accuracies: group -> accuracy of the 10-fold protocol.
    mean: of the groups.
    std: of the groups, with n - 1, as RFW's figures are published.
    skewed_error_ratio: highest error over lowest error; None where a group has no error.
    rates: at one threshold for all, what a deployed system has: one an asked rate that the pairs can show.
    """

    accuracies: dict[str, float]
    mean: float
    std: float
    skewed_error_ratio: float | None
    rates: list[GroupRates]


def compare_groups(results: Mapping[str, VerificationResult], *, fars: Sequence[float] = (1e-2, 1e-3)) -> Fairness:
    """Compares groups by their verification results.

    Args:
        results: group -> its result; at least two.
        fars: see GroupRates.
    """
    if len(results) < 2:
        raise UsageError(f"{len(results)} group(s): give at least two to compare")
    accuracies = {group: result.accuracy for group, result in results.items()}
    values = np.array(list(accuracies.values()))
    errors = 1 - values
    impostors = np.sort(np.concatenate([result.distances[~result.issame] for result in results.values()]))
    rates = []
    for far in fars:
        if far * len(impostors) < 1 - 1e-9:
            continue
        limit = operating_point(impostors, far)
        accepted = {group: result.distances < limit for group, result in results.items()}
        rates.append(
            GroupRates(
                far=far,
                threshold_cos=1 - limit / 2,
                false_match={g: float(accepted[g][~r.issame].mean()) for g, r in results.items()},
                false_non_match={g: float((~accepted[g][r.issame]).mean()) for g, r in results.items()},
            )
        )
    return Fairness(
        accuracies=accuracies,
        mean=float(values.mean()),
        std=float(values.std(ddof=1)),
        skewed_error_ratio=float(errors.max() / errors.min()) if errors.min() > 0 else None,
        rates=rates,
    )
