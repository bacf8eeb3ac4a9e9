"""RFW, Racial Faces in the Wild, as four .bin sets of 6,000 pairs: African, Asian, Caucasian, Indian."""

from pathlib import Path

from facekd.common.errors import UsageError
from facekd.data.source import ALIGNED_SIZE
from facekd.data.verification_bin import read_bin
from facekd.data.verification_set import VerificationSet

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
