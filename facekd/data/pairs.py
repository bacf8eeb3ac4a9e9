"""Lists of pairs in text, with the images that they name.

- LFW's pairs.txt as it is published: View 2 starts with "10 300", ten folds, each of 300 lines "name n1 n2" (same) then
  300 lines "name1 n1 name2 n2" (different); View 1's pairsDevTrain.txt and pairsDevTest.txt start with "500" alone, one
  fold. Photograph n of a person is name/name_%04d.jpg. pairs.csv, as Kaggle has it, is View 2 under a heading; RFW's
  lists are such lines alone.
- CFP's folder Protocol/Split/FP (or FF): ten folds, each with same.txt and diff.txt, whose numbers are those of
  Pair_list_F.txt and Pair_list_P.txt.
- AgeDB's MATLAB file of ten folds (facekd.data.agedb).
- Two paths and a truth a line, "a b 1" or "1 a b", separated by commas, tabs or blanks, with a heading or without: no
  folds of its own.

What a list is, is read from its content: byte-order marks, UTF-16 and CSV are what programs make of these lists.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.data.agedb import is_matlab_file, read_agedb
from facekd.data.image_files import SUFFIXES
from facekd.data.image_list import text_lines
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_set import VerificationSet

_TRUTHS = {"1": True, "0": False, "-1": False, "true": True, "false": False}


@dataclass(frozen=True)
class Photograph:
    """One image of a list: a path below the folder, without its suffix if `any_suffix`."""

    path: str
    any_suffix: bool = False

    def find(self, folder: Path) -> Path | None:
        """Where it is; None where it is not."""
        candidates = [folder / self.path]
        if self.any_suffix:
            candidates = [folder / f"{self.path}{suffix}" for suffix in SUFFIXES]
        return next((file for file in candidates if file.is_file()), None)

    def __str__(self) -> str:
        return f"{self.path}.jpg" if self.any_suffix else self.path


@dataclass(frozen=True)
class PairList:
    """A list as it stands in its file.

    Attributes:
        pairs: in the list's order.
        issame: bool [N].
        fold_sizes: pairs in each fold of the list; None where it has none.
    """

    pairs: list[tuple[Photograph, Photograph]]
    issame: np.ndarray
    fold_sizes: list[int] | None


def is_pair_list(path: Path) -> bool:
    """Whether it is text or AgeDB's, and so no .bin; the first pickles were text too, so the name .bin is believed."""
    if path.suffix.lower() == ".bin":
        return False
    if is_matlab_file(path):
        return True
    with path.open("rb") as file:
        head = file.read(512)
    return head.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")) or not any(
        byte < 9 or 13 < byte < 32 for byte in head
    )


def read_pairs(path: Path) -> PairList:
    """Reads a list of pairs of any layout named above.

    Raises:
        UsageError: it is a stand-in for a file.
        FacekdError: it is of none of these layouts; names the line.
    """
    check_not_a_stand_in(path, "a list of pairs")
    if is_matlab_file(path):
        names, truths, sizes = read_agedb(path)
        pairs = [(Photograph(a, any_suffix=True), Photograph(b, any_suffix=True)) for a, b in names]
        return PairList(pairs, np.array(truths), sizes)
    rows = _rows(path)
    if not rows:
        raise FacekdError(f"{path} is empty: a list of pairs has a line for each")
    header = rows[0][1]
    if len(header) <= 2 and all(field.isdecimal() for field in header):
        folds, of_a_kind = (int(header[0]), int(header[1])) if len(header) == 2 else (1, int(header[0]))
        return _numbered(path, rows[1:], folds, of_a_kind)
    if header[0].lower() == "name" and header[1].lower().startswith("imagenum"):
        return _numbered_by_length(path, rows[1:])
    if all(_is_numbered(fields) for _, fields in rows) and any(len(fields) == 4 for _, fields in rows):
        return _numbered_by_length(path, rows)  # RFW's lists: LFW's lines without the line that counts them
    return _paths_and_truths(path, rows)


