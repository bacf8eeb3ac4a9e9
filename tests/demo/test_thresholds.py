"""The page's thresholds for a gallery: against the vectors, by Node, and what the page says in a browser."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facekd.demo.face_model import FaceModel
from facekd.schemas.calibration import Calibration
from tests.demo.test_page import page, ready
from tests.demo.test_people import enrol

__all__ = ["page"]  # the fixture

ROOT = Path(__file__).resolve().parents[2]
VECTORS = ROOT / "android_demo/core/src/test/resources/gallery.json"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's own files make of the vectors."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        pytest.skip("no node on the PATH: install Node.js (Debian: nodejs)")
    if not VECTORS.is_file():
        pytest.skip("not run from a checkout: there is no android_demo")
    static = tmp_path_factory.mktemp("static")
    shutil.copytree(ROOT / "facekd/demo/static", static, dirs_exist_ok=True)
    (static / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    words = [node, Path(__file__).with_name("run_thresholds.mjs"), static, VECTORS]
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_every_gallery_gets_the_references_threshold(computed: dict[str, Any]) -> None:
    cases = json.loads(VECTORS.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == len(computed["answers"]) > 300
    for case, got in zip(cases, computed["answers"], strict=True):
        where = f"{case['table']}, {case['fpir']}, {case['samples']}"
        assert got.keys() == case["expected"].keys(), where
        for key, want in case["expected"].items():
            assert got[key] == (pytest.approx(want, rel=1e-9) if isinstance(want, float) else want), f"{where}: {key}"


def test_sentences_say_what_holds_and_what_to_do(computed: dict[str, Any]) -> None:
    said = computed["sentences"]
    assert said["kept"] == (
        "1 in 1,000 strangers, 37 people (111 samples). Threshold 0.510, at worst 1 in 756 (95 % interval)."
    )
    assert said["refused"] == (
        "1 in 1,000 strangers cannot be promised for 200 people (200 samples): the model supports at best 1 in 5. "
        "Nobody is named. Choose another promise, enrol at most 1 sample, or calibrate the model on about 3,888 people "
        "(facekd calibrate)."
    )
    assert "no promise is supported" in said["hopeless"]
    assert said["usual"] == "1 in 250 strangers, 2 people (4 samples). Threshold 0.420."
    assert said["verify"].startswith("1 in 1,000 strangers, Ada (1 sample). Threshold 0.300")
    assert said["empty"].startswith(
        "1 in 10,000 strangers cannot be promised for 1 sample: the model supports at best "
    )
    calibrated, of_pairs = said["basis"]
    assert calibrated == "Measured on made: 1,500 people, 5,000,000 pairs. Other people may differ."
    assert "it holds for one person with one sample" in of_pairs
    assert computed["reviews"] == ["known", "fine"]
    assert computed["pairCos"] == [0.31, 0.42, 0.42, 0.42]
    assert computed["empty"] is None


def test_the_promise_follows_the_people(
    page: Any, serve: Callable[[FaceModel], str], edgeface: FaceModel, person: list[Path], other: list[Path]
) -> None:
    """More samples need a stricter threshold; what the table cannot keep is refused, and nobody is named."""
    from playwright.sync_api import expect

    rates = [(1e-2, 0.25), (5e-3, 0.28), (1e-3, 0.3), (5e-4, 0.35)]
    stated = {"faces": "made", "fingerprint": "", "images": 900, "identities": 700, "impostor_pairs": 60_000}
    rows = [{"far": far, "threshold_cos": cos, "far_low": far / 2, "far_high": 2 * far} for far, cos in rates]
    calibration = Calibration.model_validate({**stated, "method": "", "thresholds": rows})
    ready(page, serve(replace(edgeface, calibration=calibration)))
    note, face = page.locator("#promise_note"), page.locator("#faces li .name span")
    basis = " Measured on made: 700 people, 60,000 pairs. Other people may differ."
    expect(note).to_have_text(
        "1 in 1,000 strangers, nobody enrolled yet. Threshold 0.300, at worst 1 in 500 (95 % interval)." + basis
    )
    enrol(page, "Ada", person[0], asks=True)
    expect(note).to_contain_text("1 in 1,000 strangers, 1 person (1 sample). Threshold 0.300")
    enrol(page, "Ada", person[1], asks=False)
    expect(note).to_contain_text("1 in 1,000 strangers, 1 person (2 samples). Threshold 0.350")
    enrol(page, "Bea", other[0], asks=True)
    expect(note).to_contain_text("1 in 666 strangers, 2 people (3 samples). Threshold 0.350")
    page.set_input_files("#picture_file", person[1])
    expect(face).to_have_text("Ada")

    page.select_option("#promise", label="1 in 100")
    expect(note).to_contain_text("1 in 100 strangers, 2 people (3 samples). Threshold 0.300")
    expect(face).to_have_text("Ada")
    page.select_option("#promise", label="1 in 1,000")
    expect(note).to_contain_text("cannot be promised for 2 people (3 samples): the model supports at best 1 in 666.")
    expect(face).to_have_text("Not named: the promise is not supported")
    page.click("text=Is it them?")
    page.select_option("#whom", "Ada")
    expect(note).to_contain_text("1 in 1,000 strangers, Ada (2 samples). Threshold 0.350")
    expect(face).to_have_text("Yes, Ada")
    page.click("text=Who is it?")
    page.click("[aria-label='Delete Bea']")
    expect(note).to_contain_text("1 in 1,000 strangers, 1 person (2 samples). Threshold 0.350")
    expect(face).to_have_text("Ada")
