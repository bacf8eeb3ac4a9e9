"""Many .rec files as one source, opened in constant time: an index that is memory-mapped, records local or remote.

The index is a folder: index.json (the files with their sizes, where they are read, counts, fingerprint) and arrays:
files.npy uint16, offsets.npy int64, keys.npy and labels.npy int32 (int64 where they must be) [n] each, label_values.npy
int64 [identities]: 18 bytes an image.
It is made once, beside the files (`facekd data index`, facekd.data.index_writer); opening it reads index.json and maps
the rest, so that a worker costs neither time nor memory, whatever n is.
"""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import shown
from facekd.common.writing import FolderKind
from facekd.data.decoding import decode_image
from facekd.data.recordio import HEADER_BYTES, LENGTH_MASK, MAGIC_BYTES
from facekd.data.source import ALIGNED_SIZE, Source, UnreadableImage
from facekd.data.sources import SOURCES, SourceKind
from facekd.data.storage import LocalBytes, RemoteBytes, is_remote, open_bytes

SCHEMA = 1
ARRAYS = ("files", "offsets", "keys", "labels", "label_values")

INDEX_SUFFIX = ".faces"
INDEX_FILE = "index.json"
INDEX = FolderKind(
    "an index of records",
    lambda folder: (
        {INDEX_FILE, *(f"{name}.npy" for name in ARRAYS)}.__contains__ if (folder / INDEX_FILE).is_file() else None
    ),
)


