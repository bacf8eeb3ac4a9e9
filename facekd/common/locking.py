"""One process at a time at a piece of work; the system drops the lock when the process ends, however it ends."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from facekd.common.errors import FacekdError


@contextlib.contextmanager
def locked(path: Path, doing: str) -> Iterator[None]:
    """Holds the lock file `path`, made if it is not there.

    Args:
        path: a file that holds nothing.
        doing: what the other process does, for the message: "computing these features".

    Raises:
        FacekdError: another process holds it.
        OSError: it cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two processes would compute the same; neither would lose any
        yield
        return
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FacekdError(f"another process is {doing} ({path}): wait for it") from None
        yield
