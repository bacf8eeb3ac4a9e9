"""RFW, Racial Faces in the Wild, as four .bin sets of 6,000 pairs: African, Asian, Caucasian, Indian."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facekd.common.errors import UsageError
from facekd.common.table import Table
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_bin import read_bin
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.embedding import evaluate_verification
from facekd.evaluation.evaluate import PROTOCOL
from facekd.evaluation.fairness import compare_groups
from facekd.evaluation.protocols import PROTOCOLS, ListFeatures, ProtocolOptions, PublishedProtocol, percent
from facekd.evaluation.verification import far_name
from facekd.runtimes.embedder import Embedder

GROUPS = ("African", "Asian", "Caucasian", "Indian")


def find_rfw(folder: Path) -> dict[str, Path]:
    """Group -> its .bin: African_test.bin as the public packages have it, or African.bin; any case.

    Raises:
        UsageError: a group is missing; four are needed, since what is measured is how they differ.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder of RFW's four .bin sets")
    files = {file.name.lower(): file for file in folder.iterdir()}
    found = {}
    for group in GROUPS:
        names = (f"{group.lower()}_test.bin", f"{group.lower()}.bin")
        file = next((files[name] for name in names if name in files), None)
        if file is None:
            raise UsageError(f"{folder} has no {group}_test.bin: RFW is {', '.join(f'{g}_test.bin' for g in GROUPS)}")
        found[group] = file
    return found


def read_rfw(path: Path, group: str, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> VerificationSet:
    """One group's pairs, under the group's name."""
    pairs = read_bin(path, size=size)
    pairs.name = group
    return pairs


@PROTOCOLS.decorator("rfw")
class RFWProtocol(PublishedProtocol):
    """10-fold accuracy of each group, and every group's errors at one threshold for all."""

    def run(
        self, folder: Path, embedder: Embedder, features: ListFeatures, options: ProtocolOptions
    ) -> tuple[str, dict[str, Any]]:
        results = {
            group: evaluate_verification(
                embedder,
                read_rfw(path, group, size=embedder.input.size),
                batch_size=options.batch_size,
                progress=options.progress,
            )
            for group, path in find_rfw(folder).items()
        }
        compared = compare_groups(results)
        figures = {
            "accuracy": compared.accuracies,
            "mean": compared.mean,
            "std_n_minus_1": compared.std,
            "skewed_error_ratio": compared.skewed_error_ratio,
            "one_threshold_for_all": [
                {**dataclasses.asdict(rates), "far": far_name(rates.far)} for rates in compared.rates
            ],
            "groups": {group: result.to_dict() for group, result in results.items()},
        }
        return f"each group: {PROTOCOL}; skewed error ratio: highest over lowest error", figures

    def tables(self, figures: Mapping[str, Any]) -> Sequence[Table]:
        shared = figures["one_threshold_for_all"]
        columns = ["group", "accuracy, %"]
        for rates in shared:
            columns += [f"FMR % at {rates['far']}", "FNMR %"]
        rows = []
        for group, accuracy in figures["accuracy"].items():
            row = [group, percent(accuracy)]
            for rates in shared:
                row += [f"{100 * rates['false_match'][group]:.3f}", percent(rates["false_non_match"][group])]
            rows.append(row)
        ratio = figures["skewed_error_ratio"]
        caption = (
            f"mean {percent(figures['mean'])} %, std {100 * figures['std_n_minus_1']:.2f}, skewed error ratio "
            f"{'none: a group has no error' if ratio is None else f'{ratio:.2f}'}; false match rate (FMR) and false "
            "non-match rate (FNMR) at one threshold for all groups"
        )
        return [Table(columns, rows, title="rfw", caption=caption)]
