"""evaluate, embed and verify through the command line, on a model whose embedding is a mean anyone can compute."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from facekd.cli import embed, evaluate, verify
from facekd.common.errors import FacekdError, UsageError
from facekd.data.decoding import decode_image
from facekd.data.verification_bin import write_bin
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.photographs import centre_crop
from facekd.evaluation.verification import verify_pairs
from facekd.schemas.card import read_card

Embed = Callable[[np.ndarray], np.ndarray]


def smooth(rng: np.random.Generator) -> np.ndarray:
    return cv2.resize(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8), (112, 112), interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray], np.ndarray]:
    """60 pairs as a .bin (PNG inside): genuine ones are an image and a noisy copy."""
    rng = np.random.default_rng(0)
    issame = np.arange(60) // 3 % 2 == 0
    images = []
    for same in issame:
        first, other = smooth(rng), smooth(rng)
        share = 0.5 if same else 0.15
        mixed = share * first + (1 - share) * other
        images += [first, mixed.astype(np.uint8)]
    path = tmp_path_factory.mktemp("pairs") / "made.bin"
    write_bin(path, VerificationSet("made", images, issame))
    return path, images, issame


@pytest.fixture
def bundle(bundle: Path, tmp_path: Path) -> Path:
    """A copy, which a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def call(*arguments: object) -> Result:
    app = typer.Typer()
    for module in (evaluate, embed, verify):
        module.register(app)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def succeed(*arguments: object) -> Result:
    result = call(*arguments)
    assert result.exit_code == 0, result.exception or result.output
    return result


