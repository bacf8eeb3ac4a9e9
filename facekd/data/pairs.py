"""LFW's pairs.txt as it is published, with the photographs in their folders.

View 2 starts with "10 300": ten folds, each of 300 lines "name n1 n2" (same) then 300 lines "name1 n1 name2 n2"
(different). View 1's pairsDevTrain.txt and pairsDevTest.txt start with "500" alone: one fold.
Photograph n of a person is name/name_%04d.jpg.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.data.image_files import SUFFIXES
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_set import VerificationSet

Photograph = tuple[str, int]


def read_pairs(path: Path) -> tuple[list[tuple[Photograph, Photograph]], np.ndarray, list[int]]:
    """Reads pairs.txt.

    Returns:
        pairs: ((name, number), (name, number)) in published order; issame: bool [N]; fold_sizes: pairs in each fold.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FacekdError(f"{path} cannot be read: {error}") from None
    rows = [(number, line.split("\t") if "\t" in line else line.split()) for number, line in enumerate(lines, 1)]
    rows = [(number, [field.strip() for field in fields]) for number, fields in rows if any(fields)]
    header = rows[0][1] if rows else []
    if not 1 <= len(header) <= 2 or not all(field.isdecimal() for field in header):
        raise FacekdError(f"{path} does not start with a line like '10 300' (folds, pairs of a kind) or '500'")
    folds, of_a_kind = (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
    if len(rows) - 1 != folds * 2 * of_a_kind:
        raise FacekdError(
            f"{path} announces {folds} folds of {of_a_kind} + {of_a_kind} pairs and holds {len(rows) - 1}, "
            f"not {folds * 2 * of_a_kind}"
        )
    pairs: list[tuple[Photograph, Photograph]] = []
    issame: list[bool] = []
    for rank, (number, fields) in enumerate(rows[1:]):
        same = rank % (2 * of_a_kind) < of_a_kind
        numbers = fields[1:] if same else fields[1::2]
        if len(fields) != (3 if same else 4) or not all(field.isdecimal() for field in numbers):
            wanted = "name n1 n2" if same else "name1 n1 name2 n2"
            raise FacekdError(f"{path}, line {number}: {' '.join(fields)!r} is not {wanted!r}")
        first = (fields[0], int(numbers[0]))
        pairs.append((first, (fields[0] if same else fields[2], int(numbers[1]))))
        issame.append(same)
    return pairs, np.array(issame), [2 * of_a_kind] * folds


def load_pairs(
    path: Path, images: Path, *, folds: Sequence[int] | None = None, size: tuple[int, int] | None = ALIGNED_SIZE
) -> VerificationSet:
    """pairs.txt and its photographs as a VerificationSet; `folds` (1-based) keeps only those."""
    if not images.is_dir():
        raise UsageError(f"no folder of images at {images}: give the folder of Name/Name_0001.jpg for {path.name}")
    pairs, issame, fold_sizes = read_pairs(path)
    fold_of = np.repeat(np.arange(1, len(fold_sizes) + 1), fold_sizes)
    wanted = sorted(set(folds)) if folds is not None else list(range(1, len(fold_sizes) + 1))
    if not wanted or wanted[0] < 1 or wanted[-1] > len(fold_sizes):
        raise UsageError(f"folds {wanted} are not in {path}: it has folds 1 to {len(fold_sizes)}")
    keep = np.flatnonzero(np.isin(fold_of, wanted))
    found: dict[Photograph, Path | None] = {}
    for at in keep:
        for photograph in pairs[at]:
            if photograph not in found:
                found[photograph] = _find(images, *photograph)
    missing = [photograph for photograph, file in found.items() if file is None]
    if missing:
        raise FacekdError(_missing_message(images, missing, found, pairs, fold_of, path))
    files = [file for at in keep for photograph in pairs[at] if (file := found[photograph]) is not None]
    name = path.stem if folds is None else f"{path.stem}-folds-{','.join(map(str, wanted))}"
    return VerificationSet(name, files, issame[keep], size=size, fold_sizes=[fold_sizes[fold - 1] for fold in wanted])


def _find(images: Path, name: str, number: int) -> Path | None:
    for suffix in SUFFIXES:
        file = images / name / f"{name}_{number:04d}{suffix}"
        if file.is_file():
            return file
    return None


def _missing_message(
    images: Path,
    missing: list[Photograph],
    found: dict[Photograph, Path | None],
    pairs: list[tuple[Photograph, Photograph]],
    fold_of: np.ndarray,
    path: Path,
) -> str:
    """How many are missing, the first, and which folds are whole."""
    absent = set(missing)
    broken_folds = {int(fold_of[at]) for at, pair in enumerate(pairs) if pair[0] in absent or pair[1] in absent}
    whole = [fold for fold in range(1, int(fold_of.max()) + 1) if fold not in broken_folds and fold in fold_of]
    name, number = missing[0]
    message = f"{len(missing)} of {len(found)} photographs of {path.name} are not in {images}, "
    message += f"the first {name}/{name}_{number:04d}.jpg"
    return message + (f"; whole are folds {whole}: choose them with folds" if whole else "")
