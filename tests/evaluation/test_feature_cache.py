"""The cache of features: interrupted, killed, damaged, changed; against features computed at once."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from facekd.common.errors import FacekdError
from facekd.evaluation import feature_cache as module
from facekd.evaluation.feature_cache import FeatureCache
from facekd.schemas.input_spec import InputSpec


class Images:
    """Twenty flat images, and a fingerprint that is told."""

    def __init__(self, fingerprint: str = "one") -> None:
        self._fingerprint = fingerprint

    def __len__(self) -> int:
        return 20

    def __getitem__(self, i: int) -> np.ndarray:
        return np.full((112, 112, 3), 10 * i, dtype=np.uint8)

    def fingerprint(self) -> str:
        return self._fingerprint


class Mean:
    """The image's mean in three channels; fails at image `fail_at`, in a way that can be told."""

    embedding_width = 3
    input = InputSpec()

    def __init__(self, fail_at: int | None = None) -> None:
        self.fail_at = fail_at
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        if self.fail_at is not None and self.seen > 2 * self.fail_at:
            raise KeyboardInterrupt
        return images.float().mean(dim=(2, 3))


EXPECTED = np.repeat(20.0 * np.arange(20)[:, None] * 1.0, 3, axis=1)


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 4)


@pytest.mark.parametrize("fail_at", [2, 4, 9, 18])
def test_an_interrupted_extraction_goes_on(tmp_path: Path, fail_at: int) -> None:
    cache = FeatureCache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        cache.features(Mean(fail_at), Images(), model_sha256="m", batch_size=2)
    rest = Mean()
    result = cache.features(rest, Images(), model_sha256="m", batch_size=2)
    np.testing.assert_array_equal(result.features, EXPECTED)
    assert result.computed == 20 - fail_at // 4 * 4 == rest.seen // 2, "only whole chunks are kept, and each is"
    again = cache.features(Mean(0), Images(), model_sha256="m", batch_size=5)
    assert again.computed == 0
    np.testing.assert_array_equal(again.features, EXPECTED)


def test_another_model_or_list_has_its_own_features(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    paths = {
        cache.features(Mean(), Images(name), model_sha256=model, batch_size=4).path
        for name, model in (("one", "m"), ("two", "m"), ("one", "n"))
    }
    assert len(paths) == 3


@pytest.mark.parametrize("damage", ["truncate", "header", "state", "garbage state", "missing"])
def test_damaged_features_are_computed_again(tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path)
    path = cache.features(Mean(), Images(), model_sha256="m", batch_size=4).path
    if damage == "truncate":
        os.truncate(path, path.stat().st_size - 4)
    elif damage == "header":
        path.write_bytes(b"x" * path.stat().st_size)
    elif damage == "missing":
        path.unlink()
    else:
        path.with_suffix(".json").write_text("{}" if damage == "state" else "\x00garbage")
    result = cache.features(Mean(), Images(), model_sha256="m", batch_size=4)
    assert result.computed == 20
    np.testing.assert_array_equal(np.load(path), EXPECTED)


def test_two_at_once_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)

    class Reenter(Mean):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            with pytest.raises(FacekdError, match="another process"):
                cache.features(Mean(), Images(), model_sha256="m")
            return super().__call__(images)

    cache.features(Reenter(), Images(), model_sha256="m")
    (tmp_path / "file").touch()
    with pytest.raises(FacekdError, match="cannot write features"):
        FeatureCache(tmp_path / "file").features(Mean(), Images(), model_sha256="m")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the child is forked, to be killed in the middle")
def test_kill_9_loses_at_most_a_chunk(tmp_path: Path) -> None:
    class Kill(Mean):
        def __call__(self, images: torch.Tensor) -> torch.Tensor:
            if self.seen >= 2 * 10:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(images)

    def child() -> None:
        torch.set_num_threads(1)  # the OpenMP threads that tests before may have started are not in the fork
        FeatureCache(tmp_path).features(Kill(), Images(), model_sha256="m", batch_size=2)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    result = FeatureCache(tmp_path).features(Mean(), Images(), model_sha256="m", batch_size=2)
    assert result.computed == 12
    np.testing.assert_array_equal(result.features, EXPECTED)
