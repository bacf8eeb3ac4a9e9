"""The Transformer teachers: plain timm body then neck, token order, grids, errors."""

import itertools
from typing import Any

import pytest
import timm
import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.models.architectures.transformer import NECKS, TransformerTeacher
from facekd.models.registry import create_model

TEACHERS: list[tuple[str, dict[str, Any], tuple[int, int], int]] = [
    ("swin_teacher", {"embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)}, (7, 7), 128),
    ("swin_teacher", {"patch_size": 8, "embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4)}, (7, 7), 64),
    ("swin_teacher", {"patch_size": 8, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)}, (4, 4), 128),
    ("vit_teacher", {"patch_size": 9, "embed_dim": 64, "depth": 2, "neck": "arcface_vit"}, (12, 12), 64),
    ("vit_teacher", {"patch_size": 16, "embed_dim": 64, "depth": 2, "class_token": True}, (7, 7), 64),
    ("timm_teacher", {"model": "vit_tiny_patch16_224", "depth": 2}, (7, 7), 192),
    ("timm_teacher", {"model": "swin_tiny_patch4_window7_224", "depths": (1, 1, 1, 1)}, (4, 4), 768),
]


@pytest.mark.parametrize(("name", "arguments", "grid", "width"), TEACHERS)
def test_forward_is_timms_body_then_the_neck(name: str, arguments: dict, grid: tuple, width: int) -> None:
    teacher = create_model(name, embedding_width=48, **arguments).eval()
    assert isinstance(teacher, TransformerTeacher)
    x = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        tokens = teacher.forward_features(x)
        body = teacher.body(x)  # with num_classes 0 and no pooling, timm's own forward yields the tokens
        if body.ndim == 4:
            # timm's Swin is channels last: token r * w + c must be row r, column c.
            for row in range(grid[0]):
                for column in range(grid[1]):
                    assert torch.equal(tokens[:, row * grid[1] + column], body[:, row, column])
        else:
            assert torch.equal(tokens, body[:, body.shape[1] - grid[0] * grid[1] :])
        assert (teacher.grid, teacher.token_width) == (grid, width)
        assert tokens.shape == (2, grid[0] * grid[1], width)
        assert torch.equal(teacher(x), teacher.neck(tokens))
        assert torch.equal(teacher(x), teacher.forward_head(tokens))
        assert teacher(x).shape == (2, 48)
        torch.testing.assert_close(teacher(x[1:]), teacher(x)[1:], rtol=1e-4, atol=1e-5)


def test_vit_tokens_are_row_major() -> None:
    """Without blocks a token is its own patch's projection, so the order shows directly."""
    teacher: Any = create_model("vit_teacher", patch_size=16, embed_dim=16, depth=0, num_heads=2).eval()
    x = torch.randn(1, 3, 112, 112)
    with torch.no_grad():
        tokens = teacher.forward_features(x)
        proj = teacher.body.patch_embed.proj
        row, column = 2, 5
        patch = x[:, :, 32:48, 80:96]
        value = torch.einsum("bchw,ochw->bo", patch, proj.weight) + proj.bias
        index = row * 7 + column
        expected = teacher.body.norm(value + teacher.body.pos_embed[:, index])
    torch.testing.assert_close(tokens[:, index], expected, rtol=1e-4, atol=1e-5)


def test_flatten_neck_reads_row_column_channel() -> None:
    neck = NECKS["flatten"](4, 3, 2).eval()
    weight = neck.get_parameter("1.weight")
    grid = torch.randn(1, 2, 2, 3)
    expected = torch.zeros(2)
    for row, column, channel in itertools.product(range(2), range(2), range(3)):
        expected += grid[0, row, column, channel] * weight[:, (row * 2 + column) * 3 + channel]
    expected /= (1 + 1e-5) ** 0.5  # the batch norm's initial statistics
    torch.testing.assert_close(neck(grid.flatten(1, 2))[0], expected)


def test_teacher_has_no_unused_parameters() -> None:
    for name, arguments, _, _ in TEACHERS[:5]:
        teacher = create_model(name, **arguments).train()
        teacher(torch.randn(2, 3, 112, 112)).square().sum().backward()
        assert [key for key, p in teacher.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("swin_teacher", {"depths": (2, 2), "num_heads": (2,)}, "differ in length"),
        ("swin_teacher", {"num_heads": (2, 4, 7)}, "stage 3 is 256 wide, not divisible by 7 heads"),
        ("swin_teacher", {"patch_size": 0}, "patch_size 0"),
        ("swin_teacher", {"patch_size": 113}, "patch_size 113 must be between 1 and"),
        ("swin_teacher", {"neck": "pool"}, "unknown neck 'pool'; valid: flatten, arcface_vit"),
        ("swin_teacher", {"embedding_width": 0}, "embedding_width 0"),
        ("vit_teacher", {"embed_dim": 100}, "100 is not divisible by num_heads 8"),
        ("vit_teacher", {"mlp_activation": "prelu"}, "valid: gelu, relu6"),
        ("timm_teacher", {"model": "resnet18"}, "ResNet is no teacher body|timm refuses"),
        ("timm_teacher", {"model": "swin_tinny"}, "timm has no model"),
        ("timm_teacher", {"model": "vit_tiny_patch16_224", "no_such": 1}, "timm refuses"),
        ("timm_teacher", {"model": "vit_tiny_patch16_224", "pretrained": True}, "nothing is downloaded"),
        ("timm_teacher", {"model": "vit_tiny_patch16_224", "checkpoint_path": "x.pth"}, "nothing is downloaded"),
    ],
)
def test_errors(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        create_model(name, **arguments)
    assert "\n" not in str(error.value)


def test_other_timm_body_is_refused() -> None:
    body = timm.create_model("resnet10t", pretrained=False, num_classes=0, global_pool="")
    with pytest.raises(UsageError, match="ResNet is no teacher body"):
        TransformerTeacher(body=body, image_size=(112, 112))
    assert isinstance(body, nn.Module)
