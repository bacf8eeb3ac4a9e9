"""A model whose embedding anyone can compute, as a bundle and in NumPy."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import register_model


@register_model(role="student", name="tile-means")
def tile_means() -> nn.Module:
    """Test model: the means of 16x16 tiles."""

    class Tiles(nn.Module):
        embedding_width = 147
        feature_channels = 3
        feature_grid = (7, 7)

        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(x, 16).flatten(1) * self.gain

    return Tiles()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's bundle, only to be read."""
    model = tile_means()
    card = describe(model, kind="student", name="tiles", architecture="tile-means")
    return save_bundle(tmp_path_factory.mktemp("model") / "bundle", model, card)


@pytest.fixture(scope="session")
def tiles() -> Callable[[np.ndarray], np.ndarray]:
    """What the model plus its flip gives for an image, in NumPy."""

    def embed(image: np.ndarray) -> np.ndarray:
        x = (image.astype(np.float64) - 127.5) / 127.5
        mean = x.reshape(7, 16, 7, 16, 3).mean(axis=(1, 3))
        return (mean + mean[:, ::-1]).transpose(2, 0, 1).ravel()

    return embed
