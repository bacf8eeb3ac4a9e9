"""CFP's pairs as they are published: Protocol/Split/FP (or FF) with ten folds, and the lists of photographs beside it.

Sengupta et al., "Frontal to Profile Face Verification in the Wild", WACV 2016: in a fold, same.txt and diff.txt hold
350 lines "a,b" each; a is a number of Pair_list_F.txt, and b one of Pair_list_P.txt (of Pair_list_F.txt in FF). A line
of a list is "number path", the path relative to the list's folder.
"""

from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_set import VerificationSet


def is_cfp_split(path: Path) -> bool:
    """Whether a folder is FP or FF of CFP's Protocol/Split."""
    return path.is_dir() and path.name.upper() in ("FP", "FF") and (path / "01/same.txt").is_file()


def load_cfp(split: Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> VerificationSet:
    """The pairs of FP or FF, fold by fold, genuine ones first.

    Args:
        split: the folder FP or FF.
        size: (height, width) every image must have; None admits any, for photographs that a detector aligns.

    Raises:
        FacekdError: a list is missing or damaged, or photographs are missing; names the first.
    """
    protocol = split.parent.parent
    first = _photographs(protocol / "Pair_list_F.txt")
    second = _photographs(protocol / "Pair_list_P.txt") if split.name.upper() == "FP" else first
    images: list[Path] = []
    truths: list[bool] = []
    sizes = []
    for fold in sorted(folder for folder in split.iterdir() if folder.is_dir()):
        before = len(truths)
        for file, same in ((fold / "same.txt", True), (fold / "diff.txt", False)):
            for number, line in _lines(file):
                left, _, right = line.partition(",")
                if left.strip() not in first or right.strip() not in second:
                    raise FacekdError(
                        f"{file}, line {number}: {line[:40]!r} is not two numbers of the lists in {protocol}"
                    )
                images += [first[left.strip()], second[right.strip()]]
                truths.append(same)
        sizes.append(len(truths) - before)
    missing = [image for image in dict.fromkeys(images) if not image.is_file()]
    if missing:
        raise FacekdError(f"{len(missing):,} photographs of {split} are missing, the first {missing[0]}")
    return VerificationSet(f"cfp-{split.name.lower()}", images, np.array(truths), size=size, fold_sizes=sizes)


def _photographs(path: Path) -> dict[str, Path]:
    """Number -> photograph."""
    found = {}
    for number, line in _lines(path):
        name, _, relative = line.partition(" ")
        if not name.isdecimal() or not relative:
            raise FacekdError(f"{path}, line {number}: {line[:60]!r} is not a number and a path")
        found[name] = path.parent / relative.strip()
    return found


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FacekdError(f"{path} cannot be read: {error}") from None
    return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
