"""Parameter and MAC counts: the published tables, and the counter against an independent one."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from facekd.models.catalogue import catalogue
from facekd.models.counting import count_macs, count_parameters
from facekd.models.registry import create_model

# name, arguments, parameters and MACs as models.md prints them.
PUBLISHED = [
    ("mobilefacenet_128", {}, "1.003M", "221.0M"),
    ("mobilefacenet", {}, "1.201M", "221.2M"),
    ("mobilefacenet_s2", {}, "2.060M", "437.5M"),
    ("mobilefacenet_s2_deep", {}, "3.35M", "919M"),
    ("mobilefacenet_large", {}, "6.315M", "1.82G"),
    ("iresnet18", {}, "24.0M", "2.61G"),
    ("iresnet34", {}, "34.1M", "4.46G"),
    ("iresnet50", {}, "43.6M", "6.31G"),
    ("iresnet100", {}, "65.2M", "12.09G"),
    ("arcface ViT-T", {"embed_dim": 256, "depth": 12}, "19.1M", "1.50G"),
    ("arcface ViT-S", {"embed_dim": 512, "depth": 12}, "76.0M", "5.75G"),
    ("arcface ViT-B", {"embed_dim": 512, "depth": 24}, "113.8M", "11.4G"),
]
ARCFACE_VIT = {"patch_size": 9, "qkv_bias": False, "mlp_activation": "relu6", "neck": "arcface_vit"}


def as_printed(count: int, like: str) -> str:
    """`count` in the unit and to the number of decimals of the published figure `like`."""
    decimals = len(like[:-1].partition(".")[2])
    return f"{count / {'M': 1e6, 'G': 1e9}[like[-1]]:.{decimals}f}{like[-1]}"


@pytest.mark.parametrize(("name", "arguments", "parameters", "macs"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_counts_are_the_published_ones(name: str, arguments: dict, parameters: str, macs: str) -> None:
    if name.startswith("arcface"):
        name, arguments = "vit_teacher", ARCFACE_VIT | arguments
    with torch.device("meta"):
        model = create_model(name, **arguments)
    assert as_printed(count_parameters(model), parameters) == parameters
    assert as_printed(count_macs(model), macs) == macs


@pytest.mark.parametrize("activation", ["relu", "relu6", "hardswish"])
def test_the_activation_changes_no_macs_and_only_prelu_has_parameters(activation: str) -> None:
    with torch.device("meta"):
        prelu, other = create_model("mobilefacenet"), create_model("mobilefacenet", activation=activation)
    slopes = sum(p.numel() for m in prelu.modules() if isinstance(m, nn.PReLU) for p in m.parameters())
    assert slopes > 0
    assert count_parameters(prelu) - count_parameters(other) == slopes
    assert count_macs(prelu) == count_macs(other)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mobilefacenet", {"scale": 0.5, "blocks": (1, 1, 1, 1)}),
        ("swin_teacher", {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "patch_size": 8}),
        ("vit_teacher", {"embed_dim": 64, "depth": 2, "patch_size": 16}),
    ],
)
def test_counter_agrees_with_torch_flop_counter(name: str, arguments: dict) -> None:
    model = create_model(name, **arguments).eval()
    # torch's own counter does not know the fused attention kernel of the CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 3, 112, 112))
    assert 2 * count_macs(model) == counter.get_total_flops()


class Operators(nn.Module):
    """One of each counted operator, called as a function where a module hook would not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.grouped = nn.Conv2d(4, 8, 3, padding=1, groups=2)
        self.transposed = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.linear = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[1, 4, 10, 12] -> [1, 480, 5]"""
        x = self.transposed(self.grouped(x)).flatten(2).transpose(1, 2)
        x = F.linear(x, self.linear.weight, self.linear.bias)
        x = F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]
        return x @ torch.ones(5, 5)


def test_each_operator_by_hand() -> None:
    n = 20 * 24
    grouped = 10 * 12 * 8 * (4 // 2) * 9
    transposed = 10 * 12 * 8 * 6 * 4
    attention = 2 * n * n * 5
    expected = grouped + transposed + n * 6 * 5 + attention + n * 5 * 5
    assert count_macs(Operators(), (4, 10, 12)) == expected


def test_counting_leaves_modes_and_statistics_alone() -> None:
    model: Any = create_model("mobilefacenet", scale=0.5, blocks=(1, 1, 1, 1)).train()
    model.head.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    count_macs(model)
    assert model.training and model.stem.training and not model.head.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_catalogue_counts_every_registered_model() -> None:
    rows = {row.name: row for row in catalogue()}
    assert rows["mobilefacenet"].parameters == 1_200_512
    assert rows["swin_teacher"].parameters == 12_235_812  # swin_teacher.json
    assert rows["swin_teacher"].grid == (7, 7)
    assert {row.role for row in rows.values()} == {"student", "teacher"}
    assert all(row.summary for row in rows.values())
