"""The folders that a file or folder needs above it, gone again where it does not come to be."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def parent_folders(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; at the end those that were made here and hold nothing are taken away.

    Raises:
        OSError: they cannot be made.
    """
    made = [folder for folder in path.parents if not folder.exists()]  # the innermost first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with contextlib.suppress(OSError):  # not empty, or never made
            for folder in made:
                folder.rmdir()
