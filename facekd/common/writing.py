"""Files and folders that appear under their name only when they are whole, and replace only what facekd wrote.

Everything is written under a temporary name beside its place, `.NAME.TOKEN.partial`, and renamed at the end. The writer
holds a lock on it; the next writer of the same name removes the temporary ones whose writer was killed.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from facekd.common.errors import FacekdError, UsageError
from facekd.common.parent_folders import parent_folders

LISTING_FILE = ".facekd-files.json"
"""Lists what facekd wrote into a folder that has no card, manifest or index of its own to tell."""

_SYSTEM_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")


class WriteError(FacekdError):
    """The disk is full, or the place may not be written to."""


@dataclass(frozen=True)
class FolderKind:
    """One kind of folder that facekd writes, for the rule that --overwrite replaces nothing else.

    Attributes:
        name: with its article, for messages: "a bundle".
        own_files: a folder -> a test of relative POSIX names: whether facekd wrote that file. None if the folder is not
            of this kind.
    """

    name: str
    own_files: Callable[[Path], Callable[[str], bool] | None]


def listed_kind(name: str) -> FolderKind:
    """A kind whose folders carry a LISTING_FILE, which `atomic_folder` writes; `name` is stored in it."""
    return FolderKind(name, lambda folder: _listed(folder, name))


def check_replaceable(path: Path, kind: FolderKind, *, overwrite: bool) -> None:
    """Refuses a place that is taken; with `overwrite`, all but a folder of this kind with nothing else in it.

    Raises:
        UsageError: says what stands there.
    """
    if not path.is_dir():
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} is a file: give the name of a folder")
        return
    if not any(path.iterdir()):
        return
    own = kind.own_files(path)
    if own is None:
        raise UsageError(f"{path} exists and is not {kind.name}, so it is never replaced: choose another place")
    if not overwrite:
        raise UsageError(f"{path} already holds {kind.name}: choose another place, or replace it with --overwrite")
    foreign = next((name for name in _files_in(path) if not own(name)), None)
    if foreign is not None:
        raise UsageError(
            f"{path} holds {foreign!r}, which facekd did not write: --overwrite would delete it; move it away, or "
            "choose another place"
        )


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuses the name of a file that is taken, unless it is to be overwritten.

    Raises:
        UsageError: a file is there.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists: choose another name, or overwrite it with --overwrite")


@contextlib.contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """A binary file that is renamed to `path` at the end, and is gone when the block raises.

    Raises:
        UsageError: `path` is there, at first or at the end, and is not to be overwritten.
        WriteError: it cannot be written.
    """
    check_free(path, overwrite=overwrite)
    try:
        with parent_folders(path), temporary_file(path) as (file, temporary):
            yield file
            file.flush()
            os.fsync(file.fileno())
            check_free(path, overwrite=overwrite)  # it may have taken hours
            temporary.replace(path)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def atomic_folder(path: Path, *, kind: FolderKind, overwrite: bool, durable: bool = False) -> Iterator[Path]:
    """A `staged_folder` at a place that is free, or holds a folder of the same kind that may be overwritten.

    Raises:
        UsageError: see `check_replaceable`.
        WriteError: it cannot be written.
    """
    check_replaceable(path, kind, overwrite=overwrite)
    try:
        with staged_folder(
            path, durable=durable, check=lambda: check_replaceable(path, kind, overwrite=overwrite)
        ) as folder:
            yield folder
            if kind.own_files(folder) is None:
                listing = {"schema_version": 1, "kind": kind.name, "files": sorted(_files_in(folder))}
                (folder / LISTING_FILE).write_text(json.dumps(listing) + "\n", encoding="utf-8")
    except OSError as error:
        raise WriteError(f"cannot write {kind.name} at {path}: {error.strerror or error}") from None


@contextlib.contextmanager
def staged_folder(path: Path, *, durable: bool = False, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """A folder beside `path` that takes its place when the block ends, and is gone when the block raises.

    Args:
        path: a name of that file system; its parents are made. What is there is replaced: see `atomic_folder`.
        durable: wait until every file is on the disk before it has its name. Too slow for a million faces.
        check: called last before `path` is replaced, hours after the block began perhaps; raises where it may not be.

    Raises:
        OSError: it cannot be written.
    """
    with parent_folders(path):
        remove_abandoned(path)
        folder, lock = _new_folder(path)
        try:
            with lock:
                yield folder
                if durable:
                    for file in folder.rglob("*"):
                        if file.is_file():
                            sync(file)
                if check is not None:
                    check()
                replace_folder(folder, path)
                if durable:
                    sync(path.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def temporary_file(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """An open file beside `path`, readable too, and its temporary name; gone at the end unless it was renamed.

    Raises:
        OSError: it cannot be written.
    """
    remove_abandoned(path)
    temporary = _temporary_name(path)
    try:
        with temporary.open("w+b") as file:
            _lock(file.fileno())
            yield file, temporary
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def remove_abandoned(path: Path) -> None:
    """Removes what killed writers of `path` left beside it; that of a living one is locked, and stays."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"[0-9a-f]{8}\.partial(\.old)?")
    with contextlib.suppress(OSError):
        for entry in os.scandir(path.parent):
            found = pattern.fullmatch(entry.name)
            if not found or (found[1] and not path.exists()):  # the only copy that a kill between two renames left
                continue
            with _claimed(Path(entry.path)) as ours:
                if ours and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                elif ours:
                    Path(entry.path).unlink(missing_ok=True)


