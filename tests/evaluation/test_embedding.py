"""Batches, flips, modes: what reaches the model and what comes back."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from facekd.common.errors import FacekdError, UsageError
from facekd.data.verification_set import VerificationSet
from facekd.evaluation.embedding import (
    DistinctImages,
    embed_images,
    evaluate_verification,
)
from facekd.evaluation.verification import verify_pairs
from facekd.models.embedder import ModelEmbedder
from facekd.runtimes.opening import open_model
from facekd.schemas.input_spec import InputSpec

SPEC = InputSpec(size=(8, 8), colour="BGR", mean=(10, 20, 30), std=(2, 4, 8))


class Net(nn.Module):
    """Left half of the image through a linear layer, with batch norm and dropout, which only eval mode makes exact."""

    embedding_width = 6

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.drop = nn.Dropout(0.5)
        self.linear = nn.Linear(3 * 8 * 4, 6)
        self.batches: list[int] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        return self.linear(self.drop(self.norm(x))[..., :4].flatten(1))


def make_images(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8))


def by_hand(model: Net, image: np.ndarray) -> np.ndarray:
    """f(x) + f(flip(x)) with the normalisation written out; the fresh batch norm's eval is a division."""
    weight, bias = model.linear.weight.detach().numpy(), model.linear.bias.detach().numpy()
    total = np.zeros(6)
    for view in (image, image[:, ::-1]):
        bgr = view[..., ::-1].astype(np.float64)
        x = (bgr - [10, 20, 30]) / [2, 4, 8] / np.sqrt(1 + model.norm.eps)
        total += weight @ x.transpose(2, 0, 1)[..., :4].ravel() + bias
    return total


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_embedding_is_the_sum_over_both_mirrorings_whatever_the_batch(batch_size: int) -> None:
    model = Net()
    images = make_images(7)
    embeddings = embed_images(ModelEmbedder(model, SPEC), images, batch_size=batch_size)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, [by_hand(model, image) for image in images], rtol=1e-4, atol=1e-4)
    assert max(model.batches) == min(batch_size, 7)


def test_every_submodule_gets_its_own_mode_back_and_nothing_is_learnt() -> None:
    model = Net().train()
    model.norm.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    output = ModelEmbedder(model, SPEC)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert [model.training, model.norm.training, model.drop.training] == [True, False, True]
    assert not output.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    class Broken(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    broken = Broken().train()
    with pytest.raises(RuntimeError, match="broken"):
        ModelEmbedder(broken, SPEC)(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    assert broken.training


def test_amp_changes_the_precision_only() -> None:
    model, images = Net(), make_images(4)
    plain = embed_images(ModelEmbedder(model, SPEC), images)
    half = embed_images(ModelEmbedder(model, SPEC, amp_dtype=torch.bfloat16), images)
    assert half.dtype == np.float32
    assert not np.array_equal(plain, half)
    np.testing.assert_allclose(plain, half, atol=0.02 * np.abs(plain).max())


def test_images_are_read_once_each_and_not_far_ahead() -> None:
    class Lazy(list[np.ndarray]):
        reads: ClassVar[list[int]] = []

        def __getitem__(self, i):  # type: ignore[no-untyped-def]
            self.reads.append(i)
            return super().__getitem__(i)

    images = Lazy(make_images(40))
    held = []

    class Counting(ModelEmbedder):
        def __call__(self, batch: torch.Tensor) -> torch.Tensor:
            held.append(len(Lazy.reads))
            return super().__call__(batch)

    embed_images(Counting(Net(), SPEC), images, batch_size=4, flip=False)
    assert Lazy.reads == list(range(40))
    # When batch k is computed at most batch k + 1 has been read.
    assert all(read <= 4 * (k + 2) for k, read in enumerate(held))


def test_repeated_images_are_embedded_once_and_the_result_is_the_same() -> None:
    rng = np.random.default_rng(3)
    distinct = make_images(9, seed=4)
    which = np.concatenate([np.arange(9), rng.integers(0, 9, 31)])
    issame = np.arange(20) % 3 == 0
    pairs = VerificationSet("dup", [distinct[i].copy() for i in which], issame, size=(8, 8))
    model = Net()
    result = evaluate_verification(ModelEmbedder(model, SPEC), pairs, batch_size=4)
    assert result.images_embedded == 9
    assert sum(model.batches) == 2 * 9
    expected = verify_pairs(np.array([by_hand(model, distinct[i]) for i in which]), issame)
    np.testing.assert_allclose(result.scores, expected.scores, atol=1e-5)
    np.testing.assert_array_equal(result.fold_accuracies, expected.fold_accuracies)
    assert result.name == "dup"
    np.testing.assert_array_equal(DistinctImages(pairs).occurrence, which)


def test_wrong_images_and_wrong_models_are_said() -> None:
    embedder = ModelEmbedder(Net(), SPEC)
    images = make_images(3)
    with pytest.raises(FacekdError, match=r"image 1 is uint8 of shape \(9, 8, 3\).*align"):
        embed_images(embedder, [images[0], np.zeros((9, 8, 3), np.uint8)])
    with pytest.raises(FacekdError, match="image 0 is float64"):
        embed_images(embedder, [images[0] / 255])
    with pytest.raises(UsageError, match="batch size 0"):
        embed_images(embedder, images, batch_size=0)
    model = Net()
    model.embedding_width = 7
    with pytest.raises(FacekdError, match=r"returned shape \(3, 6\) for 3 images: expected \(3, 7\)"):
        embed_images(ModelEmbedder(model, SPEC), images)


def test_open_model_names_what_is_there_and_what_is_valid(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match="does not exist"):
        open_model(tmp_path / "nothing")
    with pytest.raises(UsageError, match="a folder without card"):
        open_model(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(UsageError, match=r"is a \.pth file: give a bundle"):
        open_model(tmp_path / "model.pth")
    for suffix in ("onnx", "tflite"):
        (tmp_path / f"m.{suffix}").write_bytes(b"not a model")
        with pytest.raises(FacekdError, match=f"m.{suffix} is not a readable"):
            open_model(tmp_path / f"m.{suffix}")
