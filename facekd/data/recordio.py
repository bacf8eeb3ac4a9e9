"""RecordIO framing (dmlc-core, without mxnet): the index, the records, what is broken and why.

A record is two little-endian uint32 (magic, then cflag << 29 | length) and the payload, padded to four bytes. A payload
that holds the magic at a multiple of four is split there: cflag 1 starts it, 2 continues, 3 ends, and the reader puts
the four magic bytes back between the parts. The .idx beside it is text: key TAB offset.
"""

import contextlib
import logging
import mmap
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.file_kind import check_not_a_stand_in
from facekd.data.source import UnreadableImage

MAGIC = 0xCED7230A
MAGIC_BYTES = MAGIC.to_bytes(4, "little")
LENGTH_MASK = (1 << 29) - 1
HEADER_BYTES = 24  # struct <IfQQ: flag, label, id, id2
EXACT_FLOAT32 = 1 << 24  # labels and key ranges are float32 in the file: exact whole numbers up to here
_FRAME = struct.Struct("<II")

_CHECK_ALL_BELOW = 300_000  # above it the index is checked on a sample: a full check would read a whole 100 GB file
_SAMPLE = 4096
_RELEASE_AFTER_BYTES = 64 << 20

logger = logging.getLogger("facekd")


class RecordFile:
    """One .rec by memory map, with its index. Picklable; a forked or spawned worker maps the file again by itself.

    Attributes:
        path: the .rec file.
        keys: int64 [n], as the index names the records.
        offsets: int64 [n], in bytes.
        size: of the file, in bytes.
        index_rebuilt: why the index was rebuilt by scanning, or None when the .idx was good.
    """

    def __init__(self, path: str | Path, index_path: str | Path | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"no record file at {self.path}: give an existing .rec file")
        self.size = self.path.stat().st_size
        if self.size < 8:
            raise FacekdError(f"{self.path} holds {self.size} bytes and no record: copy the .rec again")
        self._map: mmap.mmap | None = None
        self._touched = 0
        index = Path(index_path) if index_path is not None else self.path.with_suffix(".idx")
        self.index_rebuilt: str | None = None
        loaded = _load_index(index)
        if isinstance(loaded, str):
            self.index_rebuilt = loaded
        else:
            self.keys, self.offsets = loaded
            self.index_rebuilt = self._stale(index)
        if self.index_rebuilt is not None:
            logger.warning("%s; rebuilt by scanning %s", self.index_rebuilt, self.path)
            self.offsets = np.array(list(self._scan()), dtype=np.int64)
            if len(self.offsets) == 0:
                check_not_a_stand_in(self.path, "a RecordIO file")
                raise FacekdError(f"{self.path} holds no record: it does not contain the RecordIO magic 0xced7230a")
            self.keys = self._keys_of_scan()

    def __len__(self) -> int:
        return len(self.offsets)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_touched": 0}

    def payload(self, position: int) -> bytes:
        """The whole payload of record `position`, split records joined. Raises UnreadableImage with its key."""
        data, offset = self._mapped(), int(self.offsets[position])
        if 0 <= offset <= self.size - 8:
            magic, length = _FRAME.unpack_from(data, offset)
            start = offset + 8
            if magic == MAGIC and start + length <= self.size:  # sound and not split: cflag, above LENGTH_MASK, is 0
                self._touched += length
                return data[start : start + length]
        parts: list[bytes] = []
        for start, length, cflag in self._parts(offset, str(self.keys[position])):
            parts.append(data[start : start + length])
            self._touched += length
            if cflag in (0, 3):
                break
        return parts[0] if len(parts) == 1 else MAGIC_BYTES.join(parts)

    def headers(self, positions: np.ndarray) -> "Headers":
        """Frame and image headers of many records at once, no payload copied."""
        return Headers(self._words(), self.offsets[positions], self.size)

    def _parts(self, offset: int, key: str) -> Iterator[tuple[int, int, int]]:
        """(payload start, length, cflag) of every part of the record at `offset`."""
        data, first = self._mapped(), True
        while True:
            if offset < 0 or offset + 8 > self.size:
                raise UnreadableImage(key, f"truncated: the file ends at {self.size}, the record is at {offset}")
            if data[offset : offset + 4] != MAGIC_BYTES:
                raise UnreadableImage(key, f"corrupt: no RecordIO magic at offset {offset}")
            lrec = int.from_bytes(data[offset + 4 : offset + 8], "little")
            cflag, length = lrec >> 29, lrec & LENGTH_MASK
            if cflag not in ((0, 1) if first else (2, 3)):
                raise UnreadableImage(key, f"corrupt: continuation flag {cflag} at offset {offset}")
            if offset + 8 + length > self.size:
                raise UnreadableImage(
                    key, f"truncated: {length} bytes announced at offset {offset}, the file ends at {self.size}"
                )
            yield offset + 8, length, cflag
            offset, first = offset + 8 + _padded(length), False

    def _end(self, position: int) -> int | None:
        """Offset just behind record `position`; None when it is broken."""
        try:
            for start, length, cflag in self._parts(int(self.offsets[position]), ""):
                if cflag in (0, 3):
                    return start + int(_padded(length))
        except UnreadableImage:
            pass
        return None

    def _stale(self, index: Path) -> str | None:
        """Why the loaded index does not belong to this file, or None.

        A wrong index and a damaged file are told apart by the neighbours: where a sound record ends and the file goes
        on with a record that the index does not name, the index is wrong; a record that is damaged in place stays in
        the index and is reported with its key when it is read.
        """
        if len(np.unique(self.keys)) < len(self.keys):
            return f"{index} is stale: it names a key twice"
        order = np.argsort(self.offsets, kind="stable")
        offsets = self.offsets[order]
        if offsets[0] != 0:
            return f"{index} is stale: its first record is at offset {offsets[0]}, not 0"
        if (np.diff(offsets) <= 0).any() or (offsets % 4).any():
            return f"{index} is stale: its offsets overlap"
        inside = int(np.searchsorted(offsets, self.size - 7))
        count = len(offsets)
        every = count <= _CHECK_ALL_BELOW
        sample = np.arange(inside) if every else np.linspace(0, inside - 1, _SAMPLE).astype(np.int64)
        found = self.headers(order[sample])
        if found.magic.sum() * 2 < len(sample):
            return f"{index} is stale: {len(sample) - found.magic.sum()} of {len(sample)} offsets are not at a record"
        following = np.append(offsets[1:], self.size)[sample]
        if inside < count:  # what is beyond the end follows nothing in the file
            following[sample == inside - 1] = self.size
        for at in np.flatnonzero(found.magic & ((found.ends != following) | (found.cflag != 0))):
            end = self._end(int(order[sample[at]]))
            if end is None or end == following[at]:
                continue
            if end + 8 <= self.size and self._mapped()[end : end + 4] == MAGIC_BYTES:
                return f"{index} is stale or cut short: the record at offset {end} is not in it"
        if inside < count and self._end(int(order[inside - 1])) == self.size:
            return f"{index} is stale: {count - inside} of {count} offsets are beyond the end of the file"
        return None

    def _scan(self) -> Iterator[int]:
        """Offsets of all records, in file order; damaged stretches are skipped up to the next sound record."""
        data, offset = self._mapped(), 0
        while offset + 8 <= self.size:
            if data[offset : offset + 4] != MAGIC_BYTES:
                offset = self._resume(offset)
                continue
            try:
                for start, length, cflag in self._parts(offset, str(offset)):
                    end = start + _padded(length)
                    if cflag in (0, 3):
                        break
            except UnreadableImage:
                resumed = self._resume(offset + 4)
                if resumed < self.size:
                    logger.warning("%s: bytes %d to %d are damaged", self.path, offset, resumed)
                yield offset  # kept, so that it is reported as broken when it is read
                offset = resumed
                continue
            yield offset
            self._touched += end - offset
            offset = end

    def _resume(self, offset: int) -> int:
        """The next offset where a record can start: the magic, aligned, with a start flag and a length in the file."""
        data = self._mapped()
        while (offset := data.find(MAGIC_BYTES, offset)) >= 0:
            if offset % 4 == 0 and offset + 8 <= self.size:
                lrec = int.from_bytes(data[offset + 4 : offset + 8], "little")
                if lrec >> 29 in (0, 1) and offset + 8 + (lrec & LENGTH_MASK) <= self.size:
                    return offset
            offset += 4
        return self.size

    def _keys_of_scan(self) -> np.ndarray:
        """A record's own id where every one has its own (im2rec and InsightFace write the key there), else its rank."""
        found = self.headers(np.arange(len(self.offsets)))
        rank = np.arange(len(self.offsets), dtype=np.int64)
        if found.whole.all() and len(np.unique(found.id)) == len(found.id):
            return found.id
        return rank

    def _mapped(self) -> mmap.mmap:
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        elif self._touched > _RELEASE_AFTER_BYTES:
            self._release()
        return self._map

    def _words(self) -> np.ndarray:
        return np.frombuffer(self._mapped(), dtype="<u4", count=self.size // 4)

    def _release(self) -> None:
        """Unmaps what was touched (the page cache keeps it): resident memory must not grow to the file's size."""
        self._touched = 0
        if self._map is not None and hasattr(mmap, "MADV_DONTNEED"):
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_DONTNEED)


