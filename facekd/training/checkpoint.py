"""Checkpoints that survive a kill, a full disk and a bad one.

A checkpoint is one file, `step-00001200-3fa9c1d2e4b5a697.pt`: the step, and the first 16 digits of the file's sha256
(the convention of torch.hub). Where several ranks have class centres to keep, it is a folder of that name without
`.pt`: `state.pt`, whose digest it carries and which names the sha256 of the ranks' files beside it
(facekd.training.shards). Either is written under a temporary name, flushed to the disk, and renamed: such a name holds
a complete checkpoint, whatever moment the process or the machine died at. One whose content does not give its digest
any more (a bad disk) is passed over, and said.
"""

import hashlib
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from facekd.common.errors import FacekdError, UsageError
from facekd.common.hashing import file_sha256

_NAME = re.compile(r"step-(\d{8,})-([0-9a-f]{16})(\.pt)?")
_TEMPORARY = ".writing-"
_STATE = "state.pt"


@dataclass(frozen=True)
class CheckpointFile:
    """A checkpoint on disk: optimiser steps done, digest of its state, and where it is."""

    step: int
    digest: str
    path: Path

    @property
    def folder(self) -> Path | None:
        """Where the ranks' files are; None if the checkpoint is one file."""
        return None if self.path.suffix else self.path


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: made when the first checkpoint is saved.
        keep_last: newest checkpoints kept; the best one is kept besides.
        warn: called with one line when a checkpoint cannot be used.
    """

    def __init__(self, folder: Path, *, keep_last: int = 2, warn: Callable[[str], None] = print) -> None:
        if keep_last < 1:
            raise UsageError(f"keep_last must be at least 1, got {keep_last}")
        self.folder = folder
        self.keep_last = keep_last
        self._warn = warn

    def list(self) -> list[CheckpointFile]:
        """Complete checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = []
        for path in self.folder.iterdir():
            if match := _NAME.fullmatch(path.name):
                found.append(CheckpointFile(int(match[1]), match[2], path))
        return sorted(found, key=lambda file: (file.step, file.path.stat().st_mtime_ns))

    @property
    def temporary(self) -> Path:
        """Where this process writes what is not yet a checkpoint."""
        return self.folder / f"{_TEMPORARY}{os.getpid()}"

    def save(
        self,
        state: dict[str, Any],
        *,
        step: int,
        best_step: int | None = None,
        ranks: Mapping[str, str] | None = None,
    ) -> CheckpointFile:
        """Writes `state` (tensors, numbers, strings and containers of them) and prunes the older ones.

        Args:
            ranks: the sha256 of each file that the ranks have written into the folder `temporary`.

        Raises:
            FacekdError: the disk is full or fails; what was there before is still there, whole.
        """
        with self.whole_or_nothing(step):
            self.folder.mkdir(parents=True, exist_ok=True)
            if ranks is None:
                digest, suffix = _write(state, self.temporary), ".pt"
            else:
                digest, suffix = _write({**state, "ranks": dict(ranks)}, self.temporary / _STATE), ""
                _flush_folder(self.temporary)
            file = CheckpointFile(step, digest, self.folder / f"step-{step:08d}-{digest}{suffix}")
            self.temporary.replace(file.path)
            _flush_folder(self.folder)
        self._prune(keep={step, best_step}, newest=file)
        return file

    @contextmanager
    def whole_or_nothing(self, step: int) -> Iterator[None]:
        """Removes what was begun if the disk fails, and says what is left: an OSError becomes a FacekdError."""
        try:
            yield
        except OSError as error:
            _remove(self.temporary)
            newest = max((kept.step for kept in self.list()), default=None)
            survivor = "there is no earlier one" if newest is None else f"that of step {newest} is intact"
            raise FacekdError(
                f"checkpoint of step {step} not written to {self.folder}: {error.strerror or error}; {survivor}. "
                "Make room, then go on with --resume"
            ) from error

    def load_newest(self, *, mapped: bool = False) -> tuple[CheckpointFile, dict[str, Any]] | None:
        """The newest checkpoint that reads back whole, or None if there is none at all; `mapped` as in `load`.

        Raises:
            FacekdError: there are checkpoints and every one is damaged.
        """
        files = self.list()
        for file in reversed(files):
            try:
                return file, self.load(file, mapped=mapped)
            except FacekdError as error:
                self._warn(f"{error}; going back to the one before")
        if files:
            raise FacekdError(
                f"every checkpoint in {self.folder} is damaged ({len(files)}): start again with --overwrite"
            )
        return None

    def load(self, file: CheckpointFile, *, mapped: bool = False) -> dict[str, Any]:
        """Reads one checkpoint onto the CPU; mapped: tensors stay in the file until they are used.

        Raises FacekdError if it is damaged or holds more than tensors.
        """
        path = file.path if file.folder is None else file.folder / _STATE
        try:
            digest = file_sha256(path)[:16]
            if digest != file.digest:
                raise FacekdError(f"checkpoint {path} is damaged: its sha256 begins with {digest}")
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            if file.folder is not None:
                _check_ranks(file.folder, state["ranks"])
            return state
        except pickle.UnpicklingError as error:
            raise FacekdError(f"checkpoint {file.path} cannot be read safely: it holds more than tensors") from error
        except (RuntimeError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise FacekdError(f"checkpoint {file.path} is not one of facekd's: it cannot be unpacked") from error
        except OSError as error:
            raise FacekdError(f"checkpoint {file.path} cannot be read: {error.strerror or error}") from error

    def at(self, step: int) -> CheckpointFile | None:
        """The checkpoint of exactly this step, if it is there."""
        return next((file for file in reversed(self.list()) if file.step == step), None)

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        if self.folder.is_dir():
            for path in self.folder.glob(f"{_TEMPORARY}*"):
                _remove(path)

    def _prune(self, *, keep: set[int | None], newest: CheckpointFile) -> None:
        files = self.list()
        kept = {file.path for file in files[-self.keep_last :]}
        kept |= {file.path for file in files if file.step in keep}
        # The same step written twice (a resumed run with other log settings): only the one just written counts.
        kept -= {file.path for file in files if file.step == newest.step and file.path != newest.path}
        for file in files:
            if file.folder is not None and file.path not in kept:
                file.path.replace(self.temporary)  # a folder goes file by file, and a part of it is no checkpoint
                _remove(self.temporary)
            elif file.path not in kept:
                file.path.unlink(missing_ok=True)


def _check_ranks(folder: Path, ranks: Mapping[str, str]) -> None:
    """Raises FacekdError unless a folder holds exactly its state and the named files, each with its sha256."""
    if {path.name for path in folder.iterdir()} != {_STATE, *ranks}:
        raise FacekdError(f"checkpoint {folder} is damaged: it does not hold {', '.join(sorted(ranks))} alone")
    for name, digest in ranks.items():
        if file_sha256(folder / name) != digest:
            raise FacekdError(f"checkpoint {folder / name} is damaged: it has another sha256")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


class _HashingFile:
    """A file that hashes what passes, and keeps an OSError for later: torch's writer does not survive one."""

    def __init__(self, stream: BinaryIO) -> None:
        self.error: OSError | None = None
        self._stream = stream
        self._digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        view = memoryview(data)
        if self.error is None:
            try:
                self._stream.write(view)
                self._digest.update(view)
            except OSError as error:
                self.error = error
        return view.nbytes

    def flush(self) -> None:
        """torch calls it; the real flush follows once, at the end."""

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _write(state: dict[str, Any], path: Path) -> str:
    """Writes and flushes to the disk; returns the first 16 digits of the content's sha256. Raises OSError."""
    with _opened(path) as stream:
        target = _HashingFile(stream)
        torch.save(state, target)  # type: ignore[arg-type]
        if target.error is not None:
            raise target.error
        stream.flush()
        os.fsync(stream.fileno())
    return target.hexdigest()[:16]


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens for writing; an error on the implicit flush of close() is raised like any other."""
    stream = path.open("wb")
    try:
        yield stream
        stream.close()
    except BaseException:
        with suppress(OSError):  # the first error is the one to tell
            stream.close()
        raise


def _flush_folder(folder: Path) -> None:
    """Flushes a folder's entries, so that a rename survives a power cut. Windows has no such call."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
