"""Byte ranges of files, local, on a web server or anywhere fsspec reaches (s3://, gs://), with a bounded cache on disk.

A remote file is read in blocks of 1 MiB; a block is kept as a file of the cache until the cache is larger than it may
be, then those least recently used go. Processes on one machine share the cache: a block appears whole, by a rename.
"""

import contextlib
import mmap
import os
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError, UsageError, one_line
from facekd.common.hashing import text_sha256
from facekd.data.http_ranges import HttpRanges

BLOCK_BYTES = 1 << 20
_RELEASE_AFTER_BYTES = 64 << 20
_FAULT_BYTES = 64 << 10  # what the kernel maps around a byte that is read, however few are asked for


def is_remote(path: str | Path) -> bool:
    """Whether a path names a protocol, such as s3://bucket/train.rec."""
    return "://" in str(path)


class LocalBytes:
    """Byte ranges of a local file by memory map, with resident memory bounded. Picklable; mapped again in each process.

    Attributes:
        size: bytes.
        version: changes when the file is replaced.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UsageError(f"no file at {self.path}: give an existing file")
        status = self.path.stat()
        self.size, self.version = status.st_size, f"{status.st_size}-{status.st_mtime_ns}"
        self._map: mmap.mmap | None = None
        self._touched = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None, "_touched": 0}

    def read(self, start: int, end: int) -> bytes:
        """Bytes start to end, fewer where the file ends."""
        if self._map is None:
            with self.path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._touched += max(end - start, _FAULT_BYTES)
        if self._touched > _RELEASE_AFTER_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._touched = 0
            with contextlib.suppress(OSError):
                self._map.madvise(mmap.MADV_DONTNEED)
        return self._map[start:end]


class RemoteBytes:
    """Byte ranges of a remote file, through a bounded cache. Picklable; connects again in each process.

    Args:
        url: protocol://path.
        cache: folder of the blocks; may be shared between files and processes.
        cache_bytes: how large the folder may grow. A process looks after each 1/64 of it that it adds, and makes room
            for as much, so that one process stays within it and each further one may exceed it by 1/64.

    Attributes:
        size: bytes.
        version: changes when the file is replaced, as far as the storage tells (ETag, time of change, size).
        fetched_bytes: what this process has read from the storage so far.
    """

    def __init__(self, url: str, *, cache: Path, cache_bytes: int = 10 << 30) -> None:
        if cache_bytes < BLOCK_BYTES:
            raise UsageError(f"a cache of {cache_bytes} bytes cannot hold a block: give at least {BLOCK_BYTES}")
        self.url = url
        self.cache, self.cache_bytes = Path(cache), cache_bytes
        self.fetched_bytes = 0
        self._step = max(BLOCK_BYTES, cache_bytes // 64)
        self._since_look = self._step  # what others left there is seen before anything is added
        self._connection: tuple[int, Any, str] | None = None
        filesystem, path = self._connect()
        try:
            info = filesystem.info(path)
        except FileNotFoundError:
            raise UsageError(f"no file at {url}: give an existing file") from None
        except Exception as error:  # every storage has its own classes
            raise FacekdError(f"{url} cannot be read: {one_line(error)}") from error
        if info.get("size") is None:
            raise FacekdError(f"{url}: the storage does not tell its size, so it cannot be read in parts")
        self.size = int(info["size"])
        stamp = next((info[key] for key in ("ETag", "etag", "mtime", "LastModified", "created") if info.get(key)), "")
        self.version = f"{self.size}-{stamp}"
        self._prefix = text_sha256(f"{url} {self.version}")[:24]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_connection": None, "fetched_bytes": 0, "_since_look": self._step}

    def read(self, start: int, end: int) -> bytes:
        """Bytes start to end, fewer where the file ends. Raises FacekdError if the storage fails."""
        end = min(end, self.size)
        if start >= end:
            return b""
        parts = []
        while start < end:
            block, offset = divmod(start, BLOCK_BYTES)
            count = min(end - start, BLOCK_BYTES - offset)
            parts.append(self._part(block, offset, count))
            start += count
        return b"".join(parts)

    def _part(self, block: int, offset: int, count: int) -> bytes:
        """Bytes of one block, from the cache or through it."""
        file, start = self.cache / f"{self._prefix}-{block:08x}", block * BLOCK_BYTES
        wanted = min(BLOCK_BYTES, self.size - start)
        with contextlib.suppress(OSError), file.open("rb") as stream:  # not cached, or just thrown out by another
            if os.fstat(stream.fileno()).st_size == wanted:
                stream.seek(offset)
                data = stream.read(count)
                os.utime(file)  # used now: it goes last
                return data
        filesystem, path = self._connect()
        try:
            data = filesystem.cat_file(path, start=start, end=start + wanted)
        except Exception as error:  # every storage has its own classes
            raise FacekdError(f"{self.url} cannot be read at byte {start}: {one_line(error)}") from error
        if len(data) != wanted:
            raise FacekdError(f"{self.url} gave {len(data)} of {wanted} bytes at {start}: was it replaced?")
        self.fetched_bytes += wanted
        self._keep(file, data)
        result: bytes = data[offset : offset + count]
        return result

    def _keep(self, file: Path, data: bytes) -> None:
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            self.cache.mkdir(parents=True, exist_ok=True)
            if self._since_look >= self._step:
                self._shrink()
                self._since_look = 0
            temporary.write_bytes(data)
            temporary.replace(file)
            self._since_look += len(data)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise FacekdError(f"cannot write the cache {self.cache}: {error.strerror or error}") from None

    def _shrink(self) -> None:
        """Removes the least recently used blocks until there is room for what is added before the next look."""
        blocks = []
        with os.scandir(self.cache) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process may have removed it
                    status = entry.stat()
                    blocks.append((status.st_mtime_ns, status.st_size, entry.path))
        total = sum(size for _, size, _ in blocks)
        for _, size, path in sorted(blocks):
            if total + self._step <= self.cache_bytes:
                return
            with contextlib.suppress(OSError):
                Path(path).unlink()
            total -= size

    def _connect(self) -> tuple[Any, str]:
        """The file system of this process: connections do not survive a fork."""
        if self.url.startswith(("http://", "https://")):
            return HttpRanges(), self.url
        if self._connection is None or self._connection[0] != os.getpid():
            import fsspec  # type: ignore[import-untyped]

            try:
                filesystem, path = fsspec.core.url_to_fs(self.url, skip_instance_cache=True)
            except (ImportError, ValueError) as error:
                raise UsageError(f"{self.url} cannot be opened: {one_line(error)}") from None
            self._connection = (os.getpid(), filesystem, path)
        return self._connection[1], self._connection[2]


def open_bytes(
    place: str | Path, *, cache: Path | None = None, cache_bytes: int | None = None
) -> LocalBytes | RemoteBytes:
    """Byte ranges of a path or a URL.

    Args:
        place: a path, or protocol://path.
        cache: folder for blocks of remote files. Default: $FACEKD_RECORD_CACHE, or ~/.cache/facekd/records.
        cache_bytes: how large it may grow. Default: $FACEKD_RECORD_CACHE_BYTES, or 10 GiB.

    Raises:
        UsageError: there is no such file, or FACEKD_RECORD_CACHE_BYTES is no number.
    """
    if not is_remote(place):
        return LocalBytes(place)
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "facekd" / "records"
    folder = cache or Path(os.environ.get("FACEKD_RECORD_CACHE") or default)
    text = os.environ.get("FACEKD_RECORD_CACHE_BYTES")
    if text is not None and not text.isdecimal():
        raise UsageError(f"FACEKD_RECORD_CACHE_BYTES={text}: give a number of bytes, such as 10737418240")
    return RemoteBytes(str(place), cache=folder, cache_bytes=cache_bytes or (int(text) if text else 10 << 30))
