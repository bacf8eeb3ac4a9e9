"""A list of image files as a benchmark publishes it: aligned crops, or photographs with five landmarks each."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.data.alignment import align
from facekd.data.decoding import decode_image
from facekd.data.image_files import read_image_file
from facekd.data.source import ALIGNED_SIZE


class ImageList(Sequence[np.ndarray]):
    """Aligned images, read and warped when asked for.

    Args:
        root: folder that the names are relative to.
        names: one a file, with forward slashes.
        landmarks: [n, 5, 2] in pixels of the photographs, or None where the files are aligned crops already.
        size: (height, width) of the images this sequence gives; a square where there are landmarks.
    """

    def __init__(
        self,
        root: Path,
        names: Sequence[str],
        *,
        landmarks: np.ndarray | None = None,
        size: tuple[int, int] = ALIGNED_SIZE,
    ) -> None:
        if landmarks is not None and landmarks.shape != (len(names), 5, 2):
            raise FacekdError(f"{root}: {len(names)} images need landmarks [{len(names)}, 5, 2], got {landmarks.shape}")
        if landmarks is not None and size[0] != size[1]:
            raise UsageError(f"the model takes {size[0]}x{size[1]}: photographs are aligned to squares only")
        self.root = root
        self.names = names
        self.landmarks = landmarks
        self.size = size

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        """uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        name = self.names[i]
        data = read_image_file(self.root / name, name)
        if self.landmarks is None:
            return decode_image(data, name, self.size)
        return align(decode_image(data, name), self.landmarks[i], self.size[0])

    def select(self, indices: np.ndarray) -> "ImageList":
        """The images `indices` of this list."""
        landmarks = None if self.landmarks is None else self.landmarks[indices]
        return ImageList(self.root, [self.names[i] for i in indices], landmarks=landmarks, size=self.size)

    def fingerprint(self) -> str:
        """sha256 (hex) of names, file sizes, landmarks and output size: other images or another alignment change it.

        Raises:
            FacekdError: files are missing; says how many and the first.
        """
        sizes = np.zeros(len(self), dtype=np.int64)
        missing = []
        for i, name in enumerate(self.names):
            try:
                sizes[i] = (self.root / name).stat().st_size
            except OSError:
                missing.append(name)
        if missing:
            raise FacekdError(
                f"{len(missing)} of {len(self)} images are not in {self.root}, the first {missing[0]}: "
                "unpack the benchmark's images there"
            )
        landmarks = np.empty(0) if self.landmarks is None else np.asarray(self.landmarks, dtype=np.float32)
        return parts_sha256("image list", "\n".join(self.names), sizes, landmarks, f"{self.size[0]}x{self.size[1]}")


def read_lines(path: Path) -> list[str]:
    """The lines of a published list without their ends and without empty ones.

    Raises:
        UsageError: there is no such file.
        FacekdError: it is not text, or is empty.
    """
    if not path.is_file():
        raise UsageError(f"no list at {path}: give the folder that holds the benchmark as it is published")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise FacekdError(f"{path} cannot be read: {error}") from None
    kept = [line for line in lines if line]
    if not kept:
        raise FacekdError(f"{path} is empty")
    return kept


def text_lines(path: Path) -> list[str]:
    """The lines of a text in UTF-8 or UTF-16, with a byte-order mark or without, as programs save lists.

    Raises:
        FacekdError: it is neither.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return data.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        raise FacekdError(f"{path} is not text in UTF-8 or UTF-16 ({error.reason} at byte {error.start})") from None


def find_names(folder: Path, suffixes: Sequence[str] = (".jpg", ".jpeg", ".png", ".bmp")) -> list[str]:
    """Names of the image files of one folder, sorted."""
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give the folder that holds the benchmark as it is published")
    return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in suffixes)