def test_evaluate_reports_the_protocols_figures(
    bundle: Path, tiles: Embed, pairs: tuple[Path, list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    path, images, issame = pairs
    expected = verify_pairs(np.array([tiles(image) for image in images]), issame)
    assert 0.6 < expected.accuracy < 1, "the set must tell models apart"
    result = succeed(
        "evaluate", bundle, "--pairs", path, "--json", "--out", tmp_path / "out", "--scores", tmp_path / "s.csv",
        "--batch-size", 13,
    )  # fmt: skip
    report = json.loads(result.stdout)["sets"][0]
    assert report["accuracy"] == pytest.approx(expected.accuracy)
    assert report["std"] == pytest.approx(expected.std)
    assert report["tar_at_far"] == {"1e-1": expected.tar_at_far[0.1]}
    assert report["threshold_cos"]["1e-1"] == pytest.approx(expected.threshold_cos[0.1], abs=1e-5)
    assert report["unsupported_fars"] == ["1e-2", "1e-3", "1e-4"]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["sets"][0]["accuracy"] == report["accuracy"]
    with (tmp_path / "s.csv").open() as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_allclose([float(row["score_cos"]) for row in rows], expected.scores, atol=1e-5)
    np.testing.assert_array_equal([row["same"] == "1" for row in rows], issame)
    picture = cv2.imread(str(tmp_path / "out" / "evaluation.png"))
    assert picture is not None
    assert picture.std() > 10, "an empty picture"


def test_evaluate_prints_tables_for_several_sets_and_chosen_folds(
    bundle: Path, tiles: Embed, pairs: tuple[Path, list[np.ndarray], np.ndarray]
) -> None:
    path, images, issame = pairs
    output = succeed("evaluate", bundle, "--pairs", path, "--pairs", path, "--folds", "1,3,10").output
    assert output.count("made-folds-1,3,10") >= 2
    index = np.r_[0:6, 12:18, 54:60]
    chosen = [images[2 * i + side] for i in index for side in (0, 1)]
    expected = verify_pairs(np.array([tiles(image) for image in chosen]), issame[index])
    result = json.loads(succeed("evaluate", bundle, "--pairs", path, "--folds", "10,1,3", "--json").stdout)
    assert result["sets"][0]["pairs"] == 18
    assert result["sets"][0]["auc"] == pytest.approx(expected.auc)


def test_thresholds_reach_the_card_and_verify_uses_them(
    bundle: Path, tiles: Embed, pairs: tuple[Path, list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    path, images, issame = pairs
    for i in (0, 1, 7):
        cv2.imwrite(str(tmp_path / f"{i}.png"), images[i][..., ::-1])
    one, other, unrelated = (tmp_path / f"{i}.png" for i in (0, 1, 7))
    verify_one = ("verify", one, other, "--model", bundle, "--aligned", "--far", 0.1, "--json")
    before = call(*verify_one)
    assert isinstance(before.exception, UsageError)
    assert "facekd evaluate" in str(before.exception)
    assert "--save-thresholds" in str(before.exception)

    weights = read_card(bundle).sha256
    for _ in range(2):  # a second measurement replaces the first
        succeed("evaluate", bundle, "--pairs", path, "--save-thresholds")
    card = read_card(bundle)
    expected = verify_pairs(np.array([tiles(image) for image in images]), issame)
    assert card.sha256 == weights
    assert [(t.dataset, t.far) for t in card.thresholds] == [("made", 0.1)]
    assert card.thresholds[0].threshold_cos == pytest.approx(expected.threshold_cos[0.1], abs=1e-5)
    assert "made" in (bundle / "README.md").read_text()

    decision = json.loads(succeed(*verify_one).stdout)
    assert decision["score_cos"] == pytest.approx(expected.scores[0], abs=1e-5)
    assert decision["same"] is bool(expected.scores[0] > expected.threshold_cos[0.1])
    assert (decision["far"], decision["dataset"], decision["faces"]) == (0.1, "made", [1, 1])
    assert "same person\n" in succeed("verify", one, one, "--model", bundle, "--aligned", "--far", 0.1).output
    different = succeed("verify", one, unrelated, "--model", bundle, "--aligned", "--far", 0.1).output
    assert "different people" in different
    assert "FAR 1e-1 on made" in different
    wrong_far = call("verify", one, other, "--model", bundle, "--aligned", "--far", 1e-3)
    assert "no threshold measured at FAR 1e-3: it has 1e-1" in str(wrong_far.exception)


def test_embed_writes_the_same_in_three_formats_and_names_what_it_left_out(
    bundle: Path, tiles: Embed, pairs: tuple[Path, list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    _, images, _ = pairs
    folder = tmp_path / "crops"
    (folder / "sub").mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / ("sub" if i == 2 else ".") / f"{i}.png"), images[i][..., ::-1])
    cv2.imwrite(str(folder / "large.png"), np.zeros((200, 112, 3), np.uint8))
    (folder / "text.jpg").write_text("not an image")
    raw = np.array([tiles(images[i]) for i in range(3)])
    expected = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    read = {}
    for suffix in ("npz", "csv", "jsonl"):
        result = succeed("embed", bundle, folder, "--out", tmp_path / f"e.{suffix}", "--json")
        report = json.loads(result.stdout)
        assert {Path(path).name for path in report["skipped"]} == {"large.png", "text.jpg"}
        assert report["embedded"] == 3
    with np.load(tmp_path / "e.npz") as file:
        read["npz"] = dict(zip(file["paths"], file["embeddings"], strict=True))
    with (tmp_path / "e.csv").open() as file:
        read["csv"] = {row[0]: np.array(row[1:], float) for row in list(csv.reader(file))[1:]}
    lines = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    read["jsonl"] = {line["path"]: np.array(line["embedding"]) for line in lines}
    for by_path in read.values():
        names = [Path(path).name for path in by_path]
        assert names == ["0.png", "1.png", "2.png"]
        np.testing.assert_allclose(list(by_path.values()), expected, atol=1e-5)

    succeed("embed", bundle, folder / "0.png", "--out", tmp_path / "raw.npz", "--raw")
    with np.load(tmp_path / "raw.npz") as file:
        np.testing.assert_allclose(file["embeddings"], raw[:1], atol=1e-4)
    none = call("embed", bundle, folder / "text.jpg", "--out", tmp_path / "n.npz")
    assert isinstance(none.exception, FacekdError)
    assert not isinstance(none.exception, UsageError)
    assert not (tmp_path / "n.npz").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "BUNDLE", "--pairs", "none.bin"], "none.bin"),
        (["evaluate", "none", "--pairs", "PAIRS"], "model none does not exist"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--folds", "0"], "0"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--folds", "a"], "--folds a"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--mean", "1"], "states its own input spec in card.json"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--std", "0"], "--std 0"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--colour", "GRB"], "valid are RGB and BGR"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--layout", "HWC"], "valid are NCHW and NHWC"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--missing", "skip"], "valid are refuse and centre"),
        (["evaluate", "BUNDLE", "--pairs", "PAIRS", "--scores", "PAIRS"], "--overwrite"),
        (["evaluate", "x.onnx", "--pairs", "PAIRS", "--save-thresholds"], "not a bundle"),
        (["embed", "BUNDLE", "PAIRS", "--out", "e.txt"], ".npz, .csv, .jsonl"),
        (["embed", "BUNDLE", "none.jpg", "--out", "e.npz"], "none.jpg does not exist"),
        (["verify", "a.jpg", "PAIRS", "--model", "BUNDLE", "--aligned"], "a.jpg does not exist"),
        (["verify", "PAIRS", "PAIRS", "--model", "BUNDLE"], "--detector"),
        (["verify", "PAIRS", "PAIRS", "--model", "none", "--aligned"], "none"),
    ],
)
def test_wrong_usage_is_one_line(
    bundle: Path,
    pairs: tuple[Path, list[np.ndarray], np.ndarray],
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FACEKD_DETECTOR", raising=False)
    result = call(*({"BUNDLE": bundle, "PAIRS": pairs[0]}.get(word, word) for word in arguments))
    assert isinstance(result.exception, UsageError), result.exception
    assert words in str(result.exception)
    assert "\n" not in str(result.exception)


def test_photographs_are_aligned_and_what_has_no_face_is_refused_or_cropped(
    bundle: Path, shared: Path, tmp_path: Path
) -> None:
    detector = shared / "weights" / "yunet_n_640_640.onnx"
    people = [folder for folder in sorted((shared / "data" / "lfw_raw").iterdir()) if len(list(folder.iterdir())) > 1][
        :6
    ]
    lines = ["1\t6"]
    for person in people:
        numbers = sorted(int(file.stem[-4:]) for file in person.iterdir())
        lines.append(f"{person.name}\t{numbers[0]}\t{numbers[1]}")
        (tmp_path / "raw" / person.name).mkdir(parents=True)
        for number in numbers[:2]:
            name = f"{person.name}/{person.name}_{number:04d}.jpg"
            (tmp_path / "raw" / name).write_bytes((shared / "data" / "lfw_raw" / name).read_bytes())
    for i, person in enumerate(people):
        other = people[(i + 1) % 6]
        first, second = (min(int(file.stem[-4:]) for file in p.iterdir()) for p in (person, other))
        lines.append(f"{person.name}\t{first}\t{other.name}\t{second}")
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    photographs = sorted((tmp_path / "raw").glob("*/*.jpg"))
    arguments = ("evaluate", bundle, "--pairs", tmp_path / "pairs.txt", "--images", tmp_path / "raw", "--json")

    assert "align" in str(call(*arguments).exception), "photographs must not pass as aligned crops"
    report = json.loads(succeed(*arguments, "--detector", detector).stdout)["sets"][0]
    assert (report["pairs"], report["images_embedded"], report["faces_not_found"]) == (12, 12, [])

    blank = cv2.imencode(".jpg", np.full((250, 250, 3), 90, np.uint8))[1].tobytes()
    photographs[0].write_bytes(blank)
    refused = call(*arguments, "--detector", detector)
    assert photographs[0].name in str(refused.exception)
    assert "1 of 12 photographs" in str(refused.exception)
    cropped = succeed(*arguments, "--detector", detector, "--missing", "centre")
    assert [Path(key).name for key in json.loads(cropped.stdout)["sets"][0]["faces_not_found"]] == [photographs[0].name]

    out = tmp_path / "e.npz"
    report = json.loads(
        succeed("embed", bundle, tmp_path / "raw", "--detector", detector, "--out", out, "--json").stdout
    )
    assert report["embedded"] == 11
    assert list(report["skipped"].values()) == ["no face found"]
    card = read_card(bundle)
    (bundle / "card.json").write_text(
        card.model_copy(update={"thresholds": [{"far": 1e-3, "threshold_cos": 0.5, "dataset": "by hand"}]})
        .model_dump_json(warnings=False)
    )  # fmt: skip
    decision = json.loads(
        succeed("verify", photographs[1], photographs[1], "--model", bundle, "--detector", detector, "--json").stdout
    )
    assert decision["same"]
    assert decision["score_cos"] == pytest.approx(1)
    faceless = call("verify", photographs[0], photographs[1], "--model", bundle, "--detector", detector)
    assert isinstance(faceless.exception, FacekdError)
    assert faceless.exception.exit_code == 1
    assert "no face found" in str(faceless.exception)


def test_centre_crop_takes_the_middle() -> None:
    image = np.zeros((100, 160, 3), np.uint8)
    image[24:76, 54:106] = 200
    assert (centre_crop(image, 112) == 200).all()
    encoded = cv2.imencode(".png", image)[1].tobytes()
    assert decode_image(encoded, "x").shape == (100, 160, 3)
