"""The adb server, which adbutils starts where there is none: left running only where it ran before."""

import contextlib
import os
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def server_left_as_found() -> Iterator[None]:
    """A block after which the adb server that it started is ended; one that ran before goes on.

    The place is adb's own choice: ANDROID_ADB_SERVER_HOST and ANDROID_ADB_SERVER_PORT, or port 5037 of this machine.
    """
    host = os.environ.get("ANDROID_ADB_SERVER_HOST", "127.0.0.1")
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "5037")
    running = _listens(host, port)
    try:
        yield
    finally:
        if not running and _listens(host, port):
            _end(host, int(port))


def _listens(host: str, port: str) -> bool:
    try:
        with socket.create_connection((host, int(port)), timeout=3):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _end(host: str, port: int) -> None:
    """As `adb kill-server`; what became of the measurement matters more than a server that does not end."""
    import adbutils

    with contextlib.suppress(adbutils.AdbError, OSError):
        adbutils.AdbClient(host, port, socket_timeout=5).server_kill()
