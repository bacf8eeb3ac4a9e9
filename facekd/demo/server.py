"""The demo's server: loopback only, a fixed table of answers, headers that keep the page to itself."""

import errno
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from facekd.common.errors import FacekdError
from facekd.demo.site import Resource

LOOPBACK = "127.0.0.1"

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

    def __init__(self, site: Mapping[str, Resource], port: int) -> None:
        self.site = dict(site)
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            reason = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise FacekdError(f"port {port} {reason}: choose another with --port, 0 for any that is free") from error

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
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
