"""The demo's server: loopback only, a fixed table of answers, headers that keep the page to itself."""

import errno
import socket
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from facekd.common.errors import FacekdError
from facekd.demo.site import Resource

LOOPBACK = "127.0.0.1"
MOST_CONNECTIONS = 64
"""A browser opens six to one server; each connection is a thread here."""
READ_TIMEOUT_S = 10.0
"""How long a connection may be silent; a browser opens a new one where it needs it."""

HEADERS = {
    # WebAssembly needs 'wasm-unsafe-eval'; everything else comes from this server or not at all.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; "
        "style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # These two give the page shared memory, and with it threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Serves `site` on 127.0.0.1.

    Args:
        site: path -> answer.
        port: 0 takes any that is free; `url` says which.

    Raises:
        FacekdError: the port is taken or may not be used.
    """

    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, site: Mapping[str, Resource], port: int) -> None:
        self.site = dict(site)
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._said: set[str] = set()
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise FacekdError(f"port {port} {reason}: choose another with --port, 0 for any that is free") from error

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        """Answers in a thread of its own; what comes while all are busy is closed at once."""
        if not self._free.acquire(blocking=False):
            self._say_once(f"more than {MOST_CONNECTIONS} connections at once: the others are closed")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        """Runs in that thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """One line for each kind of error, in place of a traceback for each connection that broke off."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            self._say_once(f"a request failed: {type(error).__name__}: {error}")

    def _say_once(self, what: str) -> None:
        if what not in self._said:
            self._said.add(what)
            print(f"facekd demo: {what}", file=sys.stderr)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_S
    server: DemoServer

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        status, found = 200, self.server.site.get(self.path.partition("?")[0])
        # A foreign name that resolves to loopback (DNS rebinding) must not read the model.
        if self.headers.get("Host") not in {f"{name}:{self.server.server_port}" for name in (LOOPBACK, "localhost")}:
            status, found = 403, None
        elif found is None:
            status = 404
        body = found.data if found else f"{status}\n".encode()
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", found.content_type if found else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: who looked at the page when is nobody's business."""
