"""Faces without identities, for distillation alone: any folder of aligned images, or another source without its labels.

Each image counts as a person of its own, so a loss that asks who is who finds no two images of one person. A recipe for
such faces has `head.weight: 0`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size
from facekd.data.encoded_source import FileImages
from facekd.data.image_files import in_words, list_images
from facekd.data.source import ALIGNED_SIZE, Source
from facekd.data.sources import SOURCES, SourceKind, find_source


class UnlabelledImages(FileImages):
    """The images of a folder and of the folders in it, in sorted order of their paths."""

    def __init__(self, path: str | Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> None:
        """
        Args:
            path: the folder.
            size: (height, width) every image must have; None admits any.

        Raises:
            UsageError: there is no such folder, or no image in it.
            FacekdError: its images are of another size.
        """
        self.root, self.size = Path(path), size
        if not self.root.is_dir():
            raise UsageError(f"no folder at {self.root}: give a folder of aligned faces, or another source")
        files = list_images(self.root)
        if not files.images:
            there = f": it holds {', '.join(in_words(files.passed_over))}" if files.passed_over else ""
            raise UsageError(f"folder {self.root} holds no image{there}")
        self.files = [image.as_posix() for image in files.images]
        self.broken = list(files.passed_over)
        self.name = self.root.resolve().name
        self.labels = np.arange(len(self.files), dtype=np.int64)
        self.num_identities = len(self.files)
        check_first_size(self.root, self.encoded, len(self), size)

    def fingerprint(self) -> str:
        return parts_sha256("unlabelled", "\0".join(self.files), self.file_sizes())


class WithoutLabels:
    """Another source whose labels are not looked at."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = source.name
        self.labels = np.arange(len(source), dtype=np.int64)
        self.num_identities = len(source)

    def __len__(self) -> int:
        return len(self.source)

    def key(self, i: int) -> str:
        return self.source.key(i)

    def read(self, i: int) -> np.ndarray:
        return self.source.read(i)

    def check(self) -> Iterator[tuple[str, str]]:
        """See the source's own."""
        check = getattr(self.source, "check", None)
        if check is not None:
            yield from check()

    def fingerprint(self) -> str:
        return parts_sha256("without labels", self.source.fingerprint())


@SOURCES.decorator("unlabelled")
class UnlabelledKind(SourceKind):
    """`unlabelled:FOLDER`, or `unlabelled:` and whatever opens another source."""

    example = "unlabelled:FOLDER"

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        if (found := find_source(text)) is not None:
            return WithoutLabels(found[0].open(found[1], size=size))
        return UnlabelledImages(text, size=size)
