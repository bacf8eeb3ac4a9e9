"""What a file really is, by its first bytes: a name says what somebody meant it to be.

A Git LFS pointer or a web page that says "quota exceeded" stands in for a model more often than a damaged model does.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from facekd.common.errors import FacekdError

HEAD_BYTES = 512
"""As many are looked at."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    Attributes:
        name: in words, with its article.
        is_image: whether it is a picture, read here or not.
        stands_in: what to do where it stands in for another file; None where it does not.
    """

    name: str
    is_image: bool = False
    stands_in: str | None = None


JPEG = FileKind("a JPEG", is_image=True)
PNG = FileKind("a PNG", is_image=True)
BMP = FileKind("a BMP", is_image=True)
WEBP = FileKind("a WebP", is_image=True)
HEIC = FileKind("a HEIC", is_image=True)
AVIF = FileKind("an AVIF", is_image=True)
EMPTY = FileKind("empty", stands_in="get the file again")

_BRANDS = {
    HEIC: {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"},
    AVIF: {b"avif", b"avis"},
}

_STARTS: tuple[tuple[bytes, FileKind], ...] = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"BM", BMP),
    (b"GIF8", FileKind("a GIF", is_image=True)),
    (b"II*\0", FileKind("a TIFF", is_image=True)),
    (b"MM\0*", FileKind("a TIFF", is_image=True)),
    (b"\0\0\0\x0cjP  ", FileKind("a JPEG 2000", is_image=True)),
    (b"\0\0\0\x0cJXL ", FileKind("a JPEG XL", is_image=True)),
    (b"version https://git-lfs", FileKind("a Git LFS pointer", stands_in="get the file itself with `git lfs pull`")),
    (b"%PDF", FileKind("a PDF")),
    (b"PK\x03\x04", FileKind("a ZIP archive, as PyTorch's checkpoints are")),
    (b"\x1f\x8b", FileKind("a gzip archive")),
    (b"\x80\x02", FileKind("a pickle")),
    (b"\x80\x03", FileKind("a pickle")),
    (b"\x80\x04", FileKind("a pickle")),
    (b"\x80\x05", FileKind("a pickle")),
    (b"\x89HDF", FileKind("an HDF5 file")),
    (b"\x0a\x23\xd7\xce", FileKind("a RecordIO file")),
    (b"SQLite format 3", FileKind("an SQLite database")),
)

_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head|<\?xml|<!--)", re.IGNORECASE)


def kind_of(head: bytes) -> FileKind | None:
    """The kind of a file that starts with these bytes; None where it is not known."""
    if not head:
        return EMPTY
    if head[4:8] == b"ftyp":
        brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(int.from_bytes(head[:4], "big"), 64), 4))}
        for kind in (AVIF, HEIC):
            if brands & _BRANDS[kind]:
                return kind
        return FileKind("a film")
    if head[:4] == b"RIFF":
        return WEBP if head[8:12] == b"WEBP" else FileKind("a sound or film")
    if head[4:8] == b"TFL3":
        return FileKind("a TFLite model")
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if _PAGE.match(head):
        return FileKind("a web page", stands_in="it was saved in place of the file: download the file again")
    return None


def kind_of_file(path: Path) -> FileKind | None:
    """The kind of a file. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return kind_of(file.read(HEAD_BYTES))


def check_not_a_stand_in(path: Path, wanted: str, *, empty: bool = True) -> None:
    """Refuses an empty file, a Git LFS pointer or a web page where something else was meant to be.

    Args:
        path: a file that is there.
        wanted: what it was meant to be, with its article: "an ONNX model".
        empty: refuse an empty file too; False where a hash that is compared next says that it was changed.

    Raises:
        FacekdError: it is one of these; says which, and what to do.
    """
    try:
        kind = kind_of_file(path) if path.is_file() else None
    except OSError as error:
        raise FacekdError(f"{path} cannot be read: {error.strerror or error}") from None
    if kind is not None and kind.stands_in is not None and (empty or kind is not EMPTY):
        raise FacekdError(f"{path} is {kind.name}, not {wanted}: {kind.stands_in}")
