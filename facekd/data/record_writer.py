"""Writes faces as RecordIO in InsightFace's layout, which `facekd.data.sources.records` describes and reads."""

import contextlib
import os
import re
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from facekd.common.errors import FacekdError, UsageError
from facekd.common.parent_folders import parent_folders
from facekd.common.writing import WriteError, temporary_file
from facekd.data.recordio import EXACT_FLOAT32, LENGTH_MASK, MAGIC, MAGIC_BYTES
from facekd.data.source import ALIGNED_SIZE


class RecordWriter:
    """Writes .rec, .idx and `property` in InsightFace's layout. Nothing appears under the final names before the end.

    Use as a context manager; an exception inside it leaves what was there before untouched. Images of one identity
    must follow each other, because an identity record names a range of keys.
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int] = ALIGNED_SIZE, overwrite: bool = False) -> None:
        """
        Args:
            path: the .rec to write; its folder is made.
            size: (height, width), for the `property` file.
            overwrite: replace what is there.
        """
        self.path = Path(path)
        if self.path.suffix != ".rec":
            raise UsageError(f"cannot write records to {path}: the name must end in .rec")
        properties = "property" if self.path.stem == "train" else f"{self.path.stem}.property"
        self._targets = [self.path.with_suffix(".idx"), self.path.with_name(properties), self.path]  # .rec last
        self._overwrite = overwrite
        self._check_targets()
        self.size = size
        self._offsets: list[int] = []
        self._ranges: list[tuple[int, int, int]] = []  # label, first key, key behind the last
        self._seen: set[int] = set()
        self._open = contextlib.ExitStack()
        self._rec: BinaryIO | None = None

    def __enter__(self) -> "RecordWriter":
        try:
            self._open.enter_context(parent_folders(self.path))
            opened = [self._open.enter_context(temporary_file(target)) for target in self._targets]
        except OSError as error:
            self._open.close()
            raise WriteError(f"cannot write to {self.path.parent}: {error.strerror}") from None
        self._files = [file for file, _ in opened]
        self._temporary = [temporary for _, temporary in opened]
        self._rec = self._files[2]
        self._record(struct.pack("<IfQQff", 2, 0.0, 0, 0, 0.0, 0.0))  # its range is known at the end
        return self

    def write(self, label: int, image: bytes) -> int:
        """Adds one encoded image (JPEG, PNG) of identity `label`; returns its key."""
        if label != int(label) or not 0 <= label <= EXACT_FLOAT32:
            raise UsageError(f"label {label} cannot be stored: labels are whole numbers from 0 to {EXACT_FLOAT32}")
        key = len(self._offsets)
        if self._ranges and self._ranges[-1][0] == label:
            self._ranges[-1] = (label, self._ranges[-1][1], key + 1)
        elif label in self._seen:
            raise UsageError(f"images of identity {label} are not together: write one identity after the other")
        else:
            self._ranges.append((label, key, key + 1))
            self._seen.add(label)
        self._record(struct.pack("<IfQQ", 0, float(label), key, 0) + image)
        return key

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._rec is not None
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise WriteError(f"cannot write {self.path}: {failure.strerror}") from None
        finally:
            with contextlib.suppress(OSError):  # of a full disk: closing writes what is buffered once more
                self._open.close()

    def _check_targets(self) -> None:
        for target in self._targets:
            _check_target(target, overwrite=self._overwrite)

    def _finish(self) -> None:
        assert self._rec is not None
        if not self._ranges:
            raise FacekdError(f"nothing to write to {self.path}: no image was given")
        id0 = len(self._offsets)
        for _, first, end in self._ranges:
            self._record(struct.pack("<IfQQff", 2, 0.0, len(self._offsets), 0, first, end))
        self._rec.seek(0)
        self._frame(0, struct.pack("<IfQQff", 2, 0.0, 0, 0, id0, len(self._offsets)))
        index = "".join(f"{key}\t{offset}\n" for key, offset in enumerate(self._offsets))
        self._files[0].write(index.encode())
        self._files[1].write(f"{len(self._ranges)},{self.size[0]},{self.size[1]}\n".encode())
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
        self._check_targets()  # it may have taken hours
        for temporary, target in zip(self._temporary, self._targets, strict=True):
            temporary.replace(target)

    def _record(self, payload: bytes) -> None:
        """One record; split where the magic stands at a multiple of four, as dmlc-core's RecordIOWriter does."""
        assert self._rec is not None
        self._offsets.append(self._rec.tell())
        start, at = 0, payload.find(MAGIC_BYTES)
        while at >= 0:
            if at % 4 == 0 and at + 4 <= len(payload):
                self._frame(1 if start == 0 else 2, payload[start:at])
                start = at + 4
            at = payload.find(MAGIC_BYTES, at + (4 if at % 4 == 0 else 1))
        self._frame(3 if start else 0, payload[start:])

    def _frame(self, cflag: int, part: bytes) -> None:
        assert self._rec is not None
        if len(part) > LENGTH_MASK:
            raise UsageError(f"a record of {len(part)} bytes cannot be stored: at most {LENGTH_MASK}")
        try:
            self._rec.write(struct.pack("<II", MAGIC, cflag << 29 | len(part)) + part + b"\0" * (-len(part) % 4))
        except OSError as error:
            raise WriteError(f"cannot write {self.path}: {error.strerror}; what was written is removed") from None


def _check_target(path: Path, *, overwrite: bool) -> None:
    """Refuses a name that is taken; with `overwrite`, all that does not look like a file of records."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: choose another name")
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise UsageError(f"{path} exists: choose another name, or overwrite it with --overwrite")
    records = rb"(" + re.escape(MAGIC_BYTES) + rb".*)?"
    pattern = {".rec": records, ".idx": rb"([0-9]+\t[0-9]+\n.*)?"}.get(path.suffix, rb"[0-9,\s]*")
    if not path.is_symlink() and (not path.is_file() or not re.fullmatch(pattern, _start(path), re.DOTALL)):
        raise UsageError(f"{path} is not what facekd or InsightFace writes under this name, so it is never replaced")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
