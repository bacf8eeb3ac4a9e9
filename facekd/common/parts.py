"""The results of a long command on their way into its output, in a folder beside it, so that a kill loses little.

The folder holds files that only grow, and state.json, which says how many items are done and how much of each file is
safely on the disk. The state is advanced after the files are synced: a kill or a full disk costs at most the items that
were being worked on, and what lies beyond the state is cut off.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from facekd.common.errors import FacekdError, Interrupted, UsageError
from facekd.common.locking import locked
from facekd.common.text import plain
from facekd.common.writing import FolderKind, WriteError, atomic_file, atomic_folder, check_replaceable

SUFFIX = ".parts"
_STATE, _LOCK = "state.json", "lock"


@dataclass(frozen=True, kw_only=True)
class PartsKind:
    """What a command keeps so.

    Attributes:
        schema: with a version, stored in the state.
        name: of the folder, with its article, for messages: "a folder of embeddings in the making".
        files: that grow.
        items: what is worked on: "images".
        done: what was done to them: "embedded".
        doing: "computing these embeddings".
    """

    schema: str
    name: str
    files: Sequence[str]
    items: str
    done: str
    doing: str

    def own(self) -> re.Pattern[str]:
        """Names of what facekd writes there."""
        names = "|".join(map(re.escape, (*self.files, _STATE, _LOCK)))
        return re.compile(rf"({names}|\.{re.escape(_STATE)}\.[0-9a-f]+\.partial)")

    def folder_kind(self) -> FolderKind:
        """For the rule that facekd replaces nothing else."""
        own = self.own()

        def own_files(folder: Path) -> Callable[[str], bool] | None:
            return None if self.read_state(folder) is None else lambda name: own.fullmatch(name) is not None

        return FolderKind(self.name, own_files)

    def read_state(self, folder: Path) -> dict[str, Any] | None:
        """None where the folder is not one of this kind."""
        try:
            state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            numbers = [state["total"], state["done"], *(state["bytes"][name] for name in self.files)]
            sound = isinstance(state["facts"], dict) and state["schema"] == self.schema
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return state if sound and all(type(number) is int and number >= 0 for number in numbers) else None


class Parts:
    """What is done so far; `open_parts` makes one.

    Attributes:
        folder: where.
    """

    def __init__(self, folder: Path, kind: PartsKind, state: Mapping[str, Any]) -> None:
        self.folder, self._kind, self._state = folder, kind, dict(state)
        for name in kind.files:
            with (folder / name).open("r+b") as file:
                file.truncate(self.size(name))

    @property
    def total(self) -> int:
        """Items."""
        return int(self._state["total"])

    @property
    def done(self) -> int:
        """Items that are done, from the first."""
        return int(self._state["done"])

    def size(self, name: str) -> int:
        """Bytes of a file that can be trusted."""
        return int(self._state["bytes"][name])

    def append(self, end: int, new: Mapping[str, bytes]) -> None:
        """Adds what came of the items from `done` to `end`.

        Args:
            end: the first item that is not done.
            new: what to append to each file; every file of the kind is named.

        Raises:
            OSError: the disk is full; what was there before stays.
        """
        for name, data in new.items():
            with (self.folder / name).open("r+b") as file:
                file.seek(self.size(name))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sizes = {name: self.size(name) + len(data) for name, data in new.items()}
        state = {**self._state, "done": end, "bytes": sizes}
        _write_state(self.folder, state)
        self._state = state

    def remove(self) -> None:
        """Takes the folder away, but for what somebody else put there; the state goes last."""
        own = self._kind.own()
        for path in sorted(self.folder.glob("*"), key=lambda path: path.name == _STATE):
            if own.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):  # not empty
            self.folder.rmdir()


Kept = TypeVar("Kept", bound=Parts)


@contextmanager
def open_parts(
    folder: Path, kind: PartsKind, made: type[Kept], facts: Mapping[str, str], *, total: int, overwrite: bool
) -> Iterator[Kept]:
    """The parts in `folder`: those that an earlier run with the same facts left, else new ones.

    Args:
        folder: made if it is not there.
        kind: of the folder.
        made: Parts, or a class derived from it.
        facts: what decides about the results, by its name in messages: the model, the images, each option.
        total: how many items there are.
        overwrite: start anew where the parts belong to other facts, instead of refusing.

    Raises:
        UsageError: the folder belongs to other facts, or is none of facekd's.
        FacekdError: another process is at it.
        WriteError: it cannot be made.
    """
    fresh = {
        "schema": kind.schema, "facts": dict(facts), "total": total, "done": 0, "bytes": dict.fromkeys(kind.files, 0)
    }  # fmt: skip
    if folder.exists():
        check_replaceable(folder, kind.folder_kind(), overwrite=True)
    state = kind.read_state(folder)
    if state is not None:
        with locked(folder / _LOCK, kind.doing):
            state = kind.read_state(folder) or fresh
            problem = _mismatch(folder, kind, state, fresh)
            if problem is None:
                yield made(folder, kind, state)
                return
            if not overwrite:
                raise UsageError(f"{problem}, --overwrite to start again, or another place to write to")
    with atomic_folder(folder, kind=kind.folder_kind(), overwrite=True) as new:
        for name in kind.files:
            (new / name).touch()
        _write_state(new, fresh)
    with locked(folder / _LOCK, kind.doing):
        yield made(folder, kind, fresh)


@contextmanager
def kept_said(parts: Parts, items: str, *, nothing: str) -> Iterator[None]:
    """Leaves no folder behind when it holds nothing, and says what it holds otherwise.

    Args:
        parts: in the making.
        items: "images".
        nothing: what to say where nothing is kept.

    Raises:
        Interrupted: for Ctrl-C.
        WriteError: for an error of the system.
        FacekdError: the block's, with what is kept.
    """
    try:
        yield
    except (KeyboardInterrupt, FacekdError, OSError) as error:
        done, total, place = parts.done, parts.total, parts.folder
        if done == 0:
            parts.remove()
            kept = nothing
        else:
            kept = f"{done:,} of {total:,} {items} are kept in {place}, and the same command goes on there"
        if isinstance(error, KeyboardInterrupt):
            raise Interrupted(f"interrupted: {kept}") from None
        if isinstance(error, OSError):
            raise WriteError(f"cannot write {place}: {error.strerror or error}; {kept}") from None
        if done and place.exists():
            error.args = (f"{error}; {kept}",)
        raise


def _mismatch(folder: Path, kind: PartsKind, state: Mapping[str, Any], fresh: Mapping[str, Any]) -> str | None:
    """Why these parts cannot be gone on with; None where they can."""
    before, now = state["facts"], fresh["facts"]
    other = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    begun = f"{folder} holds {state['done']:,} of {state['total']:,} {kind.items}"
    if other or state["total"] != fresh["total"]:
        what = ", ".join(plain(name)[:40] for name in other[:8]) or kind.items
        return f"{begun}, {kind.done} with another {what}: give the same command to go on"
    for name, size in state["bytes"].items():
        if not (folder / name).is_file() or (folder / name).stat().st_size < size:
            return f"{folder} is damaged ({name} is shorter than it was): remove it"
    return None


def _write_state(folder: Path, state: Mapping[str, Any]) -> None:
    with atomic_file(folder / _STATE, overwrite=True) as file:
        file.write(json.dumps(state).encode())
