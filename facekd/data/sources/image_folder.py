"""A folder with one folder of images an identity, as a Source."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size, decode_image
from facekd.data.image_files import file_size, in_words, is_folder, list_images, read_image_file, visible_entries
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind


class FolderSource:
    """Images in folder/identity/; identities and images in sorted order of their names.

    A file is an image by what it holds, whatever its name. Hidden files and folders are left out, and so are identity
    folders without an image (`empty_identities` lists them).

    Attributes:
        broken: (key, why) of the files in identity folders that are no images.
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
        self.broken: list[tuple[str, str]] = []
        labels: list[int] = []
        sizes: list[int] = []
        for identity in visible_entries(self.path):
            if not is_folder(identity):
                continue
            files = list_images(Path(identity.path), below=False)
            self.broken += [(f"{identity.name}/{name}", why) for name, why in files.passed_over]
            if not files.images:
                self.empty_identities.append(identity.name)
                continue
            labels += [len(self.identities)] * len(files.images)
            sizes += [file_size(self.path / identity.name / image) for image in files.images]
            self._files += [f"{identity.name}/{image.name}" for image in files.images]
            self.identities.append(identity.name)
        if not self._files:
            loose = list_images(self.path, below=False).images
            hint = f"it holds images itself, such as {loose[0]}: " if loose else ""
            if self.broken:
                hint = f"it holds {', '.join(in_words(self.broken))}: "
            raise FacekdError(
                f"{self.path} holds no identity folder with images: {hint}put each person's images into a folder of "
                "their own"
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
        return read_image_file(self.path / self._files[i], self._files[i])

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
