"""Passive liveness: the crop, what a network gives, how its file is opened, and the error rates."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.common.errors import FacekdError, UsageError
from facekd.data.detection import choose_face
from facekd.evaluation.presentation_attacks import LivenessScore, error_rates, labelled_images
from facekd.runtimes.detectors import open_detector
from facekd.runtimes.liveness import crop_face, crop_region, open_liveness, open_network
from tests.liveness_network import GREEN, real_probability, write_network


def test_a_crop_with_room_is_the_enlarged_box() -> None:
    assert crop_region(np.array([300.0, 200, 40, 60]), 1000, 800, 2.5) == (270, 155, 370, 305)


def test_a_crop_lies_in_the_picture_and_is_as_large_as_fits() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        width, height = (int(v) for v in rng.integers(40, 900, 2))
        box = np.array([*rng.uniform(-0.5, 1, 2) * (width, height), *rng.uniform(5, 700, 2)])
        left, top, right, bottom = crop_region(box, width, height, 4.0)
        scale = min(4.0, (width - 1) / box[2], (height - 1) / box[3])
        assert 0 <= left <= right <= width - 1 and 0 <= top <= bottom <= height - 1
        assert abs(right - left - scale * box[2]) <= 1 and abs(bottom - top - scale * box[3]) <= 1
        if scale == 4.0 and left > 0 and right < width - 1:  # it was not moved
            assert abs((left + right) / 2 - (box[0] + box[2] / 2)) <= 1


@pytest.mark.parametrize("box", [(0, 0, 0, 9), (0, 0, 9, -1), (np.nan, 0, 9, 9)])
def test_a_box_that_is_none_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="no crop of a face box"):
        crop_region(np.array(box), 100, 100, 2.7)


def test_a_crop_is_resized_between_pixel_centres() -> None:
    ramp = np.tile(np.arange(0, 200, dtype=np.uint8)[None, :, None], (200, 1, 3))
    crop = crop_face(ramp, np.array([60.0, 60, 79, 79]), 1.0, (40, 40))  # 80 pixels, from 60 to 139
    np.testing.assert_allclose(crop[20, :, 0], 60 + 2 * np.arange(40) + 0.5, atol=0.51)


@pytest.mark.parametrize("softmax", [False, True])
def test_the_score_is_the_mean_of_what_the_networks_give(tmp_path: Path, softmax: bool) -> None:
    """One sees the face alone, which is grey, the other the green about it too."""
    image = np.full((300, 300, 3), GREEN, np.uint8)
    image[100:201, 100:201] = 120
    networks = [write_network(tmp_path / f"{s}.onnx", scale=s, softmax=softmax) for s in (1.0, 2.0)]
    crop = crop_face(image, np.array([100.0, 100, 100, 100]), 2.0, (80, 80)).reshape(-1, 3).mean(0)
    found = open_liveness(networks)
    assert [n.model.probabilities for n in found.networks] == [softmax, softmax]
    score = found.score(image, np.array([100.0, 100, 100, 100]))
    assert score == pytest.approx((real_probability(120, 120, 120) + real_probability(*crop)) / 2, abs=1e-5)
    assert not found.is_live(0.5) and found.is_live(0.51)


def test_the_public_networks_know_the_samples(shared: Path) -> None:
    names = ("minifasnet_v2", "minifasnet_v1se")
    networks = open_liveness([shared / "weights" / f"{name}.onnx" for name in names])
    assert [n.model.crop_scale for n in networks.networks] == [2.7, 4.0]
    detector = open_detector(shared / "weights/yunet_n_640_640.onnx")
    scores = {}
    for path in sorted((shared / "data/liveness").glob("*.jpg")):
        image = np.ascontiguousarray(cv2.imread(str(path))[:, :, ::-1])
        face = choose_face(detector.detect(image), image.shape[1], image.shape[0])
        assert face is not None
        scores[path.stem] = networks.score(image, face.box)
    print(scores)
    assert scores.pop("real") > 0.995
    assert len(scores) == 2 and max(scores.values()) <= 0.58


def test_what_is_no_liveness_network_is_refused_with_a_reason(tmp_path: Path) -> None:
    def refused(path: Path, error: type[FacekdError], words: str) -> None:
        with pytest.raises(error, match=words) as raised:
            open_network(path)
        assert "\n" not in str(raised.value)

    refused(tmp_path / "none.onnx", UsageError, "no liveness network at")
    good = write_network(tmp_path / "good.onnx", scale=2.7)
    described = good.with_suffix(".json")
    shutil.copy(good, tmp_path / "bare.onnx")
    refused(tmp_path / "bare.onnx", UsageError, r"which crop .* is not known: put its description into bare\.json")
    described.write_text("{", encoding="utf-8")
    refused(good, UsageError, "not valid JSON")
    for wrong, words in (
        ({"crop_scale": 0}, "crop_scale"),
        ({"crop_scale": 2.7, "real_class": 3}, "the output has 3 classes"),
        ({"crop_scale": 2.7, "std": [1, 0, 1]}, "std"),
        ({"crop_scale": 2.7, "scale": 2}, "unknown field 'scale'"),
    ):
        described.write_text(json.dumps(wrong), encoding="utf-8")
        refused(good, UsageError, words)
    refused(write_network(tmp_path / "wide.onnx", scale=2.7, classes=64), UsageError, r"gives \[1, 64\]")
    damaged = write_network(tmp_path / "damaged.onnx", scale=2.7)
    damaged.write_bytes(damaged.read_bytes()[:200])
    refused(damaged, FacekdError, "not a readable ONNX model")
    (tmp_path / "lfs.onnx").write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    refused(tmp_path / "lfs.onnx", FacekdError, "Git LFS pointer")
    shutil.copy(good, tmp_path / "good.bin")
    refused(tmp_path / "good.bin", UsageError, r"\.bin file")
    with pytest.raises(UsageError, match=r"two liveness networks are called wide\.onnx"):
        open_liveness([tmp_path / "wide.onnx", tmp_path / "sub" / "wide.onnx"])


@pytest.mark.parametrize("name", ["minifasnet_v2", "2.7_80x80_MiniFASNetV2", "MiniFASNet-V1SE"])
def test_the_public_networks_need_no_description(tmp_path: Path, name: str) -> None:
    path = write_network(tmp_path / f"{name}.onnx", scale=9)
    path.with_suffix(".json").unlink()
    model = open_network(path).model
    assert (model.crop_scale, model.input.colour, model.real_class) == (4.0 if "SE" in name else 2.7, "BGR", 1)


def test_error_rates_are_counted_by_kind_of_attack(tmp_path: Path) -> None:
    for name in ("live/a.jpg", "attack/print/b.jpg", "attack/screen/c.jpg", "attack/screen/d.jpg", "attack/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xd8\xff")
    kinds = {path.name: kind for path, kind in labelled_images(tmp_path)}
    assert kinds == {"a.jpg": None, "b.jpg": "print", "c.jpg": "screen", "d.jpg": "screen", "e.jpg": "attack"}
    seen = [(0.9, None), (0.2, None), (None, None), (0.1, "print"), (0.8, "screen"), (0.3, "screen")]
    scores = [LivenessScore("x", score, score is not None and score > 0.5) for score, _ in seen]
    rates = error_rates(scores, [kind for _, kind in seen])
    assert (rates.bpcer, rates.apcer) == (0.5, {"print": 0.0, "screen": 0.5})
    assert (rates.live, rates.attacks, rates.without_face) == (2, {"print": 1, "screen": 2}, 1)
    with pytest.raises(UsageError, match="no folders live/ and attack/"):
        labelled_images(tmp_path / "live")
