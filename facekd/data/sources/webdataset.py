"""Faces in WebDataset tars, local or by URL: the files of a sample share their name up to the first dot.

Every tar is read through once to index it; images are then byte ranges, so that any order, workers and exact resume
are those of every other source. Nothing is ever unpacked.
"""

import io
import itertools
import json
import logging
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from facekd.common.errors import FacekdError, UsageError, first_line
from facekd.common.hashing import parts_sha256
from facekd.data.decoding import check_first_size
from facekd.data.encoded_source import EncodedSource, label_of, same_kind
from facekd.data.image_files import SUFFIXES
from facekd.data.source import ALIGNED_SIZE, Source
from facekd.data.sources import SOURCES, SourceKind
from facekd.data.storage import LocalBytes, RemoteBytes, is_remote, open_bytes

IMAGES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
LABELS = ("cls", "label", "id", "identity", "cls.txt", "txt")
FIELDS = ("label", "identity", "id", "person", "class", "cls", "name")
"""Of a sample's .json, the first that is there."""
MOST_LABEL_BYTES = 1 << 20

logger = logging.getLogger("facekd")


class WebDatasetSource(EncodedSource):
    """The labelled images of tars.

    A sample's label is in its .cls (or .label, .id, .txt), or in a field of its .json; where no sample has one, the
    name of the folder that holds the sample in the tar.

    Attributes:
        shards: paths or URLs, in order.
    """

    def __init__(self, path: str | Path, *, size: tuple[int, int] | None = ALIGNED_SIZE) -> None:
        """
        Args:
            path: a .tar, a folder of them, or a URL; {000..009} stands for each number.
            size: (height, width) every image must have; None admits any.

        Raises:
            UsageError: there is no tar.
            FacekdError: a tar is damaged or compressed, or no labelled image is in them.
        """
        self.path, self.size = path, size
        self.shards = tar_files(str(path))
        self.name = PurePosixPath(str(path)).name.removesuffix(".tar") or "webdataset"
        self.broken = []
        self._storage: list[LocalBytes | RemoteBytes] = []
        samples: list[_Sample] = []
        for number, shard in enumerate(self.shards):
            storage = open_bytes(shard)
            self._storage.append(storage)
            samples += self._samples(number, shard, storage)
        labelled = any(sample.label is not None or sample.problem is not None for sample in samples)
        if samples and not labelled:
            logger.warning("%s: no sample has a label: the folders in the tars are taken for people", path)
        values: list[int | str] = []
        self._images: list[_Sample] = []
        for sample in samples:
            folder = PurePosixPath(sample.key).parent.name
            label = sample.label if labelled else (folder or None)
            if sample.image is None or label is None:
                missing = "no image" if sample.image is None else (sample.problem or "it has no label")
                self.broken.append((f"{Path(self.shards[sample.shard]).name}: {sample.key}", missing))
                continue
            self._images.append(sample)
            values.append(label)
        self.label_by(same_kind(values))
        self.require_images(path)
        check_first_size(Path(str(path)), self.encoded, len(self), size)

    def _samples(self, number: int, shard: str, storage: LocalBytes | RemoteBytes) -> "list[_Sample]":
        found: dict[str, _Sample] = {}
        for member in self._members(shard, storage):
            if not member.isfile():
                continue
            parts = PurePosixPath(member.name).parts
            if member.name.startswith("/") or ".." in parts:
                self.broken.append((f"{Path(shard).name}: {member.name}", "its name points outside the tar"))
                continue
            folder, _, file = member.name.rpartition("/")
            stem, _, suffix = file.partition(".")
            if not stem:
                continue
            key = f"{folder}/{stem}" if folder else stem
            found.setdefault(key, _Sample(number, key)).add(suffix.lower(), member, storage)
        return list(found.values())

    def _members(self, shard: str, storage: LocalBytes | RemoteBytes) -> Iterator[tarfile.TarInfo]:
        try:
            with tarfile.open(fileobj=_Stream(storage), mode="r:") as archive:
                while (member := archive.next()) is not None:
                    if member.offset_data + member.size > storage.size:
                        raise FacekdError(
                            f"{shard} ends inside {member.name}: {storage.size:,} bytes; download it again"
                        )
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps every member it has seen
                    yield member
        except tarfile.TarError as error:
            start = storage.read(0, 6)
            packed = start.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ"))
            why = "it is compressed: unpack it to a plain .tar" if packed else first_line(error)
            raise FacekdError(f"{shard} cannot be read as a tar: {why}") from None

    def __len__(self) -> int:
        return len(self._images)

    def key(self, i: int) -> str:
        return f"{self._images[i].shard}/{self._images[i].key}"

    def encoded(self, i: int) -> bytes:
        sample = self._images[i]
        assert sample.image is not None
        return self._storage[sample.shard].read(*sample.image)

    def fingerprint(self) -> str:
        places = np.array([(s.shard, *(s.image or (0, 0))) for s in self._images], dtype=np.int64)
        sizes = np.array([storage.size for storage in self._storage], dtype=np.int64)
        return parts_sha256(
            "webdataset", "\0".join(Path(shard).name for shard in self.shards), sizes, places, self.labels
        )


