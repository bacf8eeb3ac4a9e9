"""Liveness in the page: a person before the fake camera is named, a screen is not; scores are Python's."""

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.data.detection import YuNet
from facekd.demo import site
from facekd.demo.face_model import FaceModel, LivenessFiles
from facekd.runtimes.liveness import LivenessDetector, open_liveness_files
from facekd.schemas.liveness import Liveness

SCORES = """
async (texts) => {
  const { Recogniser } = await import("/recogniser.js");
  const recogniser = new Recogniser();
  await recogniser.start();
  const found = [];
  for (const text of texts) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
    const { faces } = await recogniser.look(bitmap, 1, { live: true, tests: true });
    found.push(faces[0].live);
  }
  return found;
}
"""


@pytest.fixture(scope="session")
def samples(shared: Path) -> dict[str, np.ndarray]:
    """Name -> BGR; one real face, two of screens."""
    found = {path.stem: cv2.imread(str(path)) for path in (shared / "data/liveness").glob("*.jpg")}
    return {name: image for name, image in found.items() if image is not None}


@pytest.fixture(scope="session")
def networks(shared: Path) -> LivenessDetector:
    return open_liveness_files([shared / f"weights/minifasnet_{name}.onnx" for name in ("v2", "v1se")])


@pytest.fixture(scope="session")
def guarded(edgeface: FaceModel, networks: LivenessDetector, shared: Path) -> FaceModel:
    """EdgeFace with liveness networks."""
    described = Liveness(models=[network.model for network in networks.networks], threshold=networks.threshold)
    return replace(edgeface, liveness=LivenessFiles(shared / "weights", described))


def film(image: np.ndarray, path: Path) -> Path:
    """One picture for the fake camera: the sample upright in 640x480, at three quarters of its size."""
    picture = np.full((480, 640, 3), 96, np.uint8)
    picture[:, 140:500] = cv2.resize(image, (360, 480), interpolation=cv2.INTER_AREA)
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 97])[1].tobytes())
    return path


def lenient() -> str:
    """quality.js, for a sample photograph that is turned somewhat more than an enrolment allows."""
    text = (Path(site.__file__).parent / "static/quality.js").read_text(encoding="utf-8")
    assert "yaw: 0.25" in text
    return text.replace("yaw: 0.25", "yaw: 0.3")


def enrol(page: Any, name: str, image: np.ndarray, path: Path) -> None:
    from playwright.sync_api import expect

    cv2.imwrite(str(path), image)
    page.fill("#name", name)
    with page.expect_file_chooser() as chooser:
        page.click("#enrol_picture")
        page.click("text=The person agrees")
    chooser.value.set_files(path)
    expect(page.locator("#status")).to_have_text(f"{name} is enrolled.")


@pytest.mark.slow
def test_a_person_is_named_and_a_screen_is_not(
    serve: Callable[[FaceModel], str],
    guarded: FaceModel,
    filmed: Callable[[Path], Any],
    samples: dict[str, np.ndarray],
    networks: LivenessDetector,
    detector: YuNet,
    tmp_path: Path,
) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    url = serve(guarded)
    for kind, name in (("real", "Ada"), ("spoof_2", "Eve")):
        page = filmed(film(samples[kind], tmp_path / f"{kind}.mjpeg")).new_page(viewport={"width": 900, "height": 900})
        page.set_default_timeout(60_000)
        page.route("**/quality.js", lambda route: route.fulfill(body=lenient(), content_type="text/javascript"))
        page.goto(url)
        expect(page.locator("#picture")).to_be_enabled()
        expect(page.locator("#liveness")).to_have_value("passive")
        expect(page.locator("#liveness_warning")).to_be_empty()
        enrol(page, name, samples[kind], tmp_path / f"{kind}.png")
        page.click("#camera")
        said = page.locator("#faces li .name span")
        expect(said).to_have_text("Ada" if kind == "real" else "Not named: not a live face?")
        if kind == "real":
            page.select_option("#liveness", "active")
            expect(said).to_have_text("Not named: look at the camera")  # a quarter of the eyes' distance aside
            encoded = [
                base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode() for image in samples.values()
            ]
            for image, found in zip(samples.values(), page.evaluate(SCORES, encoded), strict=True):
                rgb = np.ascontiguousarray(image[:, :, ::-1])
                face = max(detector.detect(rgb), key=lambda face: face.box[2] * face.box[3])
                assert found == pytest.approx(networks.score(rgb, face.box), abs=0.02)
        else:
            page.select_option("#liveness", "off")
            expect(said).to_have_text("Eve")
            expect(page.locator("#liveness_warning")).to_contain_text("a photograph of somebody passes as them")
        page.close()


def test_without_networks_the_page_warns(browser: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)
    page = browser.new_page()
    page.goto(serve(edgeface))
    expect(page.locator("#liveness_warning")).to_contain_text("has no liveness networks")
    expect(page.locator("#liveness_limits")).to_be_hidden()
    expect(page.locator("#liveness")).to_have_value("off")
    expect(page.locator("#liveness")).to_be_disabled()
    page.close()