def replace_folder(folder: Path, path: Path) -> None:
    """Renames `folder` to `path`, and removes what was there.

    Linux exchanges the two in one step, so that `path` is there at every moment. Elsewhere the old one steps aside
    first, and returns if the rename fails; who is killed between the two finds it beside, under `folder`'s name + .old.
    """
    if not path.exists() or not any(path.iterdir()):
        folder.replace(path)
        return
    if _exchange(folder, path):
        if folder.is_symlink():
            folder.unlink()
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


def sync(path: Path) -> None:
    """Waits until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Whether renameat2(2) swapped two names; not every system and file system can."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return renameat2 is not None and renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")  # no process id: a container's is always 1


def _new_folder(path: Path) -> tuple[Path, contextlib.ExitStack]:
    """A temporary folder beside `path`, and what holds its lock; the system drops the lock when the process dies."""
    while True:
        folder, lock = _temporary_name(path), contextlib.ExitStack()
        folder.mkdir()
        if os.name != "posix":
            return folder, lock
        descriptor = os.open(folder, os.O_RDONLY)
        lock.callback(os.close, descriptor)
        _lock(descriptor)
        if folder.is_dir():  # another writer may have taken it for abandoned before the lock was had
            return folder, lock
        lock.close()


@contextlib.contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether nobody alive writes `path`: its lock could be had. False where it cannot be told."""
    if os.name != "posix" or path.is_symlink():
        yield False
        return
    import fcntl

    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if os.name != "posix":
        return
    import fcntl

    with contextlib.suppress(OSError):  # a file system without locks: what a kill leaves there stays
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _listed(folder: Path, kind: str) -> Callable[[str], bool] | None:
    try:
        content = json.loads((folder / LISTING_FILE).read_text(encoding="utf-8"))
        names = frozenset(content["files"]) if content["kind"] == kind else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return None if names is None else (lambda name: name == LISTING_FILE or name in names)


def _files_in(folder: Path) -> Iterator[str]:
    """Relative POSIX names of everything in a folder that is no folder itself; links are named, never followed."""
    for place, folders, files in os.walk(folder):
        within = Path(place).relative_to(folder)
        links = [name for name in folders if Path(place, name).is_symlink()]
        yield from ((within / name).as_posix() for name in sorted([*files, *links]) if name not in _SYSTEM_FILES)
