"""Embeddings on their way into a file: appended to a folder beside it as they are computed, so that nothing is lost.

The folder holds embeddings.f32 and indices.i64 (a row an embedded image), skipped.jsonl (a line an image that could not
be used) and state.json, which says how much of each is safely on the disk. It is advanced after the rows are synced: a
kill or a full disk costs at most the chunk that was being computed, and what lies beyond the state is cut off.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from facekd.common.errors import UsageError
from facekd.common.locking import locked
from facekd.common.text import plain
from facekd.common.writing import FolderKind, atomic_file, atomic_folder, check_replaceable

SCHEMA = "facekd embedding parts 1"
SUFFIX = ".parts"
_STATE, _LOCK, _ROWS, _INDICES, _SKIPPED = "state.json", "lock", "embeddings.f32", "indices.i64", "skipped.jsonl"
_OWN = re.compile(rf"({_ROWS}|{_INDICES}|{_SKIPPED}|{_STATE}|{_LOCK}|\.{_STATE}\.[0-9a-f]+\.partial)")


class EmbeddingParts:
    """What is computed so far; `open_parts` makes one.

    Attributes:
        folder: where.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any]) -> None:
        self.folder = folder
        self._state = dict(state)
        for name, size in _sizes(self._state).items():
            with (folder / name).open("r+b") as file:
                file.truncate(size)

    @property
    def total(self) -> int:
        """Images to embed."""
        return int(self._state["images"])

    @property
    def done(self) -> int:
        """Images that were looked at, from the first."""
        return int(self._state["done"])

    @property
    def rows(self) -> int:
        """Of them, those that have an embedding."""
        return int(self._state["rows"])

    @property
    def width(self) -> int:
        """Numbers an embedding."""
        return int(self._state["width"])

    def append(self, end: int, indices: np.ndarray, embeddings: np.ndarray, skipped: Sequence[tuple[str, str]]) -> None:
        """Adds what came of the images from `done` to `end`.

        Args:
            end: the first image that was not looked at.
            indices: int64 [k], the images that were embedded.
            embeddings: float32 [k, e].
            skipped: (name, why) of the others.

        Raises:
            OSError: the disk is full; what was there before stays.
        """
        lines = "".join(json.dumps(list(one)) + "\n" for one in skipped).encode()
        new = {
            _ROWS: np.ascontiguousarray(embeddings, dtype="<f4").tobytes(),
            _INDICES: np.ascontiguousarray(indices, dtype="<i8").tobytes(),
            _SKIPPED: lines,
        }
        for (name, data), size in zip(new.items(), _sizes(self._state).values(), strict=True):
            with (self.folder / name).open("r+b") as file:
                file.seek(size)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        state = {
            **self._state,
            "done": end,
            "rows": self.rows + len(indices),
            "skipped_bytes": self._state["skipped_bytes"] + len(lines),
        }
        _write_state(self.folder, state)
        self._state = state

    def embeddings(self) -> np.ndarray:
        """float32 [rows, e], memory-mapped."""
        if not self.rows:
            return np.empty((0, self.width), dtype=np.float32)
        return np.memmap(self.folder / _ROWS, dtype="<f4", mode="r", shape=(self.rows, self.width))

    def indices(self) -> np.ndarray:
        """int64 [rows], which image each embedding is of, memory-mapped."""
        if not self.rows:
            return np.empty(0, dtype=np.int64)
        return np.memmap(self.folder / _INDICES, dtype="<i8", mode="r", shape=(self.rows,))

    def skipped(self) -> Iterator[tuple[str, str]]:
        """(name, why) of the images without an embedding."""
        with (self.folder / _SKIPPED).open(encoding="utf-8") as file:
            for line in file:
                name, why = json.loads(line)
                yield name, why

    def remove(self) -> None:
        """Takes the folder away, but for what somebody else put there; the state goes last."""
        for path in sorted(self.folder.glob("*"), key=lambda path: path.name == _STATE):
            if _OWN.fullmatch(path.name):
                path.unlink()
        with suppress(OSError):  # not empty
            self.folder.rmdir()


@contextmanager
def open_parts(
    folder: Path, facts: Mapping[str, str], *, images: int, width: int, overwrite: bool
) -> Iterator[EmbeddingParts]:
    """The parts in `folder`: those that an earlier run with the same facts left, else new ones.

    Args:
        folder: made if it is not there.
        facts: what decides about the numbers, by its name in messages: the model, the images, each option.
        images: how many there are to embed.
        width: numbers an embedding.
        overwrite: start anew where the parts belong to other facts, instead of refusing.

    Raises:
        UsageError: the folder belongs to other facts, or is none of facekd's.
        FacekdError: another process is at it.
        WriteError: it cannot be made.
    """
    fresh = {
        "schema": SCHEMA, "facts": dict(facts), "images": images, "width": width,
        "done": 0, "rows": 0, "skipped_bytes": 0,
    }  # fmt: skip
    if folder.exists():
        check_replaceable(folder, PARTS, overwrite=True)
    state = _read_state(folder)
    if state is not None:
        with locked(folder / _LOCK, "computing these embeddings"):
            state = _read_state(folder) or fresh
            problem = _mismatch(folder, state, fresh)
            if problem is None:
                yield EmbeddingParts(folder, state)
                return
            if not overwrite:
                raise UsageError(f"{problem}, --overwrite to start again, or another --out")
    with atomic_folder(folder, kind=PARTS, overwrite=True) as new:
        for name in (_ROWS, _INDICES, _SKIPPED):
            (new / name).touch()
        _write_state(new, fresh)
    with locked(folder / _LOCK, "computing these embeddings"):
        yield EmbeddingParts(folder, fresh)


def _mismatch(folder: Path, state: Mapping[str, Any], fresh: Mapping[str, Any]) -> str | None:
    """Why these parts cannot be gone on with; None where they can."""
    before, now = state["facts"], fresh["facts"]
    other = [name for name in {**now, **before} if before.get(name) != now.get(name)]
    begun = f"{folder} holds {state['done']:,} of {state['images']:,} images"
    if other or state["images"] != fresh["images"] or state["width"] != fresh["width"]:
        what = ", ".join(plain(name)[:40] for name in other[:8]) or "images"
        return f"{begun}, embedded with another {what}: give the same command to go on"
    for name, size in _sizes(state).items():
        if not (folder / name).is_file() or (folder / name).stat().st_size < size:
            return f"{folder} is damaged ({name} is shorter than it was): remove it"
    return None


def _sizes(state: Mapping[str, Any]) -> dict[str, int]:
    """Bytes of each file that can be trusted."""
    rows = state["rows"]
    return {_ROWS: 4 * state["width"] * rows, _INDICES: 8 * rows, _SKIPPED: state["skipped_bytes"]}


def _write_state(folder: Path, state: Mapping[str, Any]) -> None:
    with atomic_file(folder / _STATE, overwrite=True) as file:
        file.write(json.dumps(state).encode())


def _read_state(folder: Path) -> dict[str, Any] | None:
    """None where the folder is not one of parts."""
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        numbers = [state[name] for name in ("images", "width", "done", "rows", "skipped_bytes")]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    sound = all(type(number) is int and number >= 0 for number in numbers) and isinstance(state["facts"], dict)
    return state if sound and state.get("schema") == SCHEMA and state["rows"] <= state["done"] else None


def _own_files(folder: Path) -> Callable[[str], bool] | None:
    return None if _read_state(folder) is None else (lambda name: _OWN.fullmatch(name) is not None)


PARTS = FolderKind("a folder of embeddings in the making", _own_files)
