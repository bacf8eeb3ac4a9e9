"""A folder with one folder of images an identity, as a Source."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import decode_image
from facekd.data.source import ALIGNED_SIZE, UnreadableImage

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class FolderSource:
    """Images in folder/identity/*.jpg (png, bmp, webp); identities and images in sorted order of their names.

    Hidden files and folders are left out, and so are identity folders without an image (`empty_identities` lists them).

    Attributes:
        identities: folder names, in the order of the labels.
        empty_identities: names of identity folders that hold no image.
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> None:
        """
        Args:
            path: the folder.
            size: (height, width) every image must have; None admits any.
        """
        self.path = Path(path)
        if not self.path.is_dir():
            raise UsageError(f"no folder at {self.path}: give a folder with one folder of images an identity")
        self.size = size
        self.name = self.path.resolve().name
        self._files: list[str] = []
        self.identities: list[str] = []
        self.empty_identities: list[str] = []
        labels: list[int] = []
        sizes: list[int] = []
        for identity in _children(self.path):
            if not _is_dir(identity):
                continue
            images = list(image_files(Path(identity.path)))
            if not images:
                self.empty_identities.append(identity.name)
                continue
            labels += [len(self.identities)] * len(images)
            sizes += [_size(image) for image in images]
            self._files += [f"{identity.name}/{image.name}" for image in images]
            self.identities.append(identity.name)
        if not self._files:
            loose = next(image_files(self.path), None)
            hint = f"it holds images itself, such as {loose.name}: " if loose else ""
            raise FacekdError(
                f"{self.path} holds no identity folder with images: {hint}put each person's "
                f"{', '.join(SUFFIXES)} files into a folder of their own"
            )
        self.labels = np.array(labels, dtype=np.int64)
        self.num_identities = len(self.identities)
        self._bytes = np.array(sizes, dtype=np.int64)
        self._check_first_size()

    def __len__(self) -> int:
        return len(self._files)

    def key(self, i: int) -> str:
        return self._files[i]

    def encoded(self, i: int) -> bytes:
        """The file's bytes. Raises UnreadableImage."""
        try:
            return (self.path / self._files[i]).read_bytes()
        except OSError as error:
            raise UnreadableImage(self._files[i], f"cannot be read ({error.strerror})") from None

    def read(self, i: int) -> np.ndarray:
        return decode_image(self.encoded(i), self._files[i], self.size)

    def check(self) -> Iterator[tuple[str, str]]:
        """Reads every image and yields (key, reason) of each that cannot be used."""
        for i in range(len(self)):
            try:
                self.read(i)
            except UnreadableImage as error:
                yield error.key, error.reason

    def fingerprint(self) -> str:
        return parts_sha256("folder", "\0".join(self._files), self._bytes)

    def _check_first_size(self) -> None:
        """Raises at once when the folder holds photographs, rather than once an image."""
        if self.size is None:
            return
        for i in range(min(len(self), 16)):
            try:
                height, width = decode_image(self.encoded(i), self._files[i]).shape[:2]
            except UnreadableImage:
                continue
            if (height, width) == tuple(self.size):
                return
            if i == min(len(self), 16) - 1:
                raise FacekdError(
                    f"{self.path} holds {width}x{height} images, not {self.size[1]}x{self.size[0]}: "
                    "run `facekd data align` on the photographs first"
                )


def image_files(folder: Path) -> Iterator[os.DirEntry[str]]:
    """The image files directly in `folder`, sorted; a link that leads nowhere or in a circle is none."""
    for entry in _children(folder):
        if entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
            yield entry


def walk_images(folder: Path) -> Iterator[Path]:
    """Every image file below `folder`, relative to it, sorted; each real folder is entered once, so links may loop."""
    seen: set[tuple[int, int]] = set()

    def descend(current: Path) -> Iterator[Path]:
        status = current.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in _children(current):
            if entry.name.lower().endswith(SUFFIXES) and _is_file(entry):
                yield Path(entry.path).relative_to(folder)
            elif _is_dir(entry):
                yield from descend(Path(entry.path))

    yield from descend(folder)


def _children(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise FacekdError(f"cannot read the folder {folder}: {error.strerror}") from None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link in a circle
        return False


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0
