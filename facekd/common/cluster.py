"""A Dask cluster as a concurrent.futures.Executor; a cluster that is lost ends the work with one line."""

import gc
import logging
import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from typing import Any

from facekd.common.errors import FacekdError, UsageError, first_line, require_modules

CONNECT_S = 20.0
"""How long a scheduler has to answer."""
LOOK_S = 5.0
"""How often it is checked, while a result is waited for, that the cluster has workers."""


class Cluster(Executor):
    """Tasks on a Dask cluster; `open_cluster` makes one. A worker that dies is replaced by the others.

    Args:
        client: a distributed.Client.
        address: of its scheduler.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client, self.address = client, address

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See Executor. Its result raises FacekdError where scheduler or workers are lost."""
        try:
            return _Result(self, self._client.submit(fn, *args, **kwargs, pure=False))
        except Exception as error:  # distributed raises its own, and OSError, as the connection is lost
            raise self.lost(error) from None

    @contextmanager
    def holding(self, token: str, data: bytes) -> Iterator[None]:
        """Within the block every worker, a later one too, has `data` for `sent_to_worker`."""
        name = f"facekd-{token}"
        self._client.register_plugin(_sending(token, data), name=name)
        try:
            yield
        finally:
            with suppress(Exception):  # the cluster is gone, and the data with it
                self._client.unregister_worker_plugin(name)

    @property
    def connected(self) -> bool:
        """Whether the scheduler is there, as far as is known."""
        return bool(self._client.status == "running")

    def check(self) -> None:
        """Raises FacekdError where nobody is left to do the work."""
        if not self.connected:
            raise self.lost(None)
        try:
            workers = self._client.run_on_scheduler(_count_workers)
        except Exception as error:
            raise self.lost(error) from None
        if not workers:
            raise FacekdError(
                f"the Dask cluster at {self.address} has no workers left: start some and run the command again"
            )

    def lost(self, error: BaseException | None) -> FacekdError:
        """The error for a scheduler that went away."""
        why = f" ({first_line(error)})" if error is not None else ""
        return FacekdError(f"the Dask scheduler at {self.address} is gone{why}: start it and run the command again")


class _Result:
    """What of a Future is used."""

    def __init__(self, cluster: Cluster, future: Any) -> None:
        self._cluster, self._future = cluster, future

    def result(self) -> Any:
        while True:
            try:
                return self._future.result(timeout=LOOK_S)
            except TimeoutError:
                self._cluster.check()
            except FacekdError:
                raise
            except Exception as error:
                if type(error).__name__ == "KilledWorker":  # after a task has taken several workers with it
                    raise FacekdError(
                        f"the cluster's workers died over and over at one task: {first_line(error)}"
                    ) from None
                if self._future.status in ("cancelled", "lost") or not self._cluster.connected:
                    raise self._cluster.lost(error) from None
                if not type(error).__module__.startswith("distributed.comm"):
                    raise
                self._cluster.check()  # the connection broke while the result was on its way
                time.sleep(LOOK_S / 100)
            except CancelledError as error:  # no Exception, in asyncio
                raise self._cluster.lost(error) from None

    def cancel(self) -> None:
        with suppress(Exception):
            self._future.cancel()


@contextmanager
def open_cluster(address: str) -> Iterator[Cluster]:
    """The cluster of a Dask scheduler.

    Raises:
        UsageError: no scheduler answers there, it has no workers, or the package is not installed.
    """
    require_modules("--dask", ["distributed"], extra="dask")
    import distributed

    # A lost scheduler is said once, by us.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_not_of_distributed)
    make_client: Any = distributed.Client
    try:
        client = make_client(address, timeout=CONNECT_S)
    except (OSError, TimeoutError, ValueError, ImportError) as error:
        raise UsageError(f"no Dask scheduler at {address}: {first_line(error)}") from None
    try:
        if not client.scheduler_info().get("workers"):
            raise UsageError(f"the Dask scheduler at {address} has no workers: start some with `dask worker {address}`")
        yield Cluster(client, address)
    finally:
        with suppress(Exception, CancelledError):
            client.close()
        gc.collect()  # tasks of a lost connection end here, and not inside whatever runs later


def _not_of_distributed(record: logging.LogRecord) -> bool:
    """Leaves out what asyncio says of the package's own tasks as they end with a connection."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not kind.__module__.startswith("distributed")


def sent_to_worker(token: str) -> bytes:
    """In a worker: the data that `Cluster.holding` sent."""
    return _sent[token]


_sent: dict[str, bytes] = {}


def _count_workers(dask_scheduler: Any) -> int:
    return len(dask_scheduler.workers)


def _sending(token: str, data: bytes) -> Any:
    """A plugin that keeps `data` in each worker."""
    from distributed import WorkerPlugin

    class Sending(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            del worker
            _keep(token, data)

        def teardown(self, worker: Any) -> None:
            del worker
            _forget(token)

    return Sending()


def _keep(token: str, data: bytes) -> None:
    _sent[token] = data


def _forget(token: str) -> None:
    _sent.pop(token, None)
