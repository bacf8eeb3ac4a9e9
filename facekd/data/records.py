"""Faces in RecordIO, the format of MS1MV2, MS1MV3 and Glint360K: a source to train from, and a writer.

InsightFace's layout: key 0 has flag 2 and label (id0, id_end); images are keys 1 .. id0 - 1; keys id0 .. id_end - 1 are
identity records without an image. A file from plain im2rec has no such header: every key is an image.
"""

import contextlib
import logging
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import parts_sha256
from facekd.common.writing import WriteError, temporary_file
from facekd.data.decoding import decode_image
from facekd.data.recordio import HEADER_BYTES, LENGTH_MASK, MAGIC, MAGIC_BYTES, RecordFile
from facekd.data.source import ALIGNED_SIZE, UnreadableImage

EXACT_FLOAT32 = 1 << 24  # labels and key ranges are float32 in the file: exact whole numbers up to here
_LACKING_LISTED = 1_000_000  # more than these are one entry among the broken: a damaged range may be of 16 million

logger = logging.getLogger("facekd")


class RecordReader:
    """The images of a .rec file as a Source. Labels are read from the headers; nothing is decoded until it is read.

    Attributes:
        labels: int64 [n], the file's labels mapped to 0 .. num_identities - 1 in sorted order.
        label_values: int64 [num_identities], what the file calls them.
        broken: (key, reason) of the records whose frame or header is damaged; they are not among the n images.
        index_rebuilt: why the index was rebuilt by scanning, or None.
    """

    def __init__(
        self, path: str | Path, index_path: str | Path | None = None, *, size: tuple[int, int] | None = ALIGNED_SIZE
    ) -> None:
        """Opens a .rec file, or a folder that holds train.rec.

        Args:
            path: the file or folder.
            index_path: the .idx, where it does not lie beside the .rec.
            size: (height, width) every image must have; None admits any.
        """
        path = Path(path) / "train.rec" if Path(path).is_dir() else Path(path)
        self._file = RecordFile(path, index_path)
        self.path = path
        self.size = size
        self.index_rebuilt = self._file.index_rebuilt
        self.name = path.parent.name if path.stem == "train" and path.parent.name else path.stem
        positions, self.broken = self._image_positions()
        positions, values = self._labels_of(positions)
        if len(positions) == 0:
            raise FacekdError(
                f"{path} holds no image: {len(self._file)} records, {len(self.broken)} of them broken"
                + (f", the first {self.broken[0][0]}: {self.broken[0][1]}" if self.broken else "")
            )
        if self.broken:
            key, reason = self.broken[0]
            logger.warning("%s: %d broken records left out, the first %s: %s", path, len(self.broken), key, reason)
        self._positions = positions
        self.label_values, labels = np.unique(values, return_inverse=True)
        self.labels = labels.astype(np.int64)
        self.num_identities = len(self.label_values)
        self._check_first_size()

    def __len__(self) -> int:
        return len(self._positions)

    def key(self, i: int) -> str:
        return str(self._file.keys[self._positions[i]])

    def encoded(self, i: int) -> bytes:
        """Image `i` as it is stored (JPEG, PNG). Raises UnreadableImage."""
        payload = self._file.payload(int(self._positions[i]))
        (flag,) = struct.unpack_from("<I", payload)
        return payload[HEADER_BYTES + 4 * flag :]

    def read(self, i: int) -> np.ndarray:
        try:
            return decode_image(self.encoded(i), "", self.size)
        except UnreadableImage as error:  # named only now: making every image's key costs 2 % of decoding it
            raise UnreadableImage(self.key(i), error.reason) from None

    def check(self) -> Iterator[tuple[str, str]]:
        """Reads every image and yields (key, reason) of each record that cannot be used."""
        yield from self.broken
        for i in range(len(self)):
            try:
                self.read(i)
            except UnreadableImage as error:
                yield error.key, error.reason

    def table(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(key, offset in the file, label as the file calls it) of every image, int64 [n] each."""
        return (
            self._file.keys[self._positions], self._file.offsets[self._positions], self.label_values[self.labels]
        )  # fmt: skip

    def fingerprint(self) -> str:
        return parts_sha256(
            "records", str(self._file.size), self._file.offsets[self._positions], self.label_values[self.labels]
        )

    def _image_positions(self) -> tuple[np.ndarray, list[tuple[str, str]]]:
        """Positions of the records that are images, and what the header promises but the file lacks."""
        keys = self._file.keys
        everything = np.arange(len(keys))
        zero = np.flatnonzero(keys == 0)
        if len(zero) == 0:
            return everything, []
        header = self._file.headers(zero)
        if not (header.whole[0] and header.flag[0] == 2 and header.image_bytes[0] == 0):
            return everything, []
        end = float(header.label[0])
        if 1 <= end < EXACT_FLOAT32:
            images = np.flatnonzero((keys > 0) & (keys < end))
            lacking = round(end) - 1 - len(images)
            if lacking <= _LACKING_LISTED:
                missing = np.setdiff1d(np.arange(1, round(end)), keys[images])
                return images, [
                    (str(key), "missing: in the file's range of images, not in the file") for key in missing
                ]
            broken = [("0", f"its range of images ends before {end:.0f}: {lacking:,} of them are not in the file")]
        else:  # rounded by float32, or damaged
            broken = [] if EXACT_FLOAT32 <= end < np.inf else [("0", f"its range of images ends before {end}")]
        others = self._file.headers(everything)  # tell images from identity records by what they hold
        return np.flatnonzero((keys != 0) & ~((others.flag == 2) & (others.image_bytes == 0) & others.whole)), broken

    def _labels_of(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Drops records with a damaged frame into `broken`; (positions, whole-number labels int64) of the others."""
        headers = self._file.headers(positions)
        labels, usable = headers.label.astype(np.float64), headers.whole.copy()
        for at in np.flatnonzero(headers.short):  # split inside the header: the magic itself is part of it
            with contextlib.suppress(UnreadableImage):
                payload = self._file.payload(int(positions[at]))
                if len(payload) >= HEADER_BYTES:
                    flag, label = struct.unpack_from("<If", payload)
                    if flag and len(payload) >= HEADER_BYTES + 4 * flag:
                        (label,) = struct.unpack_from("<f", payload, HEADER_BYTES)
                    labels[at], usable[at] = label, True
        for at in np.flatnonzero(~usable):
            self.broken.append((str(self._file.keys[positions[at]]), self._why(int(positions[at]))))
        for at in np.flatnonzero(usable & ~np.isfinite(labels)):
            self.broken.append((str(self._file.keys[positions[at]]), f"its label is {labels[at]}"))
            usable[at] = False
        fractional = np.flatnonzero(usable & (labels != np.round(labels)))
        if len(fractional):
            key = self._file.keys[positions[fractional[0]]]
            raise FacekdError(
                f"{self.path}: label {labels[fractional[0]]} of record {key} is not a whole number: "
                "a set of identities needs one number an identity"
            )
        return positions[usable], labels[usable].astype(np.int64)

    def _why(self, position: int) -> str:
        try:
            payload = self._file.payload(position)
        except UnreadableImage as error:
            return error.reason
        return f"{len(payload)} bytes: too short for the image header" if payload else "0 bytes"

    def _check_first_size(self) -> None:
        """Raises at once when the set is not aligned, rather than once an image."""
        if self.size is None:
            return
        for i in range(min(len(self), 16)):
            try:
                image = decode_image(self.encoded(i), self.key(i))
            except UnreadableImage:
                continue
            height, width = image.shape[:2]
            if (height, width) == tuple(self.size):
                return
            if i == min(len(self), 16) - 1:
                raise FacekdError(
                    f"{self.path} holds {width}x{height} images, not {self.size[1]}x{self.size[0]}: "
                    "run `facekd data align` on the photographs first"
                )


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
        for target in self._targets:
            _check_target(target, overwrite=overwrite)
        self.size = size
        self._offsets: list[int] = []
        self._ranges: list[tuple[int, int, int]] = []  # label, first key, key behind the last
        self._seen: set[int] = set()
        self._open = contextlib.ExitStack()
        self._rec: BinaryIO | None = None

    def __enter__(self) -> "RecordWriter":
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
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
            self._open.close()

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
        self._rec.write(struct.pack("<II", MAGIC, cflag << 29 | len(part)) + part + b"\0" * (-len(part) % 4))


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
