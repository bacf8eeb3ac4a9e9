"""The students: their contract with distillation, their variants and their errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.models.architectures.layers import create_activation
from facekd.models.registry import Backbone, create_model, create_student, list_models, register_model

SMALL = {"scale": 0.5, "blocks": (1, 1, 2, 1), "embedding_width": 64}
STUDENTS = [
    ("mobilefacenet", SMALL),
    ("mobilefacenet", SMALL | {"blocks": (2, 1, 1, 1), "mid_multiplier": 0.5, "feature_channels": 96}),
    ("mobilefacenet", SMALL | {"scale": 1.5, "activation": "relu6"}),
    ("iresnet18", {}),
    ("timm/mobilenetv3_small_100", {"embedding_width": 128}),
    ("timm/mobilenetv3_small_100", {"stem_stride": 1}),
    ("timm/resnet10t", {}),
    ("timm/fasternet_t0", {}),
    ("timm/repvit_m0_9", {}),
]


def images(count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, 112, 112)


@pytest.mark.parametrize(("name", "arguments"), STUDENTS)
def test_contract(name: str, arguments: dict) -> None:
    model: Any = create_student(name, **arguments).eval()
    obeys = isinstance(model, Backbone)
    assert obeys
    x = images()
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape == (2, model.feature_channels, *model.feature_grid)
        embeddings = model(x)
        assert embeddings.shape == (2, model.embedding_width)
        assert torch.equal(embeddings, model.forward_head(features))
        # In eval mode a face's embedding does not depend on its batch mates.
        # An untrained network's may be in the ten thousands: rounding is relative to the largest component.
        scale = max(1.0, float(embeddings.abs().max()))
        torch.testing.assert_close(model(x[:1]), embeddings[:1], rtol=1e-4, atol=1e-5 * scale)


@pytest.mark.parametrize(("name", "arguments"), [STUDENTS[0], *STUDENTS[4:]])
def test_every_parameter_receives_a_gradient(name: str, arguments: dict) -> None:
    model = create_student(name, **arguments).train()
    model(images(3)).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_mobilefacenet_taps_the_map_before_the_global_depthwise_convolution() -> None:
    model: Any = create_model("mobilefacenet").eval()
    seen: dict[str, torch.Tensor] = {}
    model.head.depthwise.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    with torch.no_grad():
        features = model.forward_features(images(1))
        model.forward_head(features)
    assert seen["x"] is features
    assert features.shape == (1, 512, 7, 7)
    assert model.head.depthwise.conv.kernel_size == (7, 7)
    assert model.head.depthwise.conv.groups == 512


@pytest.mark.parametrize(
    ("activation", "module"),
    [("prelu", nn.PReLU), ("relu", nn.ReLU), ("relu6", nn.ReLU6), ("hardswish", nn.Hardswish)],
)
def test_activation_is_used_throughout(activation: str, module: type[nn.Module]) -> None:
    kinds = (nn.PReLU, nn.ReLU, nn.ReLU6, nn.Hardswish)
    for name in ("mobilefacenet_s2", "iresnet18"):
        with torch.device("meta"):
            model = create_model(name, activation=activation)
        assert {type(m) for m in model.modules() if isinstance(m, kinds)} == {module}


def test_prelu_has_one_slope_a_channel() -> None:
    assert create_activation("prelu", 24).weight.shape == (24,)


def test_iresnet_freezes_the_last_norm_scale_at_one() -> None:
    model: Any = create_model("iresnet18")
    assert not model.head.norm_out.weight.requires_grad
    assert torch.equal(model.head.norm_out.weight, torch.ones(512))
    assert model.head.linear.bias is not None


def test_the_batch_is_not_baked_into_an_export() -> None:
    model = create_model("mobilefacenet", **SMALL).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images(2),), dynamic_shapes=({0: batch},)).module()
    for count in (1, 2, 7):
        x = images(count)
        torch.testing.assert_close(program(x), model(x), rtol=1e-4, atol=1e-5)


def test_stem_stride_keeps_the_grid_large() -> None:
    small: Any = create_model("timm/mobilenetv3_small_100")
    large: Any = create_model("timm/mobilenetv3_small_100", stem_stride=1)
    assert (small.feature_grid, large.feature_grid) == ((4, 4), (7, 7))


def plain(*, width: int = 8) -> nn.Module:
    """A user's own model, not a student: it has no taps."""
    return nn.Linear(width, width)


def not_a_module() -> str:
    """A function that builds no model."""
    return "model"


def test_dotted_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "my_models.py").write_text(
        "from facekd.models.architectures.mobilefacenet import MobileFaceNet\n"
        "def tiny(*, embedding_width=32):\n"
        "    return MobileFaceNet(scale=0.25, blocks=(1, 1, 1, 1), embedding_width=embedding_width)\n"
        "def plain():\n    import torch\n    return torch.nn.Identity()\n"
        "def text():\n    return 'model'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "my_models,no_such_package")
    assert create_student("my_models:tiny", embedding_width=16).embedding_width == 16
    with pytest.raises(UsageError, match="is not a student: it has no embedding_width"):
        create_student("my_models:plain")
    with pytest.raises(UsageError, match=r"returned str, not a torch\.nn\.Module"):
        create_model("my_models:text")
    with pytest.raises(UsageError, match="module 'my_models' has no 'other'"):
        create_model("my_models:other")
    with pytest.raises(UsageError, match=r"cannot import module 'no_such_package\.models'"):
        create_model("no_such_package.models:build")


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("mobilefacnet", {}, "did you mean 'mobilefacenet'"),
        ("resnet", {}, "valid: .*iresnet100.*timm/<name>"),
        ("mobilefacenet", {"width": 3}, "no argument 'width'; valid: scale, blocks"),
        ("mobilefacenet", {"blocks": (1, 4, 6)}, r"four numbers .* not \(1, 4, 6\)"),
        ("mobilefacenet", {"scale": 0}, "scale 0"),
        ("mobilefacenet", {"activation": "gelu"}, "unknown activation 'gelu'; valid: prelu, relu, relu6, hardswish"),
        ("mobilefacenet", {"embedding_width": 0}, "embedding_width 0"),
        ("timm/mobilenetv3_smal", {}, "did you mean mobilenetv3_small"),
        ("timm/hf-hub:owner/model", {}, "timm has no model"),
        ("timm/vit_tiny_patch16_224", {}, "cannot take images of 112x112|is not a CNN student"),
        ("timm/swin_tiny_patch4_window7_224", {"img_size": 224}, "is not a CNN student: its features are"),
        ("timm/mobilenetv3_small_100", {"stem_stride": 0}, "stem_stride 0"),
        ("timm/mobilenetv3_small_100", {"no_such": 1}, "timm refuses"),
        ("timm/mobilenetv3_small_100", {"pretrained": True}, "nothing is downloaded"),
        ("no_such_package.models:build", {}, "wants to run .*FACEKD_TRUSTED_MODULES=no_such_package.models"),
        ("swin_teacher", {}, "not a student: it has no feature_channels"),
    ],
)
def test_errors_are_one_line_with_the_valid_values(name: str, arguments: dict, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        create_student(name, **arguments)
    assert "\n" not in str(error.value)


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="registered twice"):
        register_model(role="student", name="mobilefacenet")(plain)
    assert sum(entry.name == "mobilefacenet" for entry in list_models()) == 1
