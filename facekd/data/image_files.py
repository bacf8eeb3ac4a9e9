"""Image files in folders: which are listed, in which order, past links that lead nowhere."""

import os
from collections.abc import Iterator
from pathlib import Path

from facekd.common.errors import FacekdError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def image_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The image files directly in `folder`, sorted; a link that leads nowhere or in a circle is none."""
    for entry in visible_entries(folder):
        if entry.name.lower().endswith(SUFFIXES) and is_file(entry):
            yield entry


def walk_images(folder: Path) -> Iterator[Path]:
    """Every image file below `folder`, relative to it, sorted; each real folder is entered once, so links may loop."""
    seen: set[tuple[int, int]] = set()

    def descend(current: Path) -> Iterator[Path]:
        status = current.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in visible_entries(current):
            if entry.name.lower().endswith(SUFFIXES) and is_file(entry):
                yield Path(entry.path).relative_to(folder)
            elif is_folder(entry):
                yield from descend(Path(entry.path))

    yield from descend(folder)


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden files. Raises FacekdError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise FacekdError(f"cannot read the folder {folder}: {error.strerror}") from None


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file; a link in a circle is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def file_size(entry: os.DirEntry[str]) -> int:
    """Bytes; 0 where nobody can tell."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0
