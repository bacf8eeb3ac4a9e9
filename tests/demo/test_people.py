"""Enrolling on the page: each person's own consent, one person under one name, what is kept and given out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.demo.face_model import FaceModel
from tests.demo.test_page import page, ready

__all__ = ["page"]  # the fixture


def enrol(page: Any, name: str, picture: Path, *, asks: bool) -> None:
    """From a picture; whether consent is asked for is part of the test."""
    page.fill("#name", name)
    with page.expect_file_chooser() as chooser:
        page.click("#enrol_picture")
        if asks:
            assert name in page.inner_text("#consent h2")
            page.click("text=The person agrees")
    chooser.value.set_files(picture)


def test_one_person_has_one_name_and_a_consent(
    page: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel, person: list[Path], other: list[Path]
) -> None:
    """Seen: consent once for all, one person under two names, two people under one, without a word."""
    from playwright.sync_api import expect

    ready(page, serve(edgeface))
    status, rows = page.locator("#status"), page.locator("#people li")
    enrol(page, "Ada", person[0], asks=True)
    expect(status).to_have_text("Ada is enrolled.")
    expect(rows).to_contain_text("text 1")
    enrol(page, "Ada", other[0], asks=False)
    expect(status).to_have_text("Another person is enrolled as Ada. Nothing was stored: choose another name.")
    enrol(page, "Eve", person[1], asks=True)
    expect(page.locator("#known")).to_contain_text("These samples of Eve look like Ada")
    page.click("#known >> text=Cancel")
    expect(status).to_have_text("Nothing was stored.")
    expect(rows).to_have_count(1)
    enrol(page, "Eve", person[1], asks=True)
    page.click("#known >> text=It is Ada")
    expect(rows).to_contain_text("2 samples")
    enrol(page, "Eve", person[1], asks=True)
    page.click("#known button[value=two]")
    expect(rows).to_have_count(2)

    page.click("[aria-label='Rename Eve']")
    page.fill("#new_name", "Ada")
    page.click("#rename >> text=Save")
    expect(status).to_have_text("Somebody is enrolled as Ada already.")
    page.click("[aria-label='Rename Eve']")
    page.fill("#new_name", "Bea")
    page.click("#rename >> text=Save")
    expect(page.locator("[aria-label='Delete Bea']")).to_be_visible()

    with page.expect_download() as download:
        page.click("[aria-label='Export Ada']")
    data = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert (data["person"], len(data["samples"])) == ("Ada", 2)
    assert {len(sample["embedding"]) for sample in data["samples"]} == {512}
    assert {sample["consent"]["text_version"] for sample in data["samples"]} == {1}
    assert min(sample["quality"]["sharpness"] for sample in data["samples"]) >= 40
    assert "Bea" not in json.dumps(data)

    page.click("[aria-label='Add a sample Ada']")  # from the camera, which shows her
    expect(page.locator("#known")).to_contain_text("look like Bea")  # her twin, as was said above
    page.click("#known button[value=two]")
    expect(rows.first).to_contain_text("3 samples")
    page.click("#forget")
    expect(page.locator("#nobody")).to_be_visible()
    enrol(page, "Ada", person[0], asks=True)  # the consent went too


@pytest.mark.slow
def test_samples_of_two_people_are_not_one(
    serve: Callable[[FaceModel], str],
    edgeface: FaceModel,
    filmed: Callable[[Path], Any],
    person: list[Path],
    other: list[Path],
    tmp_path: Path,
) -> None:
    """Two people take turns before the camera: of three samples one is odd, and another is taken for it."""
    frames = []
    for path in (person[0], other[0]):
        picture = np.full((480, 640, 3), 96, np.uint8)
        picture[:, 80:560] = cv2.resize(cv2.imread(str(path)), (480, 480), interpolation=cv2.INTER_CUBIC)
        frames.append(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    film = tmp_path / "turns.mjpeg"
    film.write_bytes(b"".join(frame * 12 for frame in frames))
    page = filmed(film).new_page(viewport={"width": 900, "height": 900})
    page.set_default_timeout(90_000)
    page.add_init_script(
        "window.said = []; addEventListener('DOMContentLoaded', () => new MutationObserver(() => "
        "said.push(document.getElementById('status').textContent)).observe(document.getElementById('status'), "
        "{childList: true, characterData: true, subtree: true}));"
    )
    page.goto(serve(edgeface))
    page.wait_for_selector("#enrol_camera:not([disabled])")
    odd = "shows another person than the others"
    for number in range(12):  # by chance all three samples may be of one of them
        page.fill("#name", f"Ada {number}")
        page.click("#enrol_camera")
        page.click("text=The person agrees")
        page.wait_for_function(f"() => said.includes('Ada {number} is enrolled.')")
        if any(odd in line for line in page.evaluate("() => said")):
            break
        page.click(f"[aria-label='Delete Ada {number}']")
    said = page.evaluate("() => said")
    kept = page.inner_text("#people li")
    page.close()
    first = next(i for i, line in enumerate(said) if odd in line)
    end = said.index(f"Ada {number} is enrolled.")
    assert first < end
    assert all(odd in line for line in said[first:end])  # no progress overwrote the error
    assert "3 samples" in kept
