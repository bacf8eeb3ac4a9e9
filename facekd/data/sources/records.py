"""Faces in RecordIO, the format of MS1MV2, MS1MV3 and Glint360K, as a source to train from.

InsightFace's layout: key 0 has flag 2 and label (id0, id_end); images are keys 1 .. id0 - 1; keys id0 .. id_end - 1 are
identity records without an image. A file from plain im2rec has no such header: every key is an image.
"""

import contextlib
import logging
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from facekd.common.errors import FacekdError
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size, decode_image
from facekd.data.recordio import EXACT_FLOAT32, HEADER_BYTES, RecordFile
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind

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
        """Opens a .rec file, or a folder that holds train.rec or a single .rec of another name.

        Args:
            path: the file or folder.
            index_path: the .idx, where it does not lie beside the .rec.
            size: (height, width) every image must have; None admits any.
        """
        path = records_in(Path(path)) or Path(path) / "train.rec" if Path(path).is_dir() else Path(path)
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
        check_first_size(path, self.encoded, len(self), size)

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
        for at in np.flatnonzero(usable & (labels < 0)):
            self.broken.append((str(self._file.keys[positions[at]]), f"its label is {labels[at]:g}: no identity"))
        usable &= ~(labels < 0)
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


def records_in(folder: Path) -> Path | None:
    """The .rec of a folder: train.rec, or the only one; None where there is none or one must choose."""
    if (folder / "train.rec").is_file():
        return folder / "train.rec"
    found = sorted(folder.glob("*.rec")) if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


@SOURCES.decorator("records")
class RecordsKind(SourceKind):
    """A .rec file, or a folder that holds train.rec or a single .rec of another name."""

    example = "a .rec file"

    @classmethod
    def opens(cls, path: Path) -> bool:
        return (path.suffix == ".rec" and path.is_file()) or records_in(path) is not None

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        return RecordReader(text, size=size)
