"""The images that `facekd embed` is asked for: files, folders of them, and every data source that facekd opens."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import decode_image
from facekd.data.image_files import file_size, in_words, list_images, read_image_file
from facekd.data.opening import open_source
from facekd.data.source import Source
from facekd.data.sources import find_source, valid_sources


class NamedImages(Protocol):
    """Images in a fixed order.

    Attributes:
        labels: int64 [n], the person on each image as a number; None where nobody says.
        passed_over: (name, why) of what was there and is no image.
    """

    @property
    def labels(self) -> np.ndarray | None: ...

    @property
    def passed_over(self) -> Sequence[tuple[str, str]]: ...

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What image `i` is called in the results."""
        ...

    def read(self, i: int) -> np.ndarray:
        """Image `i` as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        ...

    def fingerprint(self) -> str:
        """sha256 of the names and sizes."""
        ...


class ImageFileList:
    """Files as given, and folders as the image files under them, sorted. Their names are their paths.

    Raises:
        UsageError: a path that is not there, or a folder without images.
    """

    labels: np.ndarray | None = None

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths: list[Path] = []
        self.passed_over: list[tuple[str, str]] = []
        for path in paths:
            if path.is_dir():
                files = list_images(path)
                if not files.images:
                    others = f"; it holds {', '.join(in_words(files.passed_over))}" if files.passed_over else ""
                    raise UsageError(f"folder {path} holds no image{others}")
                self.paths += [path / image for image in sorted(files.images)]
                self.passed_over += [(str(path / name), why) for name, why in files.passed_over]
            elif path.exists():
                self.paths.append(path)
            else:
                raise UsageError(
                    f"image {path} does not exist: give image files, folders of them, or faces as {valid_sources()}"
                )

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        """The path."""
        return str(self.paths[i])

    def read(self, i: int) -> np.ndarray:
        """See NamedImages."""
        return decode_image(read_image_file(self.paths[i]), self.name(i))

    def fingerprint(self) -> str:
        """See NamedImages."""
        sizes = np.array([file_size(path) for path in self.paths], dtype=np.int64)
        return parts_sha256("files", "\0".join(map(str, self.paths)), sizes)


class SourceImages:
    """A data source; an image is called `SPEC:KEY`, as in "faces/train.rec:17".

    Args:
        spec: what it was opened by.
        source: the source.
    """

    def __init__(self, spec: str, source: Source) -> None:
        self._spec, self._source = spec, source
        self.labels: np.ndarray | None = source.labels
        self.passed_over = [(f"{spec}:{key}", why) for key, why in getattr(source, "broken", [])]

    def __len__(self) -> int:
        return len(self._source)

    def name(self, i: int) -> str:
        """See NamedImages."""
        return f"{self._spec}:{self._source.key(i)}"

    def read(self, i: int) -> np.ndarray:
        """See NamedImages."""
        return self._source.read(i)

    def fingerprint(self) -> str:
        """The source's own, with its name."""
        return parts_sha256("source", self._spec, self._source.fingerprint())


class JoinedImages:
    """Several one after the other; where some have labels, the others' are -1."""

    def __init__(self, parts: Sequence[NamedImages]) -> None:
        self._parts = parts
        self._starts = np.array([0, *accumulate(len(part) for part in parts)])
        self.passed_over = [one for part in parts for one in part.passed_over]
        self.labels: np.ndarray | None = None
        if any(part.labels is not None for part in parts):
            self.labels = np.concatenate(
                [np.full(len(part), -1, dtype=np.int64) if part.labels is None else part.labels for part in parts]
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def _find(self, i: int) -> tuple[NamedImages, int]:
        part = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self._parts[part], i - int(self._starts[part])

    def name(self, i: int) -> str:
        """See NamedImages."""
        part, at = self._find(i)
        return part.name(at)

    def read(self, i: int) -> np.ndarray:
        """See NamedImages."""
        part, at = self._find(i)
        return part.read(at)

    def fingerprint(self) -> str:
        """See NamedImages."""
        return parts_sha256("joined", *(part.fingerprint() for part in self._parts))


def open_images(specs: Sequence[str], *, size: tuple[int, int] | None) -> NamedImages:
    """What a user names: image files, folders of images at any depth, and data sources of every kind.

    Args:
        specs: paths, or texts that open a data source (a .rec file, a .faces index, `synthetic:identities=64`).
        size: (height, width) that the images of a source must have; None admits any, to be aligned.

    Raises:
        UsageError: something is not there, or holds no image.
        FacekdError: a source cannot be read.
    """
    parts: list[NamedImages] = []
    files: list[Path] = []
    for spec in specs:
        if find_source(spec) is None:
            files.append(Path(spec))
            continue
        if files:
            parts.append(ImageFileList(files))
            files = []
        parts.append(SourceImages(spec, open_source(spec, size=size)))
    if files:
        parts.append(ImageFileList(files))
    return parts[0] if len(parts) == 1 else JoinedImages(parts)
