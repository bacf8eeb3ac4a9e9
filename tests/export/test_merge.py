"""Re-parameterisable networks are exported merged: fewer layers, the same embeddings."""

from typing import Any

import pytest
import torch
from torch import nn

from facekd.export.network import Network
from facekd.export.rewrite import count_layers, merge_branches
from facekd.models.registry import create_student
from facekd.schemas.input_spec import InputSpec


def student(name: str) -> nn.Module:
    """With batch norms as training leaves them."""
    torch.manual_seed(2)
    model = create_student(f"timm/{name}", embedding_width=32).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


@pytest.mark.parametrize("name", ["mobileone_s0", "repvit_m0_9", "fastvit_t8", "repvgg_a0"])
@torch.no_grad()
def test_branches_are_merged_and_nothing_else_changes(name: str) -> None:
    model = student(name)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    network = Network.build(model, spec=InputSpec(), embedding_width=32, metadata={})
    x = torch.randn(2, 3, 112, 112)
    cosine = torch.cosine_similarity(model(x), network.module(x))
    assert float(cosine.min()) > 1 - 1e-6
    convolutions, norms = count_layers(model)
    merged, left = count_layers(network.module)
    assert merged < convolutions and left < norms
    assert network.merged == f"{convolutions} convolutions and {norms} batch norms to {merged} and {left}"
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_without_branches_says_nothing() -> None:
    network = Network.build(student("mobilenetv3_small_100"), spec=InputSpec(), embedding_width=32, metadata={})
    assert network.merged is None


class Mine(nn.Module):
    """A module whose `fuse` means something else."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def fuse(self) -> Any:
        raise AssertionError("not timm's")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


def test_modules_of_ones_own_are_left_alone() -> None:
    model = nn.Sequential(Mine())
    x = torch.randn(2, 3)
    torch.testing.assert_close(merge_branches(model)(x), model(x))
