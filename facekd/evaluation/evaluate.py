"""`facekd evaluate`: one model on any number of verification sets, with plots, scores and thresholds on request."""

import csv
import functools
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.table import csv_cell
from facekd.common.writing import atomic_file
from facekd.data.cfp import is_cfp_split
from facekd.data.detection import FaceDetector
from facekd.data.opening import load_verification_set
from facekd.data.pairs import is_pair_list
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.embedding import DistinctImages, evaluate_verification
from facekd.evaluation.photographs import AlignedPhotographs, Missing
from facekd.evaluation.verification import VerificationResult
from facekd.runtimes.detectors import open_detector
from facekd.runtimes.embedder import Embedder
from facekd.runtimes.input_verdict import check_embedder
from facekd.schemas.card import CARD_FILE, read_card
from facekd.schemas.input_spec import InputSpec
from facekd.schemas.manifest import MANIFEST_FILE, read_manifest

PROTOCOL = "10-fold, flip-sum, squared L2 < t, t in arange(0, 4, 0.01)"


@dataclass(frozen=True)
class SetReport:
    """A result and what had to be done to get it.

    Attributes:
        result: the figures.
        fingerprint: of the verification set.
        not_found: photographs without a detected face, cropped centrally; empty for aligned sets.
    """

    result: VerificationResult
    fingerprint: str
    not_found: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {**self.result.to_dict(), "fingerprint": self.fingerprint, "faces_not_found": self.not_found}


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_model` did: the reports in the order of the sets, and the files written by what they hold."""

    model: Path
    input: InputSpec
    sets: list[SetReport]
    files: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON."""
        return {
            "model": str(self.model),
            "input": self.input.model_dump(mode="json"),
            "protocol": PROTOCOL,
            "sets": [report.to_dict() for report in self.sets],
            "files": self.files,
        }


def evaluate_model(
    model: Path,
    embedder: Embedder,
    pairs: Sequence[str],
    *,
    images: Path | None = None,
    folds: Sequence[int] | None = None,
    detector: Path | None = None,
    missing: Missing = "refuse",
    out: Path | None = None,
    scores: Path | None = None,
    save_thresholds: bool = False,
    trust_input: bool = False,
    overwrite: bool = False,
    batch_size: int = 128,
    progress: bool = False,
) -> Evaluation:
    """Evaluates a model on verification sets.

    Args:
        model: where it lies; for the reports, and for its card where thresholds are saved.
        embedder: the model, opened.
        pairs: a .bin file each, or a pairs.txt (with `images`), or "synthetic:...".
        images: the folder a pairs.txt refers to: aligned crops, or photographs where `detector` is given.
        folds: use only these tenths of each set (1 to 10), and cut their pairs into ten folds again: for a set of
            which only a part is at hand. Not the published figure.
        detector: a YuNet or SCRFD .onnx file: the sets are photographs, aligned before they are embedded.
        missing: see AlignedPhotographs.
        out: folder for evaluation.json and evaluation.png.
        scores: CSV file for every pair's score.
        save_thresholds: write the thresholds into the bundle's card, where `facekd verify` looks for them.
        trust_input: do not check on the pairs that a foreign model file is fed as it was trained.
        overwrite: replace these files where they are there.
        batch_size: images a batch.
        progress: show bars on stderr.
    """
    find = None if detector is None else open_detector(detector)
    reports = []
    for spec in pairs:
        verification_set = load_pairs(spec, images, folds, size=None if find else embedder.input.size)
        if find is None and not trust_input:
            check_embedder(model, embedder, verification_set, progress=progress)
        not_found: list[str] = []
        align = None
        if find is not None:
            align = functools.partial(
                _align, detector=find, size=embedder.input.size, missing=missing, progress=progress, into=not_found
            )
        result = evaluate_verification(
            embedder, verification_set, align=align, batch_size=batch_size, progress=progress
        )
        reports.append(SetReport(result, verification_set.fingerprint(), not_found))
    evaluation = Evaluation(model=model, input=embedder.input, sets=reports)
    if scores is not None:
        write_scores(scores, [report.result for report in reports], overwrite=overwrite)
        evaluation.files["scores"] = str(scores)
    if save_thresholds:
        from facekd.evaluation.thresholds import save_thresholds as save

        save(model, [report.result for report in reports])
        evaluation.files["thresholds"] = str(model / "card.json")
    if out is not None:
        from facekd.evaluation.roc_plots import save_plots

        with atomic_file(out / "evaluation.png", overwrite=overwrite) as plot:
            save_plots(plot, [report.result for report in reports], title=_title(model))
        evaluation.files.update(plot=str(out / "evaluation.png"), json=str(out / "evaluation.json"))
        with atomic_file(out / "evaluation.json", overwrite=overwrite) as file:
            file.write((json.dumps(evaluation.to_dict(), indent=2) + "\n").encode())
    return evaluation


def _title(model: Path) -> str:
    """The model's own name: a bundle's folder is called "bundle", an artefact's "onnx-fp32"."""
    if (model / CARD_FILE).is_file():
        return read_card(model).name
    if (model / MANIFEST_FILE).is_file():
        manifest = read_manifest(model)
        return f"{manifest.name}, {manifest.target} {manifest.precision}"
    return model.name


def load_pairs(
    spec: str, images: Path | None, folds: Sequence[int] | None, *, size: tuple[int, int] | None
) -> VerificationSet:
    """Loads a set, or the given tenths of it; `images` belongs to the pairs.txt among the sets.

    Args:
        spec: see evaluate_model.
        images: see evaluate_model.
        folds: see evaluate_model.
        size: (height, width) the images must have, None for photographs.
    """
    if Path(spec).is_file() and is_pair_list(Path(spec)):
        # The list's own folds, chosen while it is read: photographs of the others need not be there.
        return load_verification_set(spec, images, folds=folds, size=size)
    if size is None and not is_cfp_split(Path(spec)):
        raise UsageError(f"--detector aligns the photographs of a pairs.txt: {spec} holds aligned images already")
    whole = load_verification_set(spec, size=size)
    return whole if folds is None else select_folds(whole, folds)


def select_folds(whole: VerificationSet, folds: Sequence[int], *, total: int = 10) -> VerificationSet:
    """The pairs of some of a set's `total` contiguous folds, numbered from 1, cut as KFold cuts."""
    if not folds or any(not 1 <= fold <= total for fold in folds):
        raise UsageError(f"folds {','.join(map(str, folds))}: give numbers from 1 to {total}, or all")
    chosen = sorted(set(folds))
    parts = np.array_split(np.arange(len(whole)), total)
    index = np.concatenate([parts[fold - 1] for fold in chosen])
    images = [whole.encoded(2 * int(i) + side) for i in index for side in (0, 1)]
    name = f"{whole.name}-folds-{','.join(map(str, chosen))}"
    return VerificationSet(name, images, whole.issame[index], size=whole.size)


def _align(
    distinct: DistinctImages,
    *,
    detector: FaceDetector,
    size: tuple[int, int],
    missing: Missing,
    progress: bool,
    into: list[str],
) -> AlignedPhotographs:
    aligned = AlignedPhotographs(
        distinct, detector=detector, size=size, missing=missing, name=distinct.key, progress=progress
    )
    into.extend(aligned.not_found)
    return aligned


def write_scores(path: Path, results: Sequence[VerificationResult], *, overwrite: bool) -> None:
    """A CSV row a pair: set, pair (from 0), same (1 or 0), cosine, squared distance."""
    with atomic_file(path, overwrite=overwrite) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text)
        writer.writerow(["set", "pair", "same", "score_cos", "distance"])
        for result in results:
            for i, (same, score, distance) in enumerate(
                zip(result.issame, result.scores, result.distances, strict=True)
            ):
                writer.writerow([csv_cell(result.name), i, int(same), f"{score:.6f}", f"{distance:.6f}"])
        text.detach()
