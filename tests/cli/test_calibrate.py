"""calibrate and evaluate --gallery by the command line: on a model anyone can compute, and on LFW."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import calibrate, evaluate, verify
from facekd.common.errors import FacekdError, UsageError
from facekd.data.align_folder import align_folder
from facekd.data.detection import YuNet
from facekd.evaluation.calibration import calibrate as measure
from facekd.schemas.card import read_card

PEOPLE, IMAGES = 80, 3


def call(*arguments: object) -> Result:
    app = typer.Typer()
    for module in (evaluate, calibrate, verify):
        module.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a person; a person's images are one smooth picture with noise."""
    folder = tmp_path_factory.mktemp("made") / "people"
    folder.mkdir()
    random = np.random.default_rng(0)
    for person in range(PEOPLE):
        (folder / f"p{person:03d}").mkdir()
        base = cv2.resize(random.integers(0, 256, (7, 7, 3), dtype=np.uint8), (112, 112)).astype(float)
        for image in range(IMAGES):
            pixels = np.clip(base + random.normal(0, 20, base.shape), 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"p{person:03d}/{image}.png"), pixels)
    return folder


@pytest.fixture
def copy(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def embeddings_of(faces: Path, tiles: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    rows = []
    for file in sorted(faces.rglob("*.png")):
        image = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        rows.append(tiles(image) + tiles(image[:, ::-1]))
    return np.array(rows), np.repeat(np.arange(PEOPLE), IMAGES)


def test_what_calibrate_stores_is_what_verify_reads(
    copy: Path, faces: Path, tiles: Callable[[np.ndarray], np.ndarray]
) -> None:
    weights = (copy / "model.safetensors").read_bytes()
    report = json.loads(succeed("calibrate", copy, "--faces", faces, "--save", "--json").stdout)
    expected = measure(*embeddings_of(faces, tiles), faces="people", fingerprint="")
    table = read_card(copy).calibration
    assert table is not None and report["written"] == str(copy / "card.json")
    assert table.model_dump(mode="json") == {key: report[key] for key in table.model_dump()}
    assert (table.identities, table.images, table.impostor_pairs) == (80, 240, 80 * 79 // 2 * 9)
    for found, right in zip(table.thresholds, expected.thresholds, strict=True):
        assert found.threshold_cos == pytest.approx(right.threshold_cos, abs=1e-5)
    assert (copy / "model.safetensors").read_bytes() == weights

    first, second = sorted(faces.rglob("*.png"))[:2]
    verify_at = ("verify", first, second, "--model", copy, "--aligned", "--json", "--far")
    decision = json.loads(succeed(*verify_at, "0.005").stdout)
    chosen = table.threshold_for(0.005)
    assert chosen is not None and decision["threshold_cos"] == chosen.threshold_cos
    refused = call(*verify_at, "1e-7")
    assert isinstance(refused.exception, UsageError) and "it has 1e-2 to " in str(refused.exception)


def test_the_tables_say_what_is_supported(copy: Path, faces: Path) -> None:
    shown = succeed("calibrate", copy, "--faces", faces).stdout
    assert "80 people, 240 images, 28,440 pairs of two people" in " ".join(shown.split())
    assert "not supported" in shown
    assert read_card(copy).calibration is None  # nothing is stored unless asked for


def test_galleries_by_halves_and_by_the_models_own_table(copy: Path, faces: Path, tmp_path: Path) -> None:
    by_halves = json.loads(
        succeed("evaluate", copy, "--gallery", "1,10", "--fpir", "0.06,1e-4", "--faces", faces, "--json").stdout
    )
    assert by_halves["calibrated_on"] == "half of the people of people"
    assert [(rate["people"], rate["promised"]) for rate in by_halves["rates"]] == [
        (1, 0.06), (1, 1e-4), (10, 0.06), (10, 1e-4)
    ]  # fmt: skip
    assert [rate["threshold_cos"] is None for rate in by_halves["rates"]] == [False, True, False, True]
    shown = succeed("evaluate", copy, "--gallery", "10", "--fpir", "1e-4", "--faces", faces).stdout
    assert "1 of 1 promises are not supported" in shown

    succeed("calibrate", copy, "--faces", faces, "--save")
    again = call("evaluate", copy, "--gallery", "10", "--faces", faces)
    assert isinstance(again.exception, UsageError) and "holds by construction: give other people" in str(
        again.exception
    )


def test_bad_input_is_one_line(copy: Path, faces: Path, tmp_path: Path) -> None:
    one = tmp_path / "few"
    for person in ("a", "b"):
        (one / person).mkdir(parents=True)
        cv2.imwrite(str(one / person / "0.png"), np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8))
    (tmp_path / "model.onnx").write_bytes(b"")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("calibrate", copy), "give --faces SOURCE"),
        (("calibrate", copy, "--faces", tmp_path / "none"), "no data at"),
        (("calibrate", copy, "--faces", one), "few has 1 pairs of two people: a rate of 0.01 needs 3,000"),
        (("calibrate", tmp_path / "model.onnx", "--faces", faces, "--save"), "is neither"),
        (("evaluate", copy, "--gallery", "10"), "--gallery SIZES and --faces SOURCE belong together"),
        (("evaluate", copy, "--gallery", "0", "--faces", faces), "--gallery 0: give whole numbers from 1"),
        (("evaluate", copy, "--gallery", "5", "--fpir", "2", "--faces", faces), "--fpir 2: give rates between 0 and 1"),
        (("evaluate", copy, "--gallery", "40", "--faces", faces), "a gallery of 40 of 40 people: give 1 to 39"),
        (("evaluate", copy, "--gallery", "5", "--faces", faces, "--scores", "s.csv"), "leave it out with --gallery 5"),
        (("evaluate", copy, "--gallery", "5", "--faces", faces, "--out", "o"), "--out has no meaning with --gallery"),
        (("evaluate", copy, "--gallery", "5", "--faces", faces, "--pairs", "p"), "give one of --pairs SET, "),
    ]
    for arguments, message in cases:
        error = call(*arguments).exception
        assert isinstance(error, FacekdError), (arguments, error)
        assert message in str(error) and "\n" not in str(error)
    assert read_card(copy).calibration is None


def test_lfws_people_before_galleries(shared: Path, tmp_path: Path) -> None:
    """EdgeFace calibrated on half of LFW's people; of the other half 10, 100 and 200 are enrolled: the share of
    strangers named is within the promise's interval, and what the pairs cannot support is not promised."""
    weights = shared / "weights"
    align_folder(shared / "data/lfw_raw", tmp_path / "lfw", YuNet(weights / "yunet_n_640_640.onnx"))
    model = weights / "edgeface_xs.onnx"
    report = json.loads(
        succeed("evaluate", model, "--gallery", "10,100,200", "--faces", tmp_path / "lfw", "--json").stdout
    )
    measured = [rate for rate in report["rates"] if rate["threshold_cos"] is not None]
    assert [(rate["people"], rate["promised"]) for rate in measured] == [(10, 0.1), (10, 0.01), (100, 0.1), (200, 0.1)]
    for rate in measured:
        assert rate["fpir_low"] <= rate["promised_high"] and rate["promised_low"] <= rate["fpir_high"]
        assert rate["promised_low"] <= rate["fpir"] <= rate["promised_high"]
        assert rate["found"] > 0.98
    assert all(rate["far"] < report["lowest_far"] for rate in report["rates"] if rate["threshold_cos"] is None)
