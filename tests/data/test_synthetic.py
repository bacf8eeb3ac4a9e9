"""Synthetic people: the same in every process, different from each other, and near the template."""

import multiprocessing

import cv2
import numpy as np
import pytest

from facekd.common.errors import UsageError
from facekd.data.alignment import TEMPLATE_112
from facekd.data.opening import open_source
from facekd.data.source import Source
from facekd.data.sources.synthetic import SyntheticSource
from facekd.data.synthetic import SyntheticConfig

STILL = {"pose": 0.0, "light": 0.0, "expression": 0.0, "blur": 0.0, "noise": 0.0, "clutter": 0.0}


def test_a_source_as_described() -> None:
    source = open_source("synthetic:identities=3,images=4,seed=5")
    assert isinstance(source, Source)
    assert source.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and source.num_identities == 3
    image = source.read(11)
    assert image.shape == (112, 112, 3) and image.dtype == np.uint8
    assert len({source.key(i) for i in range(12)}) == 12
    with pytest.raises(IndexError):
        source.read(12)


def test_the_same_faces_in_every_process() -> None:
    source, other = (SyntheticSource(identities=2, images=3, seed=seed) for seed in (7, 8))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for i, image in enumerate(pool.map(source.read, range(6))):
            np.testing.assert_array_equal(image, source.read(i))
            assert not np.array_equal(image, other.read(i))


def test_a_face_depends_on_seed_identity_and_sample_only() -> None:
    small = SyntheticSource(identities=2, images=2, seed=1, first_identity=5)
    large = SyntheticSource(identities=9, images=4, seed=1)
    np.testing.assert_array_equal(small.read(3), large.read(6 * 4 + 1))
    assert small.key(3) == large.key(6 * 4 + 1)
    assert small.fingerprint() != large.fingerprint()


def test_photographs_of_one_person_differ() -> None:
    source = SyntheticSource(identities=1, images=6, seed=2)
    seen = [source.read(i).astype(int) for i in range(6)]
    for i in range(6):
        for j in range(i):
            assert np.abs(seen[i] - seen[j]).mean() > 3


def test_traits_of_a_person_stay_where_nothing_else_changes() -> None:
    """With every circumstance at its mean, two photographs differ only in shirt, hair length and gaze's rounding."""
    source = SyntheticSource(identities=12, images=2, seed=3, **STILL)
    faces = np.stack([source.read(i)[30:100, 25:87] for i in range(24)]).astype(float).reshape(12, 2, -1)
    within = np.abs(faces[:, 0] - faces[:, 1]).mean(1)
    between = np.array([np.abs(faces[i, 0] - faces[j, 0]).mean() for i in range(12) for j in range(i)])
    assert within.max() < 4 and between.min() > within.max()


@pytest.mark.parametrize("change", ["pose", "light", "expression", "blur", "noise", "clutter"])
def test_each_strength_changes_the_picture(change: str) -> None:
    still = SyntheticSource(identities=4, images=4, seed=3, **STILL)
    moved = SyntheticSource(identities=4, images=4, seed=3, **{**STILL, change: 1.0})
    assert any(not np.array_equal(still.read(i), moved.read(i)) for i in range(16))


def test_without_variety_everyone_has_one_shape() -> None:
    """Colours still differ; landmarks, which come from the shape alone, do not."""
    source = SyntheticSource(identities=5, images=1, seed=0, variety=0.0, **STILL)
    landmarks = np.stack([source.draw(i)[1] for i in range(5)])
    assert np.ptp(landmarks, axis=0).max() < 1e-9


def test_landmarks_lie_near_the_template() -> None:
    source = SyntheticSource(identities=60, images=2, seed=0)
    landmarks = np.stack([source.draw(i)[1] for i in range(120)])
    assert np.abs(landmarks.mean(0) - TEMPLATE_112).max() < 3
    assert np.median(np.linalg.norm(landmarks - TEMPLATE_112, axis=2)) < 5


def test_landmarks_are_where_the_features_are_drawn() -> None:
    """Around each eye's landmark there is the dark of lashes and pupil: darker than the cheek below it."""
    source = SyntheticSource(identities=30, images=1, seed=4, **STILL)
    darker = 0
    for i in range(30):
        image, landmarks = source.draw(i)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for x, y in landmarks[:2].round().astype(int):
            darker += grey[y - 3 : y + 4, x - 5 : x + 6].min() < grey[y + 12 : y + 16, x - 3 : x + 4].mean() - 15
    assert darker >= 55


def test_recognisable_but_not_by_pixels() -> None:
    """The task is neither impossible nor trivial: raw pixels rank same pairs above others only somewhat."""
    source = SyntheticSource(identities=24, images=4, seed=9)
    faces = np.stack([cv2.resize(source.read(i), (28, 28)) for i in range(96)]).astype(float).reshape(96, -1)
    faces -= faces.mean(1, keepdims=True)
    faces /= np.linalg.norm(faces, axis=1, keepdims=True)
    upper = np.triu_indices(96, 1)
    scores = (faces @ faces.T)[upper]
    same = (source.labels[:, None] == source.labels)[upper]
    ranks = scores.argsort().argsort()
    auc = (ranks[same].mean() - (same.sum() - 1) / 2) / (~same).sum()
    assert 0.55 < auc < 0.95


@pytest.mark.parametrize(
    ("text", "message"),
    [("identities", "not name=value"), ("people=3", "unknown field 'people'"), ("identities=0", "identities = '0'"),
     ("pose=big", "pose = 'big'"), ("seed=-1", "seed")],
)  # fmt: skip
def test_typos_are_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(f"synthetic:{text}")
    assert SyntheticConfig().identities == 64
