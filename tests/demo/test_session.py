"""The page's recognition session against core's vectors, by Node, and a change of people in a browser."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.demo.face_model import FaceModel

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "facekd/demo/static"
RESOURCES = ROOT / "android_demo/core/src/test/resources"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's own files make of the vectors."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("no node on the PATH: install Node.js (Debian: nodejs)")
    if not RESOURCES.is_dir():
        pytest.skip("not run from a checkout: there is no android_demo")
    # Node takes .js files for modules where a package.json says so; a browser needs none.
    static = tmp_path_factory.mktemp("static")
    shutil.copytree(STATIC, static, dirs_exist_ok=True)
    (static / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    words = [node, Path(__file__).with_name("run_session.mjs"), static, RESOURCES]
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_sequence_gives_the_references_answers(computed: dict[str, Any]) -> None:
    cases = json.loads((RESOURCES / "session.json").read_text(encoding="utf-8"))
    assert len(cases) == len(computed["sessions"]) >= 15
    for one, found in zip(cases, computed["sessions"], strict=True):
        for number, (frame, faces) in enumerate(zip(one["frames"], found, strict=True)):
            for want, got in zip(frame["expected"], faces, strict=True):
                where = f"{one['name']}, frame {number}"
                assert {**got, "score": None} == {**want, "score": None}, where
                assert got["score"] == pytest.approx(want["score"], abs=1e-9), where


def test_every_liveness_sequence_gives_the_references_answers(computed: dict[str, Any]) -> None:
    cases = json.loads((RESOURCES / "liveness.json").read_text(encoding="utf-8"))
    assert len(cases) >= 20
    for one, found in zip(cases, computed["liveness"], strict=True):
        assert found == [frame["expected"] for frame in one["frames"]], one["name"]


def test_liveness_crops_are_what_python_cuts(computed: dict[str, Any]) -> None:
    vectors = json.loads((RESOURCES / "vectors.json").read_text(encoding="utf-8"))["liveness"]
    found = computed["crops"]
    assert found["regions"] == [one["region"] for one in vectors["regions"]]
    for want, got in zip(vectors["crops"], found["pixels"], strict=True):
        assert np.abs(np.array(want["pixels"]) - np.array(got)).max() <= 1
    assert found["softmax"] == pytest.approx(vectors["softmax"])
    assert found["none"] == [None, None]


def test_every_enrolment_gives_the_references_answer(computed: dict[str, Any]) -> None:
    cases = json.loads((RESOURCES / "enrolment.json").read_text(encoding="utf-8"))
    assert [one["expected"] for one in cases] == computed["reviews"]


def test_quality_is_what_the_reference_measures(computed: dict[str, Any]) -> None:
    wanted = json.loads((RESOURCES / "vectors.json").read_text(encoding="utf-8"))["quality"]
    for want, got in zip(wanted, computed["measures"], strict=True):
        assert got == pytest.approx(want, rel=1e-4, abs=1e-4)


def test_the_limits_are_the_apps(computed: dict[str, Any]) -> None:
    """QualityFloor's two instances in Quality.kt."""
    text = (ROOT / "android_demo/core/src/main/kotlin/org/facekd/core/Quality.kt").read_text(encoding="utf-8")
    order = ("eyeDistance", "yaw", "rollDegrees", "pitch", "brightness", "sharpness")
    found = dict(re.findall(r"val (PROBE|ENROLMENT) = QualityFloor\((.*)\)", text))
    assert set(found) == set(computed["floors"])
    for name, numbers in found.items():
        values = [[float(v) for v in one.split("..")] for one in numbers.split(", ")]
        expected = {key: v if len(v) == 2 else v[0] for key, v in zip(order, values, strict=True)}
        assert computed["floors"][name] == expected


WATCH_LABELS = """
window.drawn = [];
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
  const [red, , blue] = this.getImageData(8, 8, 1, 1).data;
  window.drawn.push([red > blue ? "Ada" : "Bea", text]);
  return write.call(this, text, ...rest);
};
"""

SAID_OF_BOTH = """() => drawn.length > 60
  && drawn.some(([, text]) => text.startsWith("Ada")) && drawn.some(([, text]) => text === "hold still")
  && drawn.some(([who, text]) => who === "Bea" && text.startsWith("unknown"))"""


@pytest.mark.slow
def test_no_name_is_drawn_on_another_person(
    serve: Callable[[FaceModel], str],
    edgeface: FaceModel,
    filmed: Callable[[Path], Any],
    person: list[Path],
    other: list[Path],
    tmp_path: Path,
) -> None:
    """Two people take turns before the camera, three seconds each; the corner's colour says whose frame it is.

    Seen: labels of the last analysed frame were drawn over every later one, Ada's name over Bea's face.
    """
    frames = []
    for path, colour in ((person[0], (40, 40, 200)), (other[0], (200, 40, 40))):  # BGR: Ada's corner is red
        picture = np.full((480, 640, 3), colour, np.uint8)
        picture[:, 80:560] = cv2.resize(cv2.imread(str(path)), (480, 480), interpolation=cv2.INTER_CUBIC)
        frames.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    film = tmp_path / "turns.mjpeg"
    film.write_bytes(b"".join(frame * 90 for frame in frames))  # shown at 20 to 30 frames a second, again and again
    page = filmed(film).new_page(viewport={"width": 900, "height": 900})
    page.set_default_timeout(60_000)
    page.add_init_script(WATCH_LABELS)
    page.goto(serve(edgeface))
    page.fill("#name", "Ada")
    page.wait_for_selector("#enrol_picture:not([disabled])")
    with page.expect_file_chooser() as chooser:
        page.click("#enrol_picture")
        page.click("text=The person agrees")
    chooser.value.set_files(person[0])
    page.wait_for_selector("#people li")
    page.click("#camera")
    page.wait_for_function(SAID_OF_BOTH, timeout=400_000)  # as long as it takes on a busy machine
    drawn = page.evaluate("() => drawn")
    page.close()
    named = {who for who, text in drawn if text.startswith("Ada")}
    assert named == {"Ada"}
    assert any(text.startswith("unknown") for who, text in drawn if who == "Bea")
    assert any(text == "hold still" for _, text in drawn)
