"""A training starts from somebody's weights: everything but the head, and whatever does not fit is named."""

import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from facekd.common.errors import FacekdError, UsageError
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.models.starting import start_from
from facekd.recipe import Recipe
from facekd.training.log import Reporter
from facekd.training.run import run_recipe

SMALL = {"scale": 0.25, "blocks": [1, 1, 1, 1], "feature_channels": 16, "embedding_width": 8}
NAME = "timm/mobilenetv3_small_050"


def student(**arguments: Any) -> Any:
    return create_model("mobilefacenet", **{**SMALL, **arguments})


def test_a_timm_file_starts_a_timm_student(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = timm.create_model("mobilenetv3_small_050", pretrained=False)
    save_file(network.state_dict(), tmp_path / "m.safetensors")
    model: Any = create_model(NAME, embedding_width=8)
    head = {key: value.clone() for key, value in model.head.state_dict().items()}
    said = start_from(model, tmp_path / "m.safetensors", name=NAME)
    x = torch.randn(2, 3, 112, 112)
    stem, blocks = network.eval().conv_stem, network.blocks
    torch.testing.assert_close(model.eval().forward_features(x), blocks(network.bn1(stem(x))))
    assert all(torch.equal(value, head[key]) for key, value in model.head.state_dict().items())
    body = len(model.body.state_dict())
    assert f"{body} of {len(model.state_dict())} weights of {NAME} taken" in said
    assert "start at random: 10 (head.depthwise.conv.weight" in said
    assert "not used of the file: 4 (body.classifier.bias, body.classifier.weight, body.conv_head.bias, ...)" in said


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": {f"module.{k}": v.half() for k, v in s.items()}}]
)
def test_torchvision_and_wrapped_files(tmp_path: Path, wrap: Any) -> None:
    from torchvision import models

    network = models.mobilenet_v3_small(weights=None).eval()
    torch.save(wrap(network.state_dict()), tmp_path / "m.pth")
    model: Any = create_model("torchvision/mobilenet_v3_small", embedding_width=8)
    start_from(model, tmp_path / "m.pth", name="it")
    x = torch.randn(2, 3, 112, 112)
    torch.testing.assert_close(model.eval().forward_features(x), network.features(x), rtol=1e-2, atol=2e-2)


def test_a_bundle_of_another_width_starts_all_but_its_head(tmp_path: Path) -> None:
    old = student()
    card = describe(old, kind="student", name="old", architecture="mobilefacenet", arguments=SMALL)
    bundle = save_bundle(tmp_path / "old", old, card)
    same, wider = student(), student(embedding_width=12)
    assert "start at random" not in start_from(same, bundle, name="it")
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in old.state_dict().items())
    assert "start at random: 5 (head.linear.weight" in start_from(wider, bundle, name="it")
    assert torch.equal(wider.stem.conv.weight, old.stem.conv.weight)
    (bundle / "model.safetensors").write_bytes((bundle / "model.safetensors").read_bytes()[:-4] + b"abcd")
    with pytest.raises(FacekdError, match="sha256"):
        start_from(student(), bundle, name="it")


def test_position_embeddings_of_a_dinov2_are_resized(tmp_path: Path) -> None:
    network = timm.create_model("vit_small_patch14_dinov2", pretrained=False, img_size=70, depth=1, num_classes=0)
    save_file(network.state_dict(), tmp_path / "m.safetensors")
    given = {"model": "vit_small_patch14_dinov2", "depth": 1, "embedding_width": 8}
    model: Any = create_model("timm_teacher", **given)
    said = start_from(model, tmp_path / "m.safetensors", name="timm_teacher")
    assert "resized: 1 (body.pos_embed)" in said and "start at random" in said
    assert torch.equal(model.body.blocks[0].mlp.fc1.weight, network.blocks[0].mlp.fc1.weight)
    assert model.body.pos_embed.shape != network.pos_embed.shape


def test_what_is_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    before = student().state_dict()
    shape = "are of another shape (stem.conv.weight is [32, 3, 3, 3] instead of [16, 3, 3, 3])"
    cases = {
        "holds none of the": timm.create_model("resnet10t", pretrained=False).state_dict(),
        "weights are not in it (stage4": {k: v for k, v in before.items() if not k.startswith("stage4")},
        shape: student(scale=0.5, feature_channels=32).state_dict(),
        "have no place (stage3.": student(blocks=[1, 1, 2, 1]).state_dict(),
    }
    for message, state in cases.items():
        save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "m.safetensors")
        model = student()
        fresh = {key: value.clone() for key, value in model.state_dict().items()}
        with pytest.raises(UsageError) as caught:
            start_from(model, tmp_path / "m.safetensors", name="mobilefacenet")
        assert message.replace("24", str(state["stem.conv.weight"].shape[0]) if "24" in message else "") in str(
            caught.value
        )
        assert "\n" not in str(caught.value)
        assert all(torch.equal(value, fresh[key]) for key, value in model.state_dict().items())
    with pytest.raises(UsageError, match="no weights at"):
        start_from(student(), tmp_path / "nothing.pt", name="it")
    (tmp_path / "text.pt").write_text("<html></html>")
    with pytest.raises(FacekdError, match=r"is a web page|is not a readable"):
        start_from(student(), tmp_path / "text.pt", name="it")


def recipe(weights: Path | None, **training: Any) -> Recipe:
    content: dict[str, Any] = {
        "name": "start",
        "data": {"source": "synthetic:identities=4,images=2", "workers": 0},
        "model": {"name": "mobilefacenet", "arguments": SMALL},
        "training": {
            "batch_size": 4,
            "precision": "fp32",
            "channels_last": False,
            "checkpoint_every": 1,
            "threads": 1,
            **training,
        },
    }
    if weights is not None:
        content["model"]["weights"] = str(weights)
    return Recipe.model_validate(content)


def test_a_run_starts_from_them_and_resumes_bit_for_bit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(99)
    save_file(student().state_dict(), tmp_path / "m.safetensors")
    quiet = Reporter(quiet=True)
    with caplog.at_level(logging.WARNING):
        run_recipe(recipe(tmp_path / "m.safetensors", max_steps=2), out=tmp_path / "whole", reporter=quiet)
    assert "weights of mobilefacenet taken" in caplog.text
    from facekd.models.bundle import load_bundle

    whole = load_bundle(tmp_path / "whole" / "bundle").model.state_dict()
    other = tmp_path / "parts"
    run_recipe(recipe(tmp_path / "m.safetensors", max_steps=2), out=other, reporter=quiet)
    for step in (2,):
        for file in (other / "checkpoints").glob(f"*step-{step:08d}*"):
            file.unlink()
    for name in ("bundle/model.safetensors", "bundle/card.json", "bundle/README.md"):
        (other / name).unlink()
    (other / "bundle").rmdir()
    run_recipe(recipe(tmp_path / "m.safetensors", max_steps=2), out=other, resume=True, reporter=quiet)
    resumed = load_bundle(other / "bundle").model.state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    run_recipe(recipe(None, max_steps=2), out=tmp_path / "fresh", reporter=quiet)
    fresh = load_bundle(tmp_path / "fresh" / "bundle").model.state_dict()
    assert not all(torch.equal(value, fresh[key]) for key, value in whole.items())


def test_a_recipe_without_weights_keeps_its_hash() -> None:
    assert recipe(None).model_dump(mode="json")["model"] == {"name": "mobilefacenet", "arguments": SMALL}
