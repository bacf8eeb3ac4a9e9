"""The page in a headless Chromium whose camera shows a real photograph."""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.common.errors import FacekdError
from facekd.data.detection import YuNet
from facekd.demo.face_model import FaceModel
from facekd.demo.runtime import cache_folder, fetch_runtime, read_runtime
from facekd.demo.server import DemoServer
from facekd.demo.site import build_site
from facekd.schemas.input_spec import InputSpec


@pytest.fixture(scope="session")
def runtime() -> dict[str, bytes]:
    """onnxruntime-web. In CI it is fetched; elsewhere nothing is downloaded unasked."""
    try:
        return read_runtime(cache_folder())
    except FacekdError as missing:
        if "CI" not in os.environ:
            pytest.skip(str(missing))
    try:
        fetch_runtime(cache_folder())
    except FacekdError as error:
        pytest.skip(str(error))
    return read_runtime(cache_folder())


def photographs(shared: Path, name: str) -> list[Path]:
    found = sorted((shared / "data" / "lfw_raw" / name).glob("*.jpg"))
    return found or pytest.skip(f"no photographs of {name} in {shared / 'data' / 'lfw_raw'}")


@pytest.fixture(scope="session")
def person(shared: Path) -> list[Path]:
    """Photographs of the person whom the camera shows."""
    return photographs(shared, "Abel_Pacheco")


@pytest.fixture(scope="session")
def other(shared: Path) -> list[Path]:
    """Photographs of somebody else."""
    return photographs(shared, "Angela_Bassett")


@pytest.fixture(scope="session")
def detector(shared: Path) -> YuNet:
    return YuNet(shared / "weights" / "yunet_n_640_640.onnx")


@pytest.fixture(scope="session")
def edgeface(shared: Path) -> FaceModel:
    """A model that knows real faces, with a threshold set by hand."""
    return FaceModel(
        name="edgeface_xs",
        precision="fp32",
        file=shared / "weights" / "edgeface_xs.onnx",
        input_spec=InputSpec(),
        layout="NCHW",
        batch=None,
        dtype="float32",
        takes_pixels=False,
        embedding_width=512,
        thresholds=[{"far": 1e-3, "threshold_cos": 0.3, "dataset": "by hand"}],
        golden=None,
        output="embedding",
    )


@pytest.fixture(scope="session")
def serve(detector: YuNet, runtime: dict[str, bytes]) -> Iterator[Callable[[FaceModel], str]]:
    """Model -> the address of a page that has it."""
    with ExitStack() as stack:

        def start(model: FaceModel) -> str:
            server = stack.enter_context(DemoServer(build_site(model, detector.path, runtime), 0))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            return server.url

        yield start


@pytest.fixture(scope="session")
def filmed() -> Iterator[Callable[[Path], Any]]:
    """Film (.mjpeg) -> Chromium whose camera shows it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (facekd[test])")
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(names)} is on the PATH")
    flags = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver, ExitStack() as stack:

        def start(film: Path) -> Any:
            # Chromium's own sandbox does not start for root, as whom containers run.
            launched = driver.chromium.launch(
                executable_path=program, args=["--no-sandbox", *flags, f"--use-file-for-fake-video-capture={film}"]
            )
            stack.callback(launched.close)
            return launched

        yield start


@pytest.fixture(scope="session")
def browser(filmed: Callable[[Path], Any], person: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Chromium; its camera shows `person`'s first photograph, 480 pixels high in a 640x480 picture."""
    image = cv2.imread(str(person[0]))
    assert image is not None
    picture = np.full((480, 640, 3), 96, np.uint8)
    picture[:, 80:560] = cv2.resize(image, (480, 480), interpolation=cv2.INTER_CUBIC)
    film = tmp_path_factory.mktemp("camera") / "photograph.mjpeg"
    film.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes())
    return filmed(film)
