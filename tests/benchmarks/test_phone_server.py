"""An adb server that facekd started ends with it; one that ran before goes on. With adbutils' own adb."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from facekd.benchmarks.phone_server import server_left_as_found

adbutils = pytest.importorskip("adbutils")
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parent))
    from fake_adb import Server


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A free port, which adb takes for its server's; whatever serves there at the end is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = int(free.getsockname()[1])
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(number))
    monkeypatch.delenv("ANDROID_ADB_SERVER_HOST", raising=False)
    yield number
    adbutils.AdbClient("127.0.0.1", number).server_kill()


def listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def without_a_phone(model: Path) -> None:
    command = [sys.executable, "-m", "facekd", "benchmark", str(model), "--device", "adb:NONE"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 2, ran.stderr
    assert "adb lists no phone" in ran.stderr


def start_adb(port: int) -> None:
    try:
        subprocess.run(
            [adbutils.adb_path(), "-P", str(port), "start-server"], check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError, adbutils.AdbError) as error:
        pytest.skip(f"the phone's adb does not start here: {error}")


def test_no_server_is_left_where_there_was_none(subject_folder: Path, port: int) -> None:
    """Seen: benchmark --device adb:... with no phone left an adb daemon running."""
    start_adb(port)
    adbutils.AdbClient("127.0.0.1", port).server_kill()
    assert not listens(port)
    without_a_phone(subject_folder)
    assert not listens(port)


def test_a_server_of_the_users_goes_on(subject_folder: Path, port: int) -> None:
    start_adb(port)
    without_a_phone(subject_folder)
    assert listens(port)


def test_the_server_ends_after_an_error_and_only_if_it_began_within(port: int) -> None:
    with pytest.raises(KeyError), server_left_as_found():
        start_adb(port)
        raise KeyError
    assert not listens(port)
    server = Server({}, port=port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with server_left_as_found():
            pass
        assert listens(port)
    finally:
        server.shutdown()
        server.server_close()
    assert os.environ["ANDROID_ADB_SERVER_PORT"] == str(port)


@pytest.fixture(scope="module")
def subject_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact, which the phone takes."""
    from facekd.models.bundle import save_bundle
    from facekd.models.describe import describe
    from facekd.models.registry import create_model

    arguments = {"scale": 0.25, "blocks": [1, 1, 1, 1], "embedding_width": 16, "feature_channels": 32}
    model = create_model("mobilefacenet", **arguments)
    folder = tmp_path_factory.mktemp("model")
    card = describe(model, kind="student", name="tiny", architecture="mobilefacenet", arguments=arguments)
    save_bundle(folder / "bundle", model, card)
    command = [sys.executable, "-m", "facekd", "export", str(folder / "bundle"), "--target", "onnx"]
    subprocess.run([*command, "--out", str(folder / "onnx")], check=True, capture_output=True)
    return folder / "onnx"
