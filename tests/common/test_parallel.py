"""The pool: order, bounded memory, what ends it, and a real Dask cluster on this machine."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.common.parallel import CHUNK, open_pool, ordered_map


def slow_first(item: int) -> tuple[int, int]:
    """The earlier the item, the later it is done."""
    time.sleep(0.02 if item % 5 == 0 else 0)
    return item, os.getpid()


def ends_at_seven(item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def fails_at_seven(item: int) -> int:
    if item == 7:
        raise FacekdError("seven is not liked")
    return item


def test_results_come_in_order_whatever_the_pool() -> None:
    for workers in (1, 2):
        with open_pool(workers) as pool:
            results = list(ordered_map(pool, slow_first, range(40)))
        assert [item for item, _ in results] == list(range(40))
        pids = {pid for _, pid in results}
        assert pids == {os.getpid()} if workers == 1 else os.getpid() not in pids


def test_items_are_taken_as_there_is_room() -> None:
    """Of endless items only a few chunks are ahead of what is taken."""
    taken = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, slow_first, items())
        for _ in range(20):
            next(results)
        assert len(taken) <= 20 + (2 * 2 + 1) * CHUNK
        results.close()  # type: ignore[attr-defined]


def test_an_error_in_a_worker_is_the_callers() -> None:
    with open_pool(2) as pool, pytest.raises(FacekdError, match="seven is not liked"):
        list(ordered_map(pool, fails_at_seven, range(20)))


def test_a_worker_that_is_killed_is_one_line() -> None:
    with open_pool(2) as pool, pytest.raises(FacekdError, match=r"a worker process died: .*--workers 1") as died:
        list(ordered_map(pool, ends_at_seven, range(20)))
    assert "\n" not in str(died.value)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from facekd.common.parallel import open_pool, ordered_map\n"
        "if __name__ == '__main__':\n"
        "    with open_pool(2) as pool:\n"
        "        print([pool.submit(os.getpid).result() for _ in range(1)][0], flush=True)\n"
        "        time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    for _ in range(300):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").exists() and Path(f"/proc/{worker}/stat").read_text().split(") ")[1][0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent by 30 s")


@pytest.mark.parametrize("moment_s", [0.0, 0.1, 0.5])
def test_ctrl_c_of_a_terminal_is_the_parents_alone(tmp_path: Path, moment_s: float) -> None:
    """It goes to every process of the group: no worker prints a traceback, whenever it comes."""
    script = tmp_path / "parent.py"
    script.write_text(
        "import time\n"
        "from facekd.common.parallel import open_pool, ordered_map\n"
        "if __name__ == '__main__':\n"
        "    try:\n"
        "        print('begun', flush=True)\n"
        "        with open_pool(2) as pool:\n"
        "            list(ordered_map(pool, time.sleep, [0.01] * 10_000))\n"
        "    except KeyboardInterrupt:\n"
        "        print('caught')\n"
    )
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == "begun\n"
        time.sleep(moment_s)
        os.killpg(parent.pid, signal.SIGINT)
        out, said = parent.communicate(timeout=60)
    assert (out, said) == ("caught\n", "")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers of one thread, as processes on this machine."""
    folder = tmp_path_factory.mktemp("dask")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    file = folder / "scheduler.json"
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    processes = [
        subprocess.Popen(
            [*scheduler, "--no-dashboard", "--scheduler-file", str(file)],
            cwd=folder, env=environment, stderr=subprocess.DEVNULL,
        )
    ]  # fmt: skip
    for _ in range(600):
        if file.exists() and file.stat().st_size:
            break
        time.sleep(0.1)
    for number in range(2):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1",
                 "--no-nanny", "--no-dashboard", "--local-directory", str(folder / str(number)), "--host", "127.0.0.1"],
                cwd=folder, env=environment, stderr=subprocess.DEVNULL,
            )
        )  # fmt: skip
    address = json.loads(file.read_text())["address"]
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(2, timeout=300)
    yield address, processes[1:]
    for process in processes:
        process.kill()
    for process in processes:
        process.wait(30)


def test_a_dask_cluster_gives_the_same(cluster: tuple[str, list[subprocess.Popen[bytes]]]) -> None:
    """In order, in its own processes; a worker that dies meanwhile costs nothing but time."""
    address, workers = cluster
    with open_pool(dask=address) as pool:
        results = []
        for item, pid in ordered_map(pool, slow_first, range(200)):
            results.append((item, pid))
            if len(results) == 30:
                workers[0].kill()
        assert [item for item, _ in results] == list(range(200))
        assert os.getpid() not in {pid for _, pid in results}


def test_no_scheduler_is_one_line() -> None:
    with (
        pytest.raises(UsageError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9: ") as refused,
        open_pool(dask="tcp://127.0.0.1:9"),
    ):
        pass
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="0 workers: give at least 1"), open_pool(0):
        pass
