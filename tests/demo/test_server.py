"""What the demo serves, to whom, and what it refuses; no browser needed."""

import contextlib
import http.client
import socket
import struct
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from facekd.cli import main
from facekd.common.errors import FacekdError, UsageError
from facekd.demo import runtime as runtime_module
from facekd.demo.face_model import FaceModel
from facekd.demo.runtime import fetch_runtime, read_runtime
from facekd.demo.server import MOST_CONNECTIONS, DemoServer
from facekd.demo.site import Resource, any_size, build_site
from facekd.schemas.input_spec import InputSpec


@pytest.fixture
def server() -> Iterator[DemoServer]:
    with DemoServer({"/": Resource("text/html", b"page"), "/a.js": Resource("text/javascript", b"1")}, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server: DemoServer, path: str, *, method: str = "GET", host: str | None = None) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, headers={"Host": host} if host else {})
    return connection.getresponse()


def test_answers_are_of_this_page_alone(server: DemoServer) -> None:
    answer = ask(server, "/?x=1")
    assert (answer.status, answer.read()) == (200, b"page")
    policy = answer.headers["Content-Security-Policy"]
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert sources == {"'none'", "'self'", "'wasm-unsafe-eval'"}
    assert "default-src 'none'" in policy
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    head = ask(server, "/a.js", method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.read()) == (200, "1", b"")
    assert ask(server, "/", host=f"localhost:{server.server_port}").status == 200


@pytest.mark.parametrize("path", ["/../setup.cfg", "/%2e%2e/setup.cfg", "//etc/passwd", "/etc/passwd", "/static/"])
def test_nothing_but_the_table_is_served(server: DemoServer, path: str) -> None:
    answer = ask(server, path)
    assert (answer.status, answer.read()) == (404, b"404\n")


def test_a_foreign_name_for_loopback_is_refused(server: DemoServer) -> None:
    """DNS rebinding: another site's name that resolves to 127.0.0.1."""
    for host in ("evil.example", f"evil.example:{server.server_port}", "127.0.0.1"):
        assert ask(server, "/", host=host).status == 403
    assert ask(server, "/", method="POST").status == 501


def test_connections_that_say_nothing_end_and_are_bounded(
    server: DemoServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Seen: 1,000 half-open requests held 1,005 threads for ever, and 1,021 tracebacks were printed."""
    monkeypatch.setattr(server.RequestHandlerClass, "timeout", 0.5)
    usual_s = server.RequestHandlerClass.timeout
    before = set(threading.enumerate())
    opened = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(300)]
    for number, one in enumerate(opened):
        with contextlib.suppress(ConnectionError):  # those beyond the bound are closed already
            one.sendall(b"GET / HTTP/1.1\r\n")
        if number % 3 == 0:  # breaks off in the middle
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
    assert len(set(threading.enumerate()) - before) <= MOST_CONNECTIONS
    deadline = time.monotonic() + 120
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert set(threading.enumerate()) <= before
    monkeypatch.setattr(server.RequestHandlerClass, "timeout", usual_s)
    assert ask(server, "/").status == 200
    for one in opened:
        one.close()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") <= 1


def test_only_loopback_is_bound(server: DemoServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert urlsplit(server.url).hostname == "127.0.0.1"
    with pytest.raises(FacekdError, match=rf"port {server.server_port} is taken: choose another"):
        DemoServer({}, server.server_port)


def test_the_site_holds_every_file_that_the_page_names(shared: Path, edgeface: FaceModel) -> None:
    yunet = shared / "weights" / "yunet_n_640_640.onnx"
    site = build_site(edgeface, yunet, dict.fromkeys(runtime_module.FILES, b"x"))
    scripts = {path for path in site if path.endswith(".js")}
    words = {path: site[path].data.decode() for path in scripts}
    for path, text in words.items():
        named = [line.split('"')[-2] for line in text.splitlines() if line.startswith("import ")]
        for name in named:
            assert f"/{name.removeprefix('./')}" in site, f"{path} imports {name}"
        assert "http://" not in text
        assert "https://" not in text
    assert site["/model.onnx"].data == edgeface.file.read_bytes()
    with pytest.raises(UsageError, match="takes 96x112 faces"):
        build_site(replace(edgeface, input_spec=InputSpec(size=(112, 96))), yunet, {})


def test_the_detector_takes_any_size_and_stays_the_same(shared: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="facekd[onnx] is not installed")
    path = shared / "weights" / "yunet_n_640_640.onnx"
    fixed, free = (
        onnxruntime.InferenceSession(x, providers=["CPUExecutionProvider"]) for x in (str(path), any_size(path))
    )
    rng = np.random.default_rng(0)
    whole = rng.uniform(0, 255, (1, 3, 640, 640)).astype(np.float32)
    for a, b in zip(fixed.run(None, {"input": whole}), free.run(None, {"input": whole}), strict=True):
        np.testing.assert_array_equal(a, b)
    names = [output.name for output in free.get_outputs()]
    part = dict(zip(names, free.run(None, {"input": whole[:, :, :256, :320]}), strict=True))
    assert part["bbox_8"].shape == (1, 32 * 40, 4)
    assert part["kps_32"].shape == (1, 8 * 10, 10)


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["facekd", "demo", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_what_is_missing_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, shared: Path
) -> None:
    monkeypatch.setenv("FACEKD_DEMO_CACHE", str(tmp_path))
    monkeypatch.delenv("FACEKD_DETECTOR", raising=False)
    model, detector = shared / "weights" / "edgeface_xs.onnx", shared / "weights" / "yunet_n_640_640.onnx"
    (tmp_path / "m.tflite").write_bytes(b"x")
    cases = [
        ([], 2, "give --model"),
        (["--model", model], 2, "give --detector"),
        (["--model", tmp_path / "no.onnx", "--detector", detector], 2, "there is no such file or folder"),
        (["--model", tmp_path / "m.tflite", "--detector", detector], 2, "facekd export --target onnx"),
        (["--model", tmp_path, "--detector", detector], 2, "is not an exported artefact"),
        (["--model", model, "--detector", detector], 1, "run facekd demo --fetch once"),
    ]
    for words, code, message in cases:
        assert run(monkeypatch, *words) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def fake_npm(folder: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """An npm on the PATH whose package holds `content` as every file."""
    (folder / "package/dist").mkdir(parents=True)
    for name in runtime_module.FILES:
        (folder / "package/dist" / name).write_bytes(content)
    with tarfile.open(folder / "x.tar", "w:gz") as archive:
        archive.add(folder / "package", "package")
    npm = folder / "npm"
    npm.write_text(f'#!/bin/sh\ncp "{folder}/x.tar" "$4/onnxruntime-web.tgz"\n', encoding="utf-8")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_only_the_pinned_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_npm(tmp_path / "bin", b"another content", monkeypatch)
    with pytest.raises(FacekdError, match="is not the pinned file"):
        fetch_runtime(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of b"test"
    monkeypatch.setattr(runtime_module, "FILES", dict.fromkeys(runtime_module.FILES, digest))
    fake_npm(tmp_path / "right", b"test", monkeypatch)
    fetch_runtime(tmp_path / "cache")
    assert set(read_runtime(tmp_path / "cache").values()) == {b"test"}
    (tmp_path / "cache" / "ort.wasm.min.mjs").write_bytes(b"changed")
    with pytest.raises(FacekdError, match="is not the pinned file"):
        read_runtime(tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FacekdError, match="needs npm on the PATH"):
        fetch_runtime(tmp_path / "cache")
