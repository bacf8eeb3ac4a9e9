"""Whether a result fits on the disk, asked before it is computed."""

import shutil
from pathlib import Path

from facekd.common.writing import WriteError


def require_space(place: Path, needed: int, what: str) -> None:
    """Refuses work whose result does not fit.

    Args:
        place: where the result goes; need not be there yet.
        needed: bytes, as estimated.
        what: the result in words, for the message.

    Raises:
        WriteError: less is free.
    """
    there = next((folder for folder in (place, *place.absolute().parents) if folder.exists()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError:  # a file system that does not say: the write itself will
        return
    if free < needed:
        raise WriteError(
            f"cannot write {what} at {place}: about {_size(needed)} are needed and {_size(free)} are free there; "
            "free some, or choose another place"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
