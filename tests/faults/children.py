"""A function in a forked process that may be killed, may fill its disk, and whose every deed is watched.

One interpreter imports everything once and forks for every case, so that a case costs milliseconds; a case that
crashes, hangs or eats memory takes only itself along. Python's audit events tell what a case does: files opened for
writing, processes started, connections made.
"""

import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facekd.common.errors import FacekdError

_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
_EXECUTES = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "pty.spawn",
    "subprocess.Popen",
    "socket.connect",
    "socket.bind",
)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a case ended.

    Attributes:
        how: "done", "refused" (a FacekdError, or a verb's exit code that is not 0), "unforeseen" (any other exception),
            "killed" (as asked), "hung" (killed at its limit) or "died" (of a signal nobody sent).
        said: the error, the signal, or the text that the work returned.
        output: what it wrote to stdout and stderr.
        seconds: by the clock.
        cpu_s: of computing, which other work on the machine does not lengthen.
        peak_mib: highest resident memory of the process, interpreter and libraries included.
        operations: changes to files that it began, in the order it began them; the count that `kill_at` counts.
        deeds: what it did that no reader of a file should: writes outside its folder, processes, connections.
    """

    how: str
    said: str = ""
    output: str = ""
    seconds: float = 0.0
    cpu_s: float = 0.0
    peak_mib: float = 0.0
    operations: int = 0
    deeds: list[str] = field(default_factory=list)


def run_child(
    work: Callable[[], object],
    *,
    limit_s: float,
    inside: Path | None = None,
    kill_after_s: float | None = None,
    kill_at: int | None = None,
    file_limit: int | None = None,
) -> Ended:
    """Runs `work` in a forked process and waits for its end.

    Args:
        work: takes nothing.
        limit_s: killed as hung after this many seconds.
        inside: the only folder it may write to, beside one for temporary files.
        kill_after_s: SIGKILL after this many seconds, if it still runs.
        kill_at: SIGKILL in the place of its n-th change to a file, from 1.
        file_limit: no file may grow beyond this many bytes (RLIMIT_FSIZE), as on a full disk.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as text:
        sys.stdout.flush()
        start = time.perf_counter()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _child(work, writing, text.fileno(), inside=inside, kill_at=kill_at, file_limit=file_limit)
        os.close(writing)
        wait_s = limit_s if kill_after_s is None else kill_after_s
        ready, _, _ = select.select([reading], [], [], wait_s)
        if not ready:
            os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        seconds = time.perf_counter() - start
        reported = b""
        while ready and (part := os.read(reading, 65536)):
            reported += part
        os.close(reading)
        text.seek(0)
        output = text.read().decode(errors="replace")
    facts: dict[str, Any] = {"output": output, "seconds": seconds, "cpu_s": usage.ru_utime + usage.ru_stime}
    facts["peak_mib"] = usage.ru_maxrss / 1024
    if reported:
        return Ended(**json.loads(reported), **facts)
    name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    asked = kill_at is not None or (kill_after_s is not None and not ready)
    how = "killed" if asked and name == "SIGKILL" else "hung" if not ready else "died"
    return Ended(how=how, said=name, **facts)


def call_verb(*words: str | Path) -> Callable[[], None]:
    """The `facekd` command with these words, as a function; exits as the command does."""

    def call() -> None:
        from facekd.cli import main

        sys.argv = ["facekd", *map(str, words)]
        main()

    return call


class _Watch:
    """An audit hook: counts changes to files, dies at one of them, and notes what should not happen."""

    def __init__(self, allowed: tuple[str, ...], kill_at: int | None) -> None:
        self.operations = 0
        self.deeds: list[str] = []
        self._allowed = allowed
        self._kill_at = kill_at

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, flags = arguments[0], arguments[2]
            written = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if isinstance(path, str | bytes) and written:
                self._change(os.fsdecode(path))
        elif event in _CHANGES:
            # A removal inside temporary folders is given relative to an open folder: only whole paths can be judged.
            paths = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
            self._change(*(path for path in paths if event == "os.mkdir" or path.startswith(os.sep)))
        elif event in _EXECUTES and len(self.deeds) < 9:
            self.deeds.append(f"{event} {str(arguments)[:80]}")

    def _change(self, *paths: str) -> None:
        self.operations += 1
        if self.operations == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        for path in paths:
            # The folder's links are followed, the file's own not: it is the name that a rename or removal changes.
            place = Path(os.path.realpath(Path(path).parent)) / Path(path).name
            if len(self.deeds) < 9 and not any(place.is_relative_to(folder) for folder in self._allowed):
                self.deeds.append(f"wrote {place}")


def _child(
    work: Callable[[], object],
    writing: int,
    text: int,
    *,
    inside: Path | None,
    kill_at: int | None,
    file_limit: int | None,
) -> None:
    """Never returns."""
    os.dup2(text, 1)
    os.dup2(text, 2)
    allowed: tuple[str, ...] = ("/",)
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # the write fails then, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if inside is not None:
        temporary = inside.with_name(f"{inside.name}-temporary")  # a reader's temporary files are no harm
        temporary.mkdir(exist_ok=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.tempdir = str(temporary)
        allowed = (os.path.realpath(inside), os.path.realpath(temporary), "/dev")
    watch = _Watch(allowed, kill_at)
    how, said = "done", ""
    sys.addaudithook(watch)
    try:
        said = str(work())
    except FacekdError as error:
        how, said = "refused", str(error)
    except SystemExit as end:
        how = "done" if end.code in (0, None) else "refused"
    except BaseException as error:
        how, said = "unforeseen", f"{type(error).__name__}: {error}"
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            how = "unforeseen" if how == "done" else how
    facts = {"how": how, "said": said[:400], "operations": watch.operations, "deeds": watch.deeds}
    os.write(writing, json.dumps(facts).encode())
    os._exit(0)
