"""Augmentation: what each kind promises, and that only the generator decides."""

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from facekd.data.augmentation import AugmentationConfig, augment

KINDS = ("affine", "crop", "colour", "grey", "occlusion", "low_resolution", "jpeg")


def face(side: int = 112) -> np.ndarray:
    small = np.random.default_rng(1).integers(0, 256, (14, 14, 3), dtype=np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def only(kind: str, **strength: float) -> AugmentationConfig:
    return AugmentationConfig.model_validate({"flip": 0.0, kind: {"probability": 1.0, **strength}})


def run(config: AugmentationConfig, seed: int = 0, image: np.ndarray | None = None) -> np.ndarray:
    return augment(face() if image is None else image, config, np.random.default_rng(seed))


def test_the_default_only_flips() -> None:
    seen = [run(AugmentationConfig(), seed) for seed in range(40)]
    flipped = [np.array_equal(image, face()[:, ::-1]) for image in seen]
    assert all(f or np.array_equal(image, face()) for f, image in zip(flipped, seen, strict=True))
    assert 8 < sum(flipped) < 32


@pytest.mark.parametrize("kind", KINDS)
def test_same_generator_same_image_and_the_input_is_untouched(kind: str) -> None:
    image = face()
    first, second, other = run(only(kind), 5, image), run(only(kind), 5), run(only(kind), 6)
    np.testing.assert_array_equal(image, face())
    np.testing.assert_array_equal(first, second)
    assert first.shape == (112, 112, 3) and first.dtype == np.uint8
    assert not np.array_equal(first, image)
    assert kind == "grey" or not np.array_equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_probability_is_kept(kind: str) -> None:
    config = AugmentationConfig.model_validate({"flip": 0.0, kind: {"probability": 0.3}})
    changed = sum(not np.array_equal(run(config, seed), face()) for seed in range(300))
    assert 60 < changed < 120  # 90 expected, 3.8 standard deviations


@pytest.mark.parametrize("shape", [(112, 96), (1, 1), (128, 128)])
def test_any_size_works(shape: tuple[int, int]) -> None:
    config = AugmentationConfig.model_validate({"flip": 1.0, **{kind: {"probability": 1.0} for kind in KINDS}})
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for seed in range(20):
        assert run(config, seed, image).shape == image.shape


def test_switching_a_kind_on_leaves_the_choice_of_the_others() -> None:
    flip = AugmentationConfig(flip=0.5)
    both = AugmentationConfig.model_validate({"flip": 0.5, "grey": {"probability": 0.5}})
    for seed in range(30):
        grey = cv2.cvtColor(run(flip, seed), cv2.COLOR_RGB2GRAY)
        assert np.array_equal(cv2.cvtColor(run(both, seed), cv2.COLOR_RGB2GRAY), grey)


def test_affine_without_strength_is_the_identity_and_keeps_the_centre() -> None:
    still = only("affine", rotation_degrees=0.0, scale=0.0, translation=0.0)
    np.testing.assert_array_equal(run(still), face())
    dot = np.zeros((113, 113, 3), np.uint8)
    dot[54:59, 54:59] = 255
    turned = run(only("affine", rotation_degrees=40.0, scale=0.0, translation=0.0), 3, dot)[..., 0].astype(float)
    rows, columns = np.mgrid[:113, :113]
    assert abs((turned * rows).sum() / turned.sum() - 56) < 0.05
    assert abs((turned * columns).sum() / turned.sum() - 56) < 0.05


def test_affine_border_is_black() -> None:
    white = np.full((112, 112, 3), 255, np.uint8)
    shifted = run(only("affine", rotation_degrees=0.0, scale=0.0, translation=0.5), 1, white)
    assert (shifted == 0).any() and set(np.unique(shifted[::20])) <= set(range(256))
    assert 0 in shifted[[0, -1]] or 0 in shifted[:, [0, -1]]


def test_crop_keeps_a_window_in_place() -> None:
    for seed in range(20):
        out = run(only("crop", smallest=0.5), seed, face() | 1)
        rows, columns = np.flatnonzero(out.any((1, 2))), np.flatnonzero(out.any((0, 2)))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.testing.assert_array_equal(out[window], (face() | 1)[window])
        assert min(len(rows), len(columns)) >= 56


def test_colour_follows_its_definition() -> None:
    """Brightness scales, contrast moves from the mean luminance, saturation moves from the luminance."""
    image = (face() // 3 + 60).astype(np.uint8)
    rng = np.random.default_rng(9)
    rng.random(8)
    brightness, contrast, saturation = 1 + rng.uniform(-1, 1, 3) * (0.2, 0.3, 0.4)
    weights = np.array([0.299, 0.587, 0.114])
    bright = image.astype(float) * brightness
    mean = (bright @ weights).mean()
    contrasted = (bright - mean) * contrast + mean
    luminance = (contrasted @ weights)[..., None]
    expected = luminance + (contrasted - luminance) * saturation
    found = run(only("colour", brightness=0.2, contrast=0.3, saturation=0.4), 9, image)
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 1.0


def test_grey_has_equal_channels_of_the_luminance() -> None:
    out = run(only("grey")).astype(float)
    assert np.ptp(out, axis=2).max() == 0
    assert np.abs(out[..., 0] - face() @ np.array([0.299, 0.587, 0.114])).max() <= 1.0


def test_occlusion_is_one_rectangle_of_one_colour() -> None:
    for seed in range(20):
        out = run(only("occlusion", largest=0.4), seed)
        rows, columns = np.nonzero((out != face()).any(2))
        region = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].reshape(-1, 3)
        assert len(np.unique(region, axis=0)) == 1
        assert max(np.ptp(rows), np.ptp(columns)) < 0.4 * 112 + 1


def test_low_resolution_and_jpeg_lose_detail() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    for seed in range(10):
        small = run(only("low_resolution", smallest=0.2), seed, noise)
        assert small.shape == noise.shape and not np.array_equal(small, noise)
    rough = run(only("jpeg", lowest=10, highest=10)).astype(float)
    fine = run(only("jpeg", lowest=95, highest=95)).astype(float)
    assert np.abs(fine - face()).mean() < 8  # the channels are where they were
    assert np.abs(rough - face()).mean() > 2 * np.abs(fine - face()).mean()


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.5}, {"affine": {"probability": -0.1}}, {"jepg": {"probability": 1}}, {"jpeg": {"quality": 5}},
     {"jpeg": {"lowest": 90, "highest": 30}}, {"low_resolution": {"smallest": 0.0}}],
)  # fmt: skip
def test_typos_and_impossible_strengths_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentationConfig.model_validate(wrong)
