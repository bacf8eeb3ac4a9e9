"""Faces named by a list: a CSV or TSV of paths and labels, or MXNet's .lst, with the images beside it."""

import csv
from pathlib import Path

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size
from facekd.data.encoded_source import FileImages, label_of, same_kind
from facekd.data.image_files import SUFFIXES
from facekd.data.image_list import text_lines
from facekd.data.source import ALIGNED_SIZE, Source
from facekd.data.sources import SOURCES, SourceKind

SUFFIXES_OF_LISTS = (".csv", ".tsv", ".lst")
PATH_HEADINGS = ("path", "image", "image_path", "img", "file", "filename", "file_name", "image_id", "name")
LABEL_HEADINGS = ("label", "identity", "identity_id", "id", "person", "person_id", "class", "target", "subject")


class ListedImages(FileImages):
    """The images that a list names, relative to the list's folder or to `root`.

    With a heading, the columns are chosen by their names; without one, a line is `path label`, `label path` or .lst's
    `number label path`: the path is the field that ends like an image.
    """

    def __init__(
        self, path: str | Path, *, size: tuple[int, int] | None = ALIGNED_SIZE, root: str | Path | None = None
    ) -> None:
        """
        Args:
            path: the list, in UTF-8 or UTF-16; fields separated by commas, tabs or semicolons.
            size: (height, width) every image must have; None admits any.
            root: folder that its paths are relative to; default: that of the list.

        Raises:
            UsageError: there is no list, or no folder.
            FacekdError: it is no list of paths and labels, or none of its images is there.
        """
        self.path, self.size = Path(path), size
        if not self.path.is_file():
            raise UsageError(f"no list at {self.path}")
        self.root = Path(root) if root is not None else self.path.parent
        if not self.root.is_dir():
            raise UsageError(f"no folder of images at {self.root}")
        check_not_a_stand_in(self.path, "a list of images")
        self.name = self.path.stem
        self.broken = []
        rows = _rows(self.path)
        path_at, label_at, start = _columns(self.path, rows)
        self.files = []
        values: list[int | str] = []
        missing: list[str] = []
        for number, fields in rows[start:]:
            where = f"line {number}"
            if len(fields) <= max(path_at, label_at):
                self.broken.append((where, f"{len(fields)} fields: too few"))
                continue
            try:
                label = label_of(fields[label_at])
            except ValueError as error:
                self.broken.append((where, str(error)))
                continue
            if not (self.root / fields[path_at]).is_file():
                missing.append(fields[path_at])
                self.broken.append((fields[path_at], "no such file"))
                continue
            self.files.append(fields[path_at])
            values.append(label)
        if missing and not self.files:
            raise FacekdError(
                f"none of the {len(missing):,} images of {self.path} is in {self.root}, the first {missing[0]}: give "
                f"their folder with image-list:{self.path},root=FOLDER"
            )
        self.label_by(same_kind(values))
        self.require_images(self.path)
        check_first_size(self.path, self.encoded, len(self), size)

    def fingerprint(self) -> str:
        return parts_sha256("list", "\0".join(self.files), self.file_sizes(), self.labels)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that holds any."""
    lines = text_lines(path)
    first = next((line for line in lines if line.strip()), "")
    separator = next((mark for mark in ("\t", ",", ";") if mark in first), None)
    if separator is None:
        raise FacekdError(
            f"{path} is no list of images: its first line, {first[:60]!r}, has no tab, comma or semicolon between a "
            "path and a label"
        )
    rows = []
    for number, fields in enumerate(csv.reader(lines, delimiter=separator), 1):
        if any(field.strip() for field in fields):
            rows.append((number, [field.strip() for field in fields]))
    return rows


def _columns(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[int, int, int]:
    """Where path and label stand in a line, and the first line that is no heading."""
    first = [field.lower() for field in rows[0][1]]
    is_image = [field.endswith(SUFFIXES) for field in first]
    if any(is_image):
        path_at = is_image.index(True)
        others = [at for at in range(len(first)) if at != path_at]
        # .lst: number, label, path. Anything else: the label is beside the path.
        if not others:
            raise FacekdError(f"{path}: its first line, {rows[0][1][0][:60]!r}, has a path and no label")
        label_at = path_at - 1 if path_at > 0 else others[0]
        return path_at, label_at, 0
    path_at = next((first.index(name) for name in PATH_HEADINGS if name in first), -1)
    label_at = next(
        (first.index(name) for name in LABEL_HEADINGS if name in first and first.index(name) != path_at), -1
    )
    if path_at < 0 or label_at < 0:
        raise FacekdError(
            f"{path}: its first line, {', '.join(rows[0][1])[:80]!r}, has neither an image's path nor known headings: "
            f"one of {', '.join(PATH_HEADINGS[:4])}, ... and one of {', '.join(LABEL_HEADINGS[:4])}, ..."
        )
    return path_at, label_at, 1


@SOURCES.decorator("image-list")
class ImageListKind(SourceKind):
    """A .csv, .tsv or .lst; `image-list:LIST,root=FOLDER` where the images are elsewhere."""

    example = "a .csv or .lst of paths and labels"

    @classmethod
    def opens(cls, path: Path) -> bool:
        return path.is_file() and path.suffix.lower() in SUFFIXES_OF_LISTS

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        path, *options = text.split(",")
        chosen = dict(option.partition("=")[::2] for option in options)
        if unknown := sorted(set(chosen) - {"root"}):
            raise UsageError(f"image-list:{text}: unknown option {unknown[0]}; valid is root=FOLDER")
        return ListedImages(path, size=size, root=chosen.get("root"))
