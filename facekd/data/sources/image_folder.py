"""A folder with one folder of images an identity, as a Source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size, decode_image
from facekd.data.image_files import SUFFIXES, file_size, image_files, is_folder, visible_entries
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind


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
        for identity in visible_entries(self.path):
            if not is_folder(identity):
                continue
            images = list(image_files(Path(identity.path)))
            if not images:
                self.empty_identities.append(identity.name)
                continue
            labels += [len(self.identities)] * len(images)
            sizes += [file_size(image) for image in images]
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
        check_first_size(self.path, self.encoded, len(self), self.size)

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


@SOURCES.decorator("image-folder")
class ImageFolderKind(SourceKind):
    """Any folder that is of no other kind."""

    example = "a folder of images"
    catch_all = True

    @classmethod
    def opens(cls, path: Path) -> bool:
        return path.is_dir()

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        return FolderSource(text, size=size)
