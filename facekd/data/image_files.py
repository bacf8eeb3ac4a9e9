"""The image files of a folder: listed by what they hold, opened only if they are files; what is passed over is named.

A folder of a user's holds photographs under any name (.jfif, .HEIC, none), links in a circle, and now and then a named
pipe or a link to a device, which would block or fill the memory of whoever opens it.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from facekd.common.errors import FacekdError
from facekd.common.file_kind import HEAD_BYTES, kind_of
from facekd.data.source import UnreadableImage

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Names that are taken for images unseen, since a set may have millions; other files are looked into."""

MOST_BYTES = 1 << 28
"""No image file that is read here is larger: 256 MiB, facekd's choice."""

_OF_THE_SYSTEM = ("thumbs.db", "desktop.ini", "ehthumbs.db")


@dataclass(frozen=True)
class ImageFiles:
    """What a folder holds.

    Attributes:
        images: paths relative to the folder, sorted within each folder.
        passed_over: (relative path, why) of every other file; hidden ones are left out.
    """

    images: list[Path] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)


def list_images(folder: Path, *, below: bool = True) -> ImageFiles:
    """Lists the images of a folder; each real folder is entered once, so links may loop.

    Args:
        folder: where to look.
        below: look in the folders in it too.

    Raises:
        FacekdError: the folder cannot be read.
    """
    found = ImageFiles()
    seen: set[tuple[int, int]] = set()

    def descend(current: Path) -> None:
        status = current.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in visible_entries(current):
            relative = Path(entry.path).relative_to(folder)
            if is_folder(entry):
                if below:
                    descend(Path(entry.path))
            elif (why := _not_an_image(entry)) is None:
                found.images.append(relative)
            else:
                found.passed_over.append((relative.as_posix(), why))

    descend(folder)
    return found


def read_image_file(path: Path, key: str | None = None) -> bytes:
    """The bytes of an image file.

    Args:
        path: the file.
        key: its name for the error; default its path.

    Raises:
        UnreadableImage: it is no regular file, it is larger than MOST_BYTES, or it cannot be read.
    """
    key = str(path) if key is None else key
    try:
        # O_NONBLOCK: opening a named pipe would wait for its writer.
        with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableImage(key, _kind_in_words(status.st_mode))
            if status.st_size > MOST_BYTES:
                raise UnreadableImage(key, f"{status.st_size:,} bytes: larger than any photograph that is read here")
            return file.read(MOST_BYTES)
    except OSError as error:
        raise UnreadableImage(key, f"cannot be read ({error.strerror or error})") from None


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden files. Raises FacekdError if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise FacekdError(f"cannot read the folder {folder}: {error.strerror}") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; a link in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def file_size(path: Path) -> int:
    """Bytes; 0 where nobody can tell."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def in_words(passed_over: list[tuple[str, str]], *, most: int = 3) -> Iterator[str]:
    """The first few files that were passed over, for messages: "a.gif (a GIF is not read: ...)"."""
    for name, why in passed_over[:most]:
        yield f"{name} ({why})"
    if len(passed_over) > most:
        yield f"{len(passed_over) - most} more"


def _not_an_image(entry: os.DirEntry[str]) -> str | None:
    """Why it is none; None for an image."""
    try:
        mode = entry.stat().st_mode
        if not stat.S_ISREG(mode):
            return _kind_in_words(mode)
        if entry.name.lower().endswith(SUFFIXES):
            return None
        if entry.name.lower() in _OF_THE_SYSTEM:
            return "a file of the system"
        with Path(entry.path).open("rb") as file:
            kind = kind_of(file.read(HEAD_BYTES))
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if kind is None:
        return "not an image"
    return None if kind.is_image else f"not an image but {kind.name}"


def _kind_in_words(mode: int) -> str:
    names = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return f"{names.get(stat.S_IFMT(mode), 'a device')}, not a file"
