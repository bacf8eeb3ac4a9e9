"""Students that facekd does not ship: torchvision's CNNs, plain modules, a map before the last of timm's."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import facekd
from facekd.common.errors import UsageError
from facekd.distillation.task import tapped
from facekd.models.bundle import load_bundle, save_bundle
from facekd.models.describe import describe
from facekd.models.registry import Backbone, create_model, create_student
from facekd.recipe import Recipe

MINE = '''
"""Modules of one's own, without a word for facekd."""

import torch
from torch import nn


class Plain(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
        self.fc = nn.Linear(32, width)

    def forward(self, x):
        return self.fc(self.body(x).flatten(1))


class Map(Plain):
    def forward(self, x):
        return self.body(x)


class Pair(Plain):
    def forward(self, x):
        return super().forward(x), x.mean()


class Small(Plain):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 32))
'''


@pytest.fixture(autouse=True)
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_students.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("FACEKD_TRUSTED_MODULES", "my_students")
    monkeypatch.delitem(sys.modules, "my_students", raising=False)


def recipe(model: dict[str, Any], *losses: Any, teacher: Path | None = None) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "own",
            "data": {"source": "synthetic:identities=4,images=2"},
            "model": model,
            "teacher": {"bundle": str(teacher)} if teacher else None,
            "distillation": list(losses),
        }
    )


def small_teacher(folder: Path, network: str = "mobilefacenet", **arguments: Any) -> Path:
    given = {"scale": 0.25, "blocks": [1, 1, 1, 1], "feature_channels": 32, "embedding_width": 24, **arguments}
    model = create_model(network, **given)
    return save_bundle(folder, model, describe(model, kind="teacher", name="t", architecture=network, arguments=given))


def test_a_plain_module_is_a_student_and_comes_back_from_its_bundle(tmp_path: Path) -> None:
    own = {"name": "my_students:Plain", "arguments": {"width": 24}}
    task = facekd.build_task(recipe(own, {"embedding": {}}, teacher=small_teacher(tmp_path / "t")), 4)
    images = torch.randint(0, 256, (4, 3, 112, 112), dtype=torch.uint8)
    task(images, torch.arange(4)).loss.backward()
    assert task.student.embedding_width == 24
    card = describe(task.student, kind="student", name="own", architecture="my_students:Plain", arguments={"width": 24})
    bundle = load_bundle(save_bundle(tmp_path / "b", task.student, card))
    x = torch.randn(2, 3, 112, 112)
    torch.testing.assert_close(bundle.model(x), task.student.eval()(x))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Map", r"returns \[2, 8, 2, 2\] for images \[2, 3, 112, 112\], which a student maps to"),
        ("Pair", r"returns tuple for images"),
        ("Small", r"has no embedding_width and fails on images \[2, 3, 112, 112\]"),
        ("Missing", r"has no 'Missing'"),
    ],
)
def test_what_a_module_lacks_is_one_line(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        facekd.build_task(recipe({"name": f"my_students:{name}"}), 4)
    assert "\n" not in str(caught.value)


def test_a_loss_that_reads_the_map_of_a_plain_module_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"urfm reads the student's feature map, but Plain has no forward_features"):
        own = {"name": "my_students:Plain", "arguments": {"width": 24}}
        facekd.build_task(recipe(own, {"urfm": {}}, teacher=small_teacher(tmp_path / "t")), 4)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18"])
def test_torchvision_cnns_are_students(name: str) -> None:
    student: Any = create_student(f"torchvision/{name}", embedding_width=32).eval()
    assert isinstance(student, Backbone)
    x = torch.randn(2, 3, 112, 112)
    features = student.forward_features(x)
    assert features.shape == (2, student.feature_channels, *student.feature_grid)
    torch.testing.assert_close(student(x), student.forward_head(features))
    student.train()(torch.randn(3, 3, 112, 112)).square().sum().backward()
    assert all(p.grad is not None for p in student.parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("mobilenet_v3_smal", {}, "did you mean mobilenet_v3_small"),
        ("resnet18", {"weights": "DEFAULT"}, "nothing is downloaded"),
        ("vit_b_16", {}, "is not a CNN student"),
        ("resnet18", {"depth": 3}, "torchvision refuses"),
    ],
)
def test_what_torchvision_cannot_give_is_one_line(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_model(f"torchvision/{name}", **arguments)


def test_without_torchvision_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(UsageError, match=r"model torchvision/resnet18 .*torchvision"):
        create_model("torchvision/resnet18")


def test_a_timm_student_shows_a_map_before_its_last() -> None:
    torch.manual_seed(1)
    plain: Any = create_student("timm/mobilenetv3_small_100", embedding_width=16).eval()
    student: Any = create_student("timm/mobilenetv3_small_100", embedding_width=16, features=-2).eval()
    student.load_state_dict(plain.state_dict())
    assert plain.feature_grid == (4, 4) and student.feature_grid == (7, 7)
    x = torch.randn(2, 3, 112, 112)
    features, embedding = tapped(student, x)
    assert features.shape == (2, student.feature_channels, 7, 7)
    torch.testing.assert_close(embedding, plain(x))
    torch.testing.assert_close(student(x), plain(x))
    inside = plain.body.blocks[:4](plain.body.bn1(plain.body.conv_stem(x)))  # the last block at a sixteenth
    torch.testing.assert_close(features, inside)
    with pytest.raises(UsageError, match=r"has no map features=9"):
        create_student("timm/mobilenetv3_small_100", features=9)


def test_grids_that_differ_much_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    swin = {"patch_size": 8, "embed_dim": 16, "depths": [1], "num_heads": [1], "embedding_width": 24}
    model = create_model("swin_teacher", **swin)
    card = describe(model, kind="teacher", name="t", architecture="swin_teacher", arguments=swin)
    teacher = save_bundle(tmp_path / "t", model, card)  # 14x14 tokens
    small = {"model": "mobilenetv3_small_100", "embedding_width": 24}
    urfm = {"urfm": {"local_centres": 2, "width": 16, "heads": 2}}
    facekd.build_task(recipe({"name": "timm_student", "arguments": small}, urfm, teacher=teacher), 4)
    assert "urfm: the student's map is 4x4, the teacher's tokens are 14x14" in caplog.text
    caplog.clear()
    near = {**small, "features": -2}
    facekd.build_task(recipe({"name": "timm_student", "arguments": near}, urfm, teacher=teacher), 4)
    assert "map is" not in caplog.text


class MySet(torch.utils.data.Dataset[Any]):
    """Somebody's own (image, label) pairs."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 112, 112), i, dtype=torch.uint8), i % 3


@pytest.mark.parametrize(
    "attributes",
    [{"num_identities": 3}, {"targets": np.arange(6) % 3}, {"classes": ["a", "b", "c"]}, {"labels": [0, 2]}],
)
def test_a_dataset_of_ones_own_is_trained_on(tmp_path: Path, attributes: dict[str, Any]) -> None:
    mine = MySet(**attributes)
    own = recipe({"name": "my_students:Plain"}).model_copy()
    own.training.max_steps, own.training.precision, own.training.batch_size = 1, "fp32", 3
    task = facekd.build_task(own, mine)
    assert task.head is not None and task.head.centres.shape == (3, 24)
    if "classes" in attributes:
        facekd.train(own, task, torch.utils.data.DataLoader(mine, batch_size=3), out=tmp_path / "out")


def test_what_a_dataset_lacks_is_one_line(tmp_path: Path) -> None:
    own = recipe({"name": "my_students:Plain"})
    with pytest.raises(UsageError, match=r"MySet does not say how many people it shows: give it num_identities"):
        facekd.build_task(own, MySet())
    with pytest.raises(UsageError, match=r"MySet is a Dataset: give torch.utils.data.DataLoader"):
        facekd.train(own, facekd.build_task(own, 3), MySet(), out=tmp_path / "out")  # type: ignore[arg-type]


def test_a_module_keeps_its_mode_when_it_is_asked_for_its_width() -> None:
    model = create_model("my_students:Plain")
    assert isinstance(model, nn.Module) and all(module.training for module in model.modules())
    norm: Any = model.body[1]  # type: ignore[index]
    assert norm.num_batches_tracked == 0
