"""A sweep's folder: JSON files that are whole, locks between processes, whether what is finished still fits."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError, UsageError
from facekd.common.writing import atomic_file
from facekd.data.source import Source
from facekd.recipe import Recipe, TeacherConfig
from facekd.training import resumption


def make_folder(out: Path) -> None:
    """Makes `out` and what is above it.

    Raises:
        UsageError: `out` is a file.
        FacekdError: it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"--out {out} is a file: give a folder") from error
    except OSError as error:
        raise FacekdError(f"cannot write to --out {out}: {error.strerror or error}") from error


@contextmanager
def lock(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
    """Keeps other processes from what `path` stands for, and yields whether this one has it.

    The system drops the lock with the process: a kill leaves none. Where there are no POSIX locks (Windows) it is
    always had.

    Args:
        path: an empty file, made if it is not there and left there.
        waiting: None does not wait for a process that has it; else waits until it is had, after calling this.

    Raises:
        FacekdError: the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        raise FacekdError(f"cannot write {path}: {error.strerror or error}") from error
    with file:
        if os.name != "posix":
            yield True
            return
        import fcntl

        try:
            # lockf, not flock: the loader's processes must not inherit it and outlive us with it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if waiting is None:
                yield False
                return
            waiting()
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield True


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes a file that appears only when it is whole. Raises WriteError."""
    with atomic_file(path, overwrite=True) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads what `write_json` wrote. Raises FacekdError if somebody else changed it into no JSON."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return content
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FacekdError(f"{path} is damaged ({error}): delete it, and its cell runs again") from error


def check_finished(done: Path, recipe: Recipe, source: Source) -> None:
    """Compares what finished, as its file `done` tells, with the recipe it would be run with now.

    Another machine or torch is no other run; nor is a teacher at another place, whose hash the sweep keeps.

    Raises:
        UsageError: it was another recipe, or other data.
    """
    identity = read_json(done)["identity"]
    kept = identity["recipe"].get("teacher")
    if recipe.teacher is not None and kept is not None:
        kept_teacher = TeacherConfig.model_validate(kept)
        if _name(kept_teacher.cache) == _name(recipe.teacher.cache):
            recipe = recipe.model_copy(update={"teacher": kept_teacher})
    try:
        resumption.check(identity, recipe, source, warn=lambda _: None)
    except UsageError as error:
        raise UsageError(f"{done.parent} is finished, of another recipe: {error}") from error


def _name(cache: str | None) -> str | None:
    """Of a folder of stored outputs: it tells of what data and how many views they are."""
    return None if cache is None else Path(cache).name