def load_pairs(
    path: Path, images: Path, *, folds: Sequence[int] | None = None, size: tuple[int, int] | None = ALIGNED_SIZE
) -> VerificationSet:
    """A list and its images as a VerificationSet; `folds` (1-based) keeps only those."""
    if not images.is_dir():
        raise UsageError(f"no folder of images at {images}: give the folder of the images that {path.name} names")
    found = read_pairs(path)
    sizes = found.fold_sizes or [len(found.pairs)]
    fold_of = np.repeat(np.arange(1, len(sizes) + 1), sizes)
    wanted = sorted(set(folds)) if folds is not None else list(range(1, len(sizes) + 1))
    if not wanted or wanted[0] < 1 or wanted[-1] > len(sizes):
        raise UsageError(f"folds {wanted} are not in {path}: it has folds 1 to {len(sizes)}")
    keep = np.flatnonzero(np.isin(fold_of, wanted))
    files: dict[Photograph, Path | None] = {}
    for at in keep:
        for photograph in found.pairs[at]:
            if photograph not in files:
                files[photograph] = photograph.find(images)
    missing = [photograph for photograph, file in files.items() if file is None]
    if missing:
        raise FacekdError(_missing_message(images, missing, files, found.pairs, fold_of, path))
    paths = [file for at in keep for photograph in found.pairs[at] if (file := files[photograph]) is not None]
    name = path.stem if folds is None else f"{path.stem}-folds-{','.join(map(str, wanted))}"
    own = None if found.fold_sizes is None else [sizes[fold - 1] for fold in wanted]
    return VerificationSet(name, paths, found.issame[keep], size=size, fold_sizes=own)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that holds any, fields separated by tabs, commas or blanks."""
    lines = text_lines(path)
    filled = [line for line in lines if line.strip()]
    tabs = bool(filled) and all("\t" in line for line in filled[1:])
    commas = not tabs and bool(filled) and all("," in line for line in filled[1:])
    rows = []
    for number, line in enumerate(lines, 1):
        if tabs or "\t" in line:
            fields = line.split("\t")
        elif commas:
            fields = next(csv.reader([line]), [])
        else:
            fields = line.split()
        fields = [field.strip() for field in fields]
        while fields and not fields[-1]:  # "name,1,2," of a list whose lines have four columns
            fields.pop()
        if any(fields):
            rows.append((number, fields))
    return rows


def _numbered(path: Path, rows: list[tuple[int, list[str]]], folds: int, of_a_kind: int) -> PairList:
    """LFW's own layout: `folds` times `of_a_kind` lines of each kind."""
    if len(rows) != folds * 2 * of_a_kind:
        raise FacekdError(
            f"{path} announces {folds} folds of {of_a_kind} + {of_a_kind} pairs and holds {len(rows)}, "
            f"not {folds * 2 * of_a_kind}"
        )
    truths = [rank % (2 * of_a_kind) < of_a_kind for rank in range(len(rows))]
    pairs = [_numbered_pair(path, number, fields, same) for (number, fields), same in zip(rows, truths, strict=True)]
    return PairList(pairs, np.array(truths), [2 * of_a_kind] * folds)


def _numbered_by_length(path: Path, rows: list[tuple[int, list[str]]]) -> PairList:
    """LFW's lines without the line that counts them: three fields are the same person, four are two."""
    truths = [len(fields) == 3 for _, fields in rows]
    pairs = [_numbered_pair(path, number, fields, same) for (number, fields), same in zip(rows, truths, strict=True)]
    # The folds of the published list: as many lines of one kind as come first, then as many of the other.
    run = next((at for at, same in enumerate(truths) if same != truths[0]), 0)
    whole = run > 0 and len(truths) % (2 * run) == 0
    regular = whole and all(truths[at] == (at % (2 * run) < run) for at in range(len(truths)))
    return PairList(pairs, np.array(truths), [2 * run] * (len(truths) // (2 * run)) if regular else None)


def _is_numbered(fields: list[str]) -> bool:
    """ "name n1 n2" or "name1 n1 name2 n2"."""
    numbers = {3: fields[1:], 4: fields[1::2]}.get(len(fields), [])
    return bool(numbers) and all(field.isdecimal() for field in numbers)


def _numbered_pair(path: Path, number: int, fields: list[str], same: bool) -> tuple[Photograph, Photograph]:
    numbers = fields[1:] if same else fields[1::2]
    if len(fields) != (3 if same else 4) or not all(field.isdecimal() for field in numbers):
        wanted = "name n1 n2" if same else "name1 n1 name2 n2"
        raise FacekdError(f"{path}, line {number}: {' '.join(fields)[:80]!r} is not {wanted!r}")
    other = fields[0] if same else fields[2]
    first, second = (
        Photograph(f"{name}/{name}_{int(at):04d}", any_suffix=True)
        for name, at in zip((fields[0], other), numbers, strict=True)
    )
    return first, second


def _paths_and_truths(path: Path, rows: list[tuple[int, list[str]]]) -> PairList:
    """Two paths and a truth, which is the last field or the first."""
    if _truth_at(rows[0][1]) is None and len(rows) > 1:  # a heading
        rows = rows[1:]
    pairs, truths = [], []
    place = _truth_at(rows[0][1])
    for number, fields in rows:
        truth = _TRUTHS.get(fields[place].lower()) if place is not None and len(fields) == 3 else None
        if truth is None or place is None:
            raise FacekdError(
                f"{path}, line {number}: {' '.join(fields)[:80]!r} is no pair in a layout that is read: LFW's (a first "
                'line "10 300", then "name n1 n2" and "name1 n1 name2 n2"), or "path path 1" or "1 path path"'
            )
        first, second = fields[:2] if place == 2 else fields[1:]
        pairs.append((Photograph(first), Photograph(second)))
        truths.append(truth)
    return PairList(pairs, np.array(truths), None)


def _truth_at(fields: list[str]) -> int | None:
    """Where the truth stands in a line of three fields."""
    if len(fields) != 3:
        return None
    return next((at for at in (2, 0) if fields[at].lower() in _TRUTHS), None)


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
    message = f"{len(missing)} of {len(found)} photographs of {path.name} are not in {images}, the first {missing[0]}"
    return message + (f"; whole are folds {whole}: choose them with folds" if whole else "")
