"""Runtimes that keep Python from running compute in a process of their own, which a limit, Ctrl-C or a crash ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from facekd.common.errors import FacekdError
from facekd.runtimes import base
from facekd.runtimes.base import Session
from facekd.runtimes.opening import open_session

MODULE = '''
import ctypes, os, time
from pathlib import Path
import numpy as np
from facekd.runtimes.base import OpenOptions, Runtime, Session, Tensor

class Holding(Runtime):
    """Computes in C with Python's lock held, as ExecuTorch does: no thread of Python runs meanwhile."""

    name = "holding_runtime:Holding"
    title = "holding"
    suffixes = (".holding",)
    own_process = True

    def open(self, path, options):
        return HoldingSession(self, path, options)

class HoldingSession(Session):
    provider = "CPU"

    def __init__(self, runtime, path, options):
        image = Tensor(name="x", dtype="float32", shape=(None, 3, 4, 4))
        outputs = [Tensor(name=name, dtype="float32", shape=(None, None)) for name in ("e", "other")]
        super().__init__(runtime, path, inputs=[image], outputs=outputs)
        self.given = options.threads

    def run(self, x):
        seconds = float(x.flat[0])
        if seconds < 0:
            os.kill(os.getpid(), 11)
        if seconds > 1000:
            raise self.failure(x, RuntimeError("too large"))
        ctypes.PyDLL(None).usleep(int(1e6 * seconds))
        sign = 1 if self.output.name == "e" else -1
        rows = [x.reshape(len(x), -1).sum(1), np.full(len(x), os.getpid()), np.full(len(x), self.given or 0)]
        return sign * np.stack(rows, 1)

    def intermediates(self, x):
        yield "first", x + 1
        ctypes.PyDLL(None).usleep(int(1e6 * float(x.flat[0])))
        yield "second", (x > 0)
'''


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    (tmp_path / "holding_runtime.py").write_text(MODULE)
    (tmp_path / "m.holding").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "holding_runtime")
    monkeypatch.delitem(sys.modules, "holding_runtime", raising=False)
    return open_session(tmp_path / "m.holding", runtime="holding_runtime:Holding", threads=3)


def images(first: float, count: int = 2) -> np.ndarray:
    x = np.arange(count * 48, dtype=np.float32).reshape(count, 3, 4, 4)
    x[0, 0, 0, 0] = first
    return x


def test_results_come_from_another_process_and_are_those_of_this_one(session: Session) -> None:
    x = images(0)
    here, there, again = session.run(x), session.run_bounded(x), session.run_bounded(x)
    np.testing.assert_array_equal(there[:, 0], here[:, 0])
    assert there[0, 1] != os.getpid() and there[0, 1] == again[0, 1]  # one process for all
    assert there[:, 2].tolist() == [3, 3]  # threads
    names, values = zip(*session.intermediates_bounded(x), strict=True)
    assert names == ("first", "second")
    np.testing.assert_array_equal(values[0], x + 1)
    assert values[1].dtype == bool


def test_the_output_that_was_selected_is_returned(session: Session) -> None:
    session.select("other")
    assert session.run_bounded(images(0))[0, 0] == -images(0)[0].sum()


@pytest.mark.parametrize("do", ["run", "intermediates"])
def test_a_model_that_does_not_end_is_ended_with_its_process(
    session: Session, monkeypatch: pytest.MonkeyPatch, do: str
) -> None:
    pid = int(session.run_bounded(images(0))[0, 1])
    monkeypatch.setattr(base, "LIMIT_S", 0.25)
    start = time.monotonic()
    with pytest.raises(FacekdError, match=r"m\.holding.* took more than 0\.5 s and was ended"):
        list(session.intermediates_bounded(images(500)) if do == "intermediates" else session.run_bounded(images(500)))
    assert time.monotonic() - start < 60  # not 500
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    monkeypatch.setattr(base, "LIMIT_S", 30)
    assert session.run_bounded(images(0))[0, 1] not in (pid, os.getpid())  # the next run has a process again


def test_errors_and_crashes_are_a_line(session: Session) -> None:
    with pytest.raises(FacekdError, match=r"m\.holding failed on input of shape .*too large"):
        session.run_bounded(images(2000))
    pid = session.run_bounded(images(0))[0, 1]
    with pytest.raises(FacekdError, match="the process that ran it was killed by SIGSEGV"):
        session.run_bounded(images(-1))
    assert session.run_bounded(images(0))[0, 1] != pid


def test_ctrl_c_ends_it_within_a_second_and_a_killed_parent_too(session: Session, tmp_path: Path) -> None:
    code = (
        "import numpy as np, sys\nfrom pathlib import Path\nfrom facekd.runtimes.opening import open_session\n"
        "session = open_session(Path(sys.argv[1]), runtime='holding_runtime:Holding')\n"
        "x = np.zeros((1, 3, 4, 4), np.float32)\n"
        "print(int(session.run_bounded(x)[0, 1]), flush=True)\n"
        "x += 500\n"
        "try:\n    session.run_bounded(x)\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )

    def seconds(ending: signal.Signals) -> float:
        command = [sys.executable, "-c", code, str(tmp_path / "m.holding")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            time.sleep(0.3)
            start = time.monotonic()
            process.send_signal(ending)
            if ending == signal.SIGINT:
                assert process.stdout.readline() == "interrupted\n"
            taken = time.monotonic() - start
            process.wait(timeout=60)
        until = time.monotonic() + 60
        while Path(f"/proc/{pid}/cmdline").exists() and time.monotonic() < until:
            time.sleep(0.02)
        if sys.platform == "linux" and Path(f"/proc/{pid}/cmdline").exists():
            assert Path(f"/proc/{pid}/cmdline").read_bytes() == b""  # a zombie at most, which its new parent collects
        return taken

    assert any(seconds(signal.SIGINT) < 1 for _ in range(5))  # a busy machine may be late once, not five times
    seconds(signal.SIGKILL)


def test_what_facekd_ships_is_bounded() -> None:
    """Each runtime of foreign files is ended in one of two ways; torch runs facekd's own networks, mil is Python."""
    found = {runtime.name: (runtime.own_process, runtime.releases_python) for runtime in base.list_runtimes()}
    assert found["onnxruntime"] == (False, True)
    for name in ("litert", "executorch", "coreml"):
        assert found[name][0], name