class _Sample:
    """What the files of one name are: byte range of the image, and the label."""

    __slots__ = ("image", "key", "label", "problem", "shard")

    def __init__(self, shard: int, key: str) -> None:
        self.shard, self.key = shard, key
        self.image: tuple[int, int] | None = None
        self.label: int | str | None = None
        self.problem: str | None = None

    def add(self, suffix: str, member: tarfile.TarInfo, storage: LocalBytes | RemoteBytes) -> None:
        start, end = member.offset_data, member.offset_data + member.size
        if suffix in IMAGES:
            self.image = start, end
        elif (suffix in LABELS or suffix == "json") and self.label is None:
            try:
                self.label = _read_label(suffix, storage.read(start, min(end, start + MOST_LABEL_BYTES)))
            except ValueError as error:
                self.problem = str(error)


def _read_label(suffix: str, data: bytes) -> int | str | None:
    if suffix != "json":
        return label_of(data)
    try:
        fields = json.loads(data)
    except ValueError:
        raise ValueError("its .json cannot be read") from None
    named = [name for name in FIELDS if isinstance(fields, dict) and name in fields]
    return label_of(fields[named[0]]) if named else None


class _Stream(io.RawIOBase):
    """A file to read and seek in, over byte ranges."""

    def __init__(self, storage: LocalBytes | RemoteBytes) -> None:
        self._storage, self._at = storage, 0

    def read(self, size: int = -1) -> bytes:
        end = self._storage.size if size < 0 else min(self._at + size, self._storage.size)
        data = self._storage.read(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._storage.size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def tar_files(text: str) -> list[str]:
    """The tars that a path, folder or pattern names, in order.

    Raises:
        UsageError: there is none, or a pattern names too many.
    """
    shards = list(_expanded(text))
    if len(shards) == 1 and not is_remote(shards[0]) and Path(shards[0]).is_dir():
        shards = [str(file) for file in sorted(Path(shards[0]).glob("*.tar"))]
        if not shards:
            raise UsageError(f"{text} holds no .tar")
    if missing := [shard for shard in shards if not is_remote(shard) and not Path(shard).is_file()]:
        raise UsageError(f"no tar at {missing[0]}" + (f" ({len(missing)} of {len(shards)})" if len(shards) > 1 else ""))
    return shards


def _expanded(text: str) -> Iterator[str]:
    """ "a-{00..02}.tar" -> a-00.tar, a-01.tar, a-02.tar."""
    ranges = [(m[1], m[2]) for m in re.finditer(r"\{(\d+)\.\.(\d+)\}", text)]
    total = 1
    for low, high in ranges:
        total *= max(int(high) - int(low) + 1, 0)
    if not 1 <= total <= 100_000:
        raise UsageError(f"{text} names {total:,} tars: give 1 to 100,000")
    template = re.sub(r"\{\d+\.\.\d+\}", "\0", text)
    numbers = [[f"{n:0{len(low)}d}" for n in range(int(low), int(high) + 1)] for low, high in ranges]
    for chosen in itertools.product(*numbers):
        parts = iter(chosen)
        yield "".join(next(parts) if part == "\0" else part for part in re.split("(\0)", template))


@SOURCES.decorator("webdataset")
class WebDatasetKind(SourceKind):
    """A .tar, a folder of them, or `webdataset:URL`."""

    example = "a .tar or a folder of them"

    @classmethod
    def opens(cls, path: Path) -> bool:
        if path.is_dir():
            return any(path.glob("*.tar"))
        return path.suffix == ".tar"

    @classmethod
    def open(cls, text: str, *, size: tuple[int, int] | None) -> Source:
        return WebDatasetSource(text, size=size)
