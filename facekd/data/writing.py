"""Files and folders that appear under their name only when they are whole."""

import contextlib
import ctypes
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from facekd.errors import FacekdError, UsageError


class WriteError(FacekdError):
    """The disk is full, or the place may not be written to."""


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary file that is renamed to `path` at the end, and is gone when the block raises.

    Raises:
        UsageError: `path` is there, and is not to be overwritten.
        WriteError: it cannot be written.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: choose another name, or overwrite it with --overwrite")
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A `staged_folder` at a place that is free, or may be overwritten.

    Raises:
        UsageError: `path` is a file, or is there and is not to be overwritten.
        WriteError: it cannot be written.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: give the name of a folder")
    if path.exists() and not overwrite and any(path.iterdir()):
        raise UsageError(f"{path} exists: choose another name, or overwrite it with --overwrite")
    try:
        with staged_folder(path) as folder:
            yield folder
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def staged_folder(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A folder beside `path` that takes its place when the block ends, and is gone when the block raises.

    Args:
        path: a name of that file system; its parents are made. What is there is replaced.
        durable: wait until every file is on the disk before it has its name. Too slow for a million faces.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # not the process's id: a container's is always 1
    folder.mkdir()
    try:
        yield folder
        if durable:
            for file in folder.rglob("*"):
                if file.is_file():
                    sync(file)
        replace_folder(folder, path)
        if durable:
            sync(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(folder: Path, path: Path) -> None:
    """Renames `folder` to `path`, and removes what was there.

    Linux exchanges the two in one step, so that `path` is there at every moment. Elsewhere the old one steps aside
    first, and returns if the rename fails; who is killed between the two finds it beside, under `folder`'s name + .old.
    """
    if not path.exists() or not any(path.iterdir()):
        folder.replace(path)
        return
    if _exchange(folder, path):
        shutil.rmtree(folder, ignore_errors=True)
        return
    old = folder.with_name(folder.name + ".old")
    path.replace(old)
    try:
        folder.replace(path)
    except OSError:
        old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Whether renameat2(2) swapped two names; not every system and file system can."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