class Headers:
    """Frame and image headers of records, as arrays of one length.

    Attributes:
        magic: bool, the frame's magic is there.
        cflag, length: of the (first) frame; 0 where the magic is not there.
        short: bool, a split record whose first frame ends inside the image header: read it from the joined payload.
        ends: int64, offset behind the first frame, padding included.
        whole: bool, the first frame lies in the file and is large enough for the image header and its labels.
        flag, label, id: of the image header (0 where not whole); label is label[0] where the header carries an array.
        image_bytes: int64, what the first frame holds behind header and labels.
    """

    def __init__(self, words: np.ndarray, offsets: np.ndarray, size: int) -> None:
        def word(k: int, admitted: np.ndarray) -> np.ndarray:
            at = offsets // 4 + k
            out = np.zeros(len(offsets), dtype=np.uint32)
            admitted = admitted & (offsets >= 0) & (at < len(words))
            out[admitted] = words[at[admitted]]
            return out

        self.magic = (word(0, np.ones(len(offsets), dtype=bool)) == MAGIC) & (offsets + 8 <= size)
        lrec = word(1, self.magic)
        self.cflag = (lrec >> 29).astype(np.int64)
        self.length = (lrec & LENGTH_MASK).astype(np.int64)
        self.ends = offsets + 8 + _padded(self.length)
        inside = self.magic & (offsets + 8 + self.length <= size) & (self.cflag <= 1)
        self.short = inside & (self.cflag == 1) & (self.length < HEADER_BYTES)
        fits = inside & (self.length >= HEADER_BYTES)
        self.flag = word(2, fits).astype(np.int64)
        self.image_bytes = self.length - HEADER_BYTES - 4 * self.flag
        self.short |= fits & (self.cflag == 1) & (self.image_bytes < 0)
        self.whole = fits & (self.image_bytes >= 0)
        several = self.whole & (self.flag > 0)
        self.label = np.where(several, word(8, several), word(3, self.whole)).view(np.float32)
        self.id = word(4, self.whole).astype(np.int64) | (word(5, self.whole).astype(np.int64) << 32)


def _padded(length: Any) -> Any:
    return (length + 3) // 4 * 4


def _load_index(path: Path) -> tuple[np.ndarray, np.ndarray] | str:
    """(keys, offsets), or why there is none. Parsed at once: np.loadtxt takes minutes for millions of lines."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            values = np.fromstring(text, dtype=np.int64, sep=" ") if text.strip() else np.empty(0, dtype=np.int64)
        except ValueError:
            values = np.empty(0, dtype=np.int64)
    if len(values) == 0 or len(values) != 2 * lines:
        return f"{path} is not a list of key TAB offset lines"
    keys, offsets = values.reshape(-1, 2).T
    return np.ascontiguousarray(keys), np.ascontiguousarray(offsets)
