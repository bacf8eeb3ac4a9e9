"""An artefact appears whole or not at all: written beside its place, renamed into it when everything has passed."""

import json
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from facekd.common.errors import FacekdError
from facekd.common.writing import FolderKind, atomic_folder, check_replaceable
from facekd.schemas.manifest import LOG_FILE, MANIFEST_FILE

LOG_NOTE = "; the converter's log is "


def _own_files(folder: Path) -> Callable[[str], bool] | None:
    try:
        files = json.loads((folder / MANIFEST_FILE).read_text(encoding="utf-8"))["files"]
        names = {MANIFEST_FILE, LOG_FILE, *files}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return names.__contains__


ARTEFACT = FolderKind("an exported artefact", _own_files)


def check_destination(path: Path, *, overwrite: bool) -> None:
    """Refuses a place that is taken, before anything is computed.

    Raises:
        UsageError: something else than an artefact is there, or an artefact and not `overwrite`.
    """
    check_replaceable(path, ARTEFACT, overwrite=overwrite)


@contextmanager
def staged(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Only the log of a failed block is kept, in the system's temporary folder; the error names it.

    Raises:
        UsageError: see `check_destination`; checked again at the end, when a user may have put something there.
        WriteError: it cannot be written.
    """
    with _terminable(), atomic_folder(path, kind=ARTEFACT, overwrite=overwrite, durable=True) as folder:
        try:
            yield folder
        except FacekdError as error:
            log = folder / LOG_FILE
            if log.is_file() and log.stat().st_size:
                error.args = (f"{error}{LOG_NOTE}{keep_log(log, path.name)}",)
            raise


def keep_log(log: Path, name: str) -> Path:
    """Copies the log of a failed export into the system's temporary folder, which is where a failure may leave it."""
    handle, kept = tempfile.mkstemp(prefix=f"facekd-export-{name}-", suffix=".log")
    os.close(handle)
    shutil.copyfile(log, kept)
    return Path(kept)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that the temporary folder goes; its default action would leave it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
