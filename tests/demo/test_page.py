"""The page in a browser: it detects, enrols and recognises, and computes what Python computes."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch

from facekd.data.alignment import align
from facekd.data.detection import YuNet
from facekd.demo.face_model import FaceModel, open_face_model
from facekd.runtimes.opening import open_file

LOOK = """
async (text) => {
  const { Recogniser } = await import("/recogniser.js");
  const recogniser = new Recogniser();
  await recogniser.start();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  const { faces } = await recogniser.look(bitmap, 1);
  return faces.map(({ box, landmarks, score, crop, embedding }) =>
    ({ box, landmarks, score, crop: crop && [...crop], embedding: embedding && [...embedding] }));
}
"""


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page of its own, which must break no policy, ask nobody else and raise nothing."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # a busy machine must not fail
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    troubles: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http://127.0.0.1:") or troubles.append(request.url))
    yield page
    context.close()
    assert troubles == []


def ready(page: Any, url: str) -> None:
    from playwright.sync_api import expect

    page.goto(url)
    expect(page.locator("#picture")).to_be_enabled()


def test_camera_enrols_and_recognises(
    page: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel, person: list[Path], other: list[Path]
) -> None:
    from playwright.sync_api import expect

    ready(page, serve(edgeface))
    page.click("#camera")
    face = page.locator("#faces li")
    expect(face).to_have_count(1)
    expect(face).to_contain_text("nobody is enrolled")

    page.fill("#name", "Ada <b>")
    page.click("#enrol_camera")
    expect(page.locator("#consent")).to_be_visible()
    page.click("text=Cancel")
    expect(page.locator("#people li")).to_have_count(0)
    page.click("#enrol_camera")
    page.click("text=The person agrees")
    expect(page.locator("#status")).to_have_text("Ada <b> is enrolled.")
    expect(page.locator("#people li")).to_contain_text("3 samples")
    expect(face.locator(".name span")).to_have_text("Ada <b>")
    expect(page.locator("#times dd", has_text="–")).to_have_count(0)

    page.set_input_files("#picture_file", person[1])
    expect(page.locator("#camera")).to_have_text("Start the camera")
    expect(face.locator(".name span")).to_have_text("Ada <b>")
    page.set_input_files("#picture_file", other[0])
    expect(face.locator(".name span")).to_have_text("unknown")
    page.click("text=Is it them?")
    expect(face.locator(".name span")).to_have_text("Not Ada <b>")
    page.set_input_files("#picture_file", person[1])
    expect(face.locator(".name span")).to_have_text("Yes, Ada <b>")

    page.fill("#name", "Bea")
    with page.expect_file_chooser() as chooser:  # Ada's consent is not Bea's
        page.click("#enrol_picture")
        page.click("text=The person agrees")
    chooser.value.set_files(other[0])
    expect(page.locator("#status")).to_have_text("Bea is enrolled.")
    page.click("text=Who is it?")
    page.set_input_files("#picture_file", other[0])
    expect(face.locator(".name span")).to_have_text("Bea")
    page.click("[aria-label='Delete Bea']")
    expect(face.locator(".name span")).to_have_text("unknown")
    page.click("[aria-label='Delete Ada <b>']")
    expect(page.locator("#nobody")).to_be_visible()

    page.fill("#name", "Cy")
    page.click("#enrol_camera")  # starts the camera, which the picture had stopped
    page.click("text=The person agrees")
    expect(page.locator("#status")).to_have_text("Cy is enrolled.")
    expect(page.locator("#camera")).to_have_text("Stop the camera")
    expect(face.locator(".name span")).to_have_text("Cy")


def test_a_bad_picture_is_not_enrolled(
    page: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel, person: list[Path], tmp_path: Path
) -> None:
    from playwright.sync_api import expect

    image = cv2.imread(str(person[0]))
    pictures = {
        "blurred": cv2.GaussianBlur(image, (0, 0), 4),
        "more than one": np.hstack([image, image]),
        "too small": cv2.resize(image, (150, 150), interpolation=cv2.INTER_AREA),
        "tilted": cv2.warpAffine(image, cv2.getRotationMatrix2D((125, 125), 30, 1.0), (250, 250)),
        "no face": np.full_like(image, 90),
    }
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    ready(page, serve(edgeface))
    page.fill("#name", "Ada")
    for number, (reason, picture) in enumerate(pictures.items()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        with page.expect_file_chooser() as chooser:
            page.click("#enrol_picture")
            page.click("text=The person agrees")  # nothing was stored: it is asked again
        chooser.value.set_files(tmp_path / f"{number}.png")
        expect(page.locator("#status")).to_contain_text(f"{number}.png is not usable")
        expect(page.locator("#status")).to_contain_text(reason)
    page.set_input_files("#picture_file", tmp_path / "text.png")
    expect(page.locator("#status")).to_contain_text("text.png cannot be looked at")
    expect(page.locator("#people li")).to_have_count(0)


def test_the_browser_computes_what_python_computes(
    page: Any,
    serve: Callable[[FaceModel], str],
    edgeface: FaceModel,
    detector: YuNet,
    person: list[Path],
    other: list[Path],
) -> None:
    """The same pixels (PNG) through detection, alignment and embedding, against OpenCV and ONNX Runtime."""
    runner = open_file(edgeface.file)
    ready(page, serve(edgeface))
    for path in (person[0], person[1], other[0]):
        image = cv2.imread(str(path))
        png = cv2.imencode(".png", image)[1].tobytes()
        found = page.evaluate(LOOK, base64.b64encode(png).decode())
        rgb = np.ascontiguousarray(image[:, :, ::-1])
        expected = detector.detect(rgb)
        assert len(found) == len(expected) >= 1
        biggest = max(expected, key=lambda face: face.box[2] * face.box[3])
        np.testing.assert_allclose(found[0]["box"], biggest.box, atol=0.05)
        np.testing.assert_allclose(found[0]["landmarks"], biggest.landmarks, atol=0.05)
        crop = align(rgb, biggest.landmarks)
        difference = np.array(found[0]["crop"], int).reshape(112, 112, 3) - crop.astype(int)
        assert np.abs(difference).mean() < 0.1
        both = torch.from_numpy(np.stack([crop, crop[:, ::-1]])).permute(0, 3, 1, 2)
        embedding = runner(both).sum(0).numpy()
        np.testing.assert_allclose(found[0]["embedding"], embedding / np.linalg.norm(embedding), atol=1e-3)


def with_external_data(path: Path, out: Path) -> None:
    """The same network, its weights in a file beside it."""
    onnx.save_model(onnx.load(path), out, save_as_external_data=True, location=f"{out.name}.data")


def with_pixels_for_input(path: Path, out: Path) -> None:
    """The same network, which takes uint8 pixels in NHWC and normalises them itself."""
    model = onnx.load(path)
    (given,) = model.graph.input
    inner, given.name = given.name, "pixels"
    given.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    for place, size in zip(given.type.tensor_type.shape.dim[1:], (112, 112, 3), strict=True):
        place.dim_value = size
    constant = onnx.numpy_helper.from_array(np.array(127.5, np.float32), "half_of_the_range")
    model.graph.initializer.append(constant)
    before = [
        onnx.helper.make_node("Cast", ["pixels"], ["as_float"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node("Transpose", ["as_float"], ["in_planes"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Sub", ["in_planes", constant.name], ["centred"]),
        onnx.helper.make_node("Div", ["centred", constant.name], [inner]),
    ]
    for at, node in enumerate(before):
        model.graph.node.insert(at, node)
    onnx.save_model(model, out)


@pytest.mark.parametrize("made", [with_external_data, with_pixels_for_input])
def test_a_foreign_files_form_changes_no_embedding(
    page: Any,
    serve: Callable[[FaceModel], str],
    edgeface: FaceModel,
    person: list[Path],
    tmp_path: Path,
    made: Callable[[Path, Path], None],
) -> None:
    """Weights in external data, and uint8 pixels in NHWC, in the browser: what the plain file gives in Python."""
    made(edgeface.file, tmp_path / "model.onnx")
    model = open_face_model(tmp_path / "model.onnx")
    assert (model.dtype, model.layout) == (("float32", "NCHW") if made is with_external_data else ("uint8", "NHWC"))
    ready(page, serve(model))
    image = cv2.imread(str(person[0]))
    found = page.evaluate(LOOK, base64.b64encode(cv2.imencode(".png", image)[1].tobytes()).decode())
    crop = np.array(found[0]["crop"], np.uint8).reshape(112, 112, 3)
    both = torch.from_numpy(np.stack([crop, crop[:, ::-1]])).permute(0, 3, 1, 2)
    embedding = open_file(edgeface.file)(both).sum(0).numpy()
    np.testing.assert_allclose(found[0]["embedding"], embedding / np.linalg.norm(embedding), atol=1e-3)


def test_a_face_that_fills_a_large_picture_is_placed_as_python_places_it(
    page: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel, detector: YuNet, person: list[Path]
) -> None:
    """At 1,600 pixels; eight of them, a two-hundredth, since the browser reduces pictures by a filter of its own."""
    ready(page, serve(edgeface))
    image = cv2.imread(str(person[0]))[50:200, 50:200]
    large = cv2.resize(image, (1600, 1600), interpolation=cv2.INTER_CUBIC)
    expected = max(detector.detect(np.ascontiguousarray(large[:, :, ::-1])), key=lambda face: face.box[2] * face.box[3])
    assert expected.box[2] > 800
    found = page.evaluate(LOOK, base64.b64encode(cv2.imencode(".png", large)[1].tobytes()).decode())
    np.testing.assert_allclose(found[0]["landmarks"], expected.landmarks, atol=8.0)


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny student, exported."""
    pytest.importorskip("onnxscript", reason="facekd[onnx] is not installed")
    from facekd.export.faces import synthetic_faces
    from facekd.export.options import ExportOptions
    from facekd.export.pipeline import Reference, export_artefact
    from facekd.models.architectures.mobilefacenet import MobileFaceNet
    from facekd.models.bundle import load_bundle, save_bundle
    from facekd.models.describe import describe

    arguments: dict[str, Any] = {
        "scale": 0.25,
        "blocks": [1, 1, 1, 1],
        "embedding_width": 16,
        "mid_multiplier": 0.125,
        "feature_channels": 16,
    }
    torch.manual_seed(3)
    model = MobileFaceNet(**arguments)
    rates = [{"far": far, "threshold_cos": cos, "dataset": "drawn"} for far, cos in ((1e-1, 0.2), (1e-2, 0.4))]
    card = describe(
        model, kind="student", name="tiny", architecture="mobilefacenet", arguments=arguments, thresholds=rates
    )
    root = tmp_path_factory.mktemp("demo")
    save_bundle(root / "bundle", model, card)
    reference = Reference(bundle=load_bundle(root / "bundle"), faces=synthetic_faces(8, (112, 112)))
    export_artefact(reference, "onnx", ExportOptions(precision="fp32"), root / "artefact")
    return root / "artefact"


def test_an_exported_student_passes_its_golden_face(
    page: Any, serve: Callable[[FaceModel], str], artefact: Path
) -> None:
    model = open_face_model(artefact)
    ready(page, serve(model))
    words = page.inner_text("#model")
    assert f"{model.name} · fp32 · 16 numbers" in words
    assert float(words.split("self-test cosine ")[1].split()[0]) > 0.9999
    assert page.locator("#promise option").all_text_contents()[1:] == ["1 in 100", "1 in 1,000", "1 in 10,000"]
    note = page.inner_text("#promise_note")
    assert "1 in 100 strangers, nobody enrolled yet. Threshold 0.400. Measured on drawn for one comparison only" in note


def test_a_browser_that_computes_something_else_is_refused(
    page: Any, serve: Callable[[FaceModel], str], artefact: Path
) -> None:
    from playwright.sync_api import expect

    model = open_face_model(artefact)
    assert model.golden is not None
    wrong = replace(model.golden, embedding=model.golden.embedding[::-1])
    page.goto(serve(replace(model, golden=wrong)))
    expect(page.locator("#loading")).to_contain_text("This cannot run here: on the golden face")
    expect(page.locator("#camera")).to_be_disabled()
