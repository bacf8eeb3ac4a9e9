"""The pool: order, bounded memory, what ends it, and a real Dask cluster on this machine."""

import functools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.common.parallel import CHUNK, FEW_ITEMS, Shared, open_pool, ordered_map, share
from tests.dask_cluster import LocalCluster, dask_cluster


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
    """Of endless items only eight chunks a process are ahead of what is taken."""
    taken = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, slow_first, items())
        for _ in range(20):
            next(results)
        assert len(taken) <= 20 + (8 * 2 + 1) * CHUNK
        results.close()


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


def looks_up(shared: Shared[dict[int, str]], item: int) -> tuple[str, int, int]:
    """What the shared value says of the item, where, and which object it was."""
    return shared.value[item], os.getpid(), id(shared.value)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_shared_is_loaded_once_in_each_process(workers: int) -> None:
    value = {number: str(number) for number in range(100)}
    with open_pool(workers) as pool, share(pool, value) as shared:
        assert len(pickle.dumps(shared)) < 500 or pool is None
        found = list(ordered_map(pool, functools.partial(looks_up, shared), range(100)))
        with share(pool, {0: "another"}) as second:
            assert [next(ordered_map(pool, functools.partial(looks_up, second), [0]))[0]] == ["another"]
    assert [text for text, _, _ in found] == list(value.values())
    assert len({(process, value) for _, process, value in found}) <= workers


def test_a_few_items_start_no_processes() -> None:
    with open_pool(items=FEW_ITEMS - 1) as pool:
        assert pool is None
    with open_pool(2, items=1) as pool:  # as it was asked for
        assert pool is not None


def test_a_model_that_is_busy_does_not_hold_up_the_pool() -> None:
    """While one result is looked at, `ahead` others are being worked on."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        results = ordered_map(pool, slow_first, items(), chunk=8, ahead=200)
        next(results)
        assert 200 <= len(taken) <= 200 + 8
        results.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    """Two workers; of one thread and of two."""
    with dask_cluster(tmp_path) as made:
        yield made


def test_a_dask_cluster_gives_the_same(cluster: LocalCluster) -> None:
    """In order, in its own processes; a worker that dies meanwhile costs nothing but time, also with what is shared."""
    value = {number: str(number) for number in range(200)}
    with open_pool(dask=cluster.address) as pool, share(pool, value) as shared:
        results = []
        for item, pid in ordered_map(pool, slow_first, range(200)):
            results.append((item, pid))
            if len(results) == 30:
                cluster.workers[0].kill()
        assert [item for item, _ in results] == list(range(200))
        assert os.getpid() not in {pid for _, pid in results}
        found = [text for text, *_ in ordered_map(pool, functools.partial(looks_up, shared), range(200))]
        assert found == list(value.values())


@pytest.mark.parametrize("what", ["scheduler", "workers"])
def test_a_cluster_that_is_lost_is_one_line(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr("facekd.common.cluster.LOOK_S", 0.2)
    lost = [cluster.scheduler] if what == "scheduler" else cluster.workers
    message = {
        "scheduler": r"the Dask scheduler at tcp.* is gone.*: start it",
        "workers": r"has no workers left: start",
    }
    with pytest.raises(FacekdError, match=message[what]) as refused, open_pool(dask=cluster.address) as pool:
        for number, _ in enumerate(ordered_map(pool, slow_first, range(10_000))):
            if number == 30:
                for process in lost:
                    process.kill()
    assert "\n" not in str(refused.value)


def test_no_scheduler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facekd.common.cluster.CONNECT_S", 1.0)
    with (
        pytest.raises(UsageError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:9: ") as refused,
        open_pool(dask="tcp://127.0.0.1:9"),
    ):
        pass
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="0 workers: give at least 1"), open_pool(0):
        pass
    with pytest.raises(UsageError, match="--workers and --dask: give one of them"), open_pool(2, dask="tcp://x:1"):
        pass