class IndexedRecords:
    """The images of an index as a Source; `labels` is memory-mapped. Picklable: another process maps it again.

    Args:
        path: the index.
        size: (height, width) every image must have; None admits any.
        root: where the .rec files are, in place of what the index says: a folder, or protocol://path.
        cache: folder for blocks of remote files. Default: $FACEKD_RECORD_CACHE, or ~/.cache/facekd/records.
        cache_bytes: how large it may grow. Default: $FACEKD_RECORD_CACHE_BYTES, or 10 GiB.

    Attributes:
        labels: int32 or int64 [n], contiguous over all files.
        label_values: int64 [num_identities], what the files call them.
        broken: (file:key, reason) of the records that were left out when the index was made.

    Raises:
        UsageError: there is no such index, or a file of it is missing.
        FacekdError: it is damaged, or a file has another size than when it was indexed.
    """

    labels: np.ndarray

    def __init__(
        self,
        path: str | Path,
        *,
        size: tuple[int, int] | None = ALIGNED_SIZE,
        root: str | None = None,
        cache: Path | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.size = size
        facts = _read_facts(self.path)
        self.name = self.path.stem
        self.num_identities = int(facts["identities"])
        self.broken: list[tuple[str, str]] = [(key, reason) for key, reason in facts["broken"]]
        self._length, self._fingerprint = int(facts["images"]), str(facts["fingerprint"])
        self._names = [str(file["name"]) for file in facts["files"]]
        self._map_arrays()
        where = root or facts["root"]
        self._bytes: list[LocalBytes | RemoteBytes] = []
        for file in facts["files"]:
            place = _join(where, str(file["name"]), self.path)
            opened = open_bytes(place, cache=cache, cache_bytes=cache_bytes)
            if opened.size != file["size"]:
                raise FacekdError(
                    f"{place} has {opened.size} bytes, {file['size']} when {self.path} was made: index the files again"
                )
            self._bytes.append(opened)

    def __len__(self) -> int:
        return self._length

    def __getstate__(self) -> dict[str, Any]:
        # A memory map pickles as the whole array: 300 MB for each worker of ten million images.
        return {key: value for key, value in self.__dict__.items() if key not in ("labels", "label_values", "_arrays")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map_arrays()

    def key(self, i: int) -> str:
        """File and key in it, such as "train-3.rec:17"."""
        number, key = int(self._arrays["files"][i]), self._arrays["keys"][i]
        return f"{self._names[number]}:{key}" if number < len(self._names) else f"file {number}:{key}"

    def encoded(self, i: int) -> bytes:
        """Image `i` as it is stored (JPEG, PNG). Raises UnreadableImage."""
        try:
            return self._encoded(i)
        except UnreadableImage as error:
            raise UnreadableImage(self.key(i), error.reason) from None

    def read(self, i: int) -> np.ndarray:
        """Image `i` as uint8 RGB [h, w, 3]. Raises UnreadableImage."""
        try:
            return decode_image(self._encoded(i), "", self.size)
        except UnreadableImage as error:  # named only now: making every image's key costs as much as finding it
            raise UnreadableImage(self.key(i), error.reason) from None

    def fingerprint(self) -> str:
        """sha256 (hex) of the files' sizes and of all offsets and labels, as computed when the index was made."""
        return self._fingerprint

    def _encoded(self, i: int) -> bytes:
        """As `encoded`; an error does not name the image."""
        number = int(self._arrays["files"][i])
        if number >= len(self._bytes):
            raise UnreadableImage("", f"the index has {len(self._bytes)} files: it is damaged, index again")
        payload = read_record(self._bytes[number], int(self._arrays["offsets"][i]), "")
        (flag,) = struct.unpack_from("<I", payload) if len(payload) >= HEADER_BYTES else (0,)
        if len(payload) < HEADER_BYTES + 4 * flag:
            raise UnreadableImage("", f"{len(payload)} bytes: too short for the image header")
        return payload[HEADER_BYTES + 4 * flag :]

    def _map_arrays(self) -> None:
        self._arrays = {}
        for name in ARRAYS:
            try:
                self._arrays[name] = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except (OSError, EOFError, ValueError) as error:
                raise FacekdError(f"{self.path}/{name}.npy cannot be read ({error}): index the files again") from None
            expected = self.num_identities if name == "label_values" else self._length
            if self._arrays[name].shape != (expected,):
                raise FacekdError(
                    f"{self.path}/{name}.npy has shape {self._arrays[name].shape}, not ({expected},): index again"
                )
        self.labels, self.label_values = self._arrays["labels"], self._arrays["label_values"]


def read_record(file: LocalBytes | RemoteBytes, offset: int, key: str) -> bytes:
    """The payload of the record at `offset`, split records joined. Raises UnreadableImage with `key`."""
    parts: list[bytes] = []
    while True:
        frame = file.read(offset, offset + 8)
        if len(frame) < 8 or frame[:4] != MAGIC_BYTES:
            raise UnreadableImage(key, f"corrupt: no RecordIO magic at offset {offset}")
        lrec = int.from_bytes(frame[4:], "little")
        cflag, length = lrec >> 29, lrec & LENGTH_MASK
        if cflag not in ((2, 3) if parts else (0, 1)):
            raise UnreadableImage(key, f"corrupt: continuation flag {cflag} at offset {offset}")
        part = file.read(offset + 8, offset + 8 + length)
        if len(part) < length:
            raise UnreadableImage(key, f"truncated: {length} bytes announced at offset {offset}, {len(part)} there")
        parts.append(part)
        if cflag in (0, 3):
            return MAGIC_BYTES.join(parts)
        offset += 8 + (length + 3) // 4 * 4


def _join(root: str, name: str, index: Path) -> str:
    """Where a file is read. Its name comes from the index: it must not lead out of the root."""
    if Path(name).name != name or "\\" in name:
        raise FacekdError(
            f"{index} names the file {shown(name)}, which is not a plain file name: index the files again"
        )
    return f"{root.rstrip('/')}/{name}" if is_remote(root) else str(Path(root) / name)


def _read_facts(path: Path) -> dict[str, Any]:
    if not (path / INDEX_FILE).is_file():
        raise UsageError(f"no index at {path}: make one with `facekd data index FILES.rec --out {path}`")
    try:
        facts: dict[str, Any] = json.loads((path / INDEX_FILE).read_text(encoding="utf-8"))
        schema = facts["schema"]
        files = [(str(file["name"]), int(file["size"])) for file in facts["files"]]
        sound = (
            int(facts["images"]) > 0 and int(facts["identities"]) > 0 and isinstance(facts["root"], str) and bool(files)
        )
        sound = sound and all(len(pair) == 2 for pair in facts["broken"]) and isinstance(facts["fingerprint"], str)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FacekdError(f"{path}/index.json is damaged ({error}): index the files again") from None
    if schema != SCHEMA or not sound:
        raise FacekdError(f"{path} is of schema {schema}, {SCHEMA} is read here: index the files again")
    return facts


@SOURCES.decorator("record-index")
class RecordIndexKind(SourceKind):
    """A folder whose name ends in .faces."""

    example = "an index of records (.faces)"

    @classmethod
    def opens(cls, path: Path) -> bool:
        return path.suffix == INDEX_SUFFIX

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        return IndexedRecords(text, size=size)
