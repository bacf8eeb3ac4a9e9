"""A folder with one folder of images an identity, as a Source."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size, decode_image
from facekd.data.image_files import file_size, is_folder, list_images, read_image_file, visible_entries
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind
from facekd.data.unread import no_identity_folders

SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing", "eval"))
"""Names of the parts of a data set, which are nobody's."""

logger = logging.getLogger("facekd")


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
            raise no_identity_folders(self.path, self.broken)
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


def training_split(folder: Path) -> Path | None:
    """The part to train on of a folder of nothing but parts (train, val, test), each with a folder a person."""
    if not folder.is_dir():
        return None
    folders = [entry.name for entry in visible_entries(folder) if is_folder(entry)]
    parts = [name for name in ("train", "training") if name in folders]
    if not parts or not {name.lower() for name in folders} <= SPLITS:
        return None
    inner = visible_entries(folder / parts[0])
    people = [entry for entry in inner if is_folder(entry)]
    return folder / parts[0] if people and len(people) == len(inner) else None


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
        split = training_split(Path(text))
        if split is not None:
            logger.warning("%s: its folder %s is taken, the others are left for evaluation", text, split.name)
        return FolderSource(split or text, size=size)
