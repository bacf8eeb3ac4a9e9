"""URFM and APT on every family of teachers: the shipped recipe's methods run as they stand, and the prompts learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from facekd.common.errors import UsageError
from facekd.distillation.build import build_task
from facekd.models.bundle import save_bundle
from facekd.models.describe import describe
from facekd.models.registry import create_model

RECIPE = Path(__file__).resolve().parents[2] / "facekd" / "recipes" / "celeba-urfm-apt.yaml"

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "arcface vit": (
        "vit_teacher",
        {
            "patch_size": 9,
            "embed_dim": 32,
            "depth": 2,
            "num_heads": 8,
            "mlp_activation": "relu6",
            "neck": "arcface_vit",
        },
    ),
    "cvlface vit": ("vit_teacher", {"patch_size": 8, "embed_dim": 32, "depth": 2, "neck": "arcface_vit"}),
    "transface": ("vit_teacher", {"patch_size": 9, "embed_dim": 32, "depth": 2, "neck": "transface"}),
    "cvlface swinv2": ("swinv2_teacher", {"embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4)}),
    "swin": ("timm_teacher", {"model": "swin_tiny_patch4_window7_224", "embed_dim": 24, "depths": (2, 1, 1, 1)}),
    "swinv2": ("timm_teacher", {"model": "swinv2_tiny_window8_256", "embed_dim": 24, "depths": (2, 1, 1, 1)}),
    "dinov2": ("timm_teacher", {"model": "vit_small_patch14_dinov2", "embed_dim": 48, "depth": 2}),
    "dinov2 with registers": ("timm_teacher", {"model": "vit_small_patch14_reg4_dinov2", "embed_dim": 48, "depth": 2}),
    "eva02": ("timm_teacher", {"model": "eva02_tiny_patch14_224", "embed_dim": 48, "depth": 2}),
    "dinov3": ("timm_teacher", {"model": "vit_small_patch16_dinov3", "embed_dim": 96, "depth": 2}),
}


def save(path: Path, architecture: str, arguments: dict[str, Any]) -> Path:
    """A teacher as an import writes it: 32 wide, without classes."""
    arguments = {**arguments, "embedding_width": 32} | ({"neck": "timm"} if architecture == "timm_teacher" else {})
    model = create_model(architecture, **arguments)
    for name, parameter in model.named_parameters():
        if "gamma" in name or "norm" in name:  # layer scale and SwinV2's norms begin near 0
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    card = describe(model, kind="teacher", name="t", architecture=architecture, arguments=arguments)
    return save_bundle(path, model, card)


def methods() -> list[dict[str, Any]]:
    """The entries of `distillation` in the shipped recipe."""
    entries: list[dict[str, Any]] = yaml.safe_load(RECIPE.read_text())["distillation"]
    return entries


@pytest.mark.parametrize("family", FAMILIES)
def test_two_steps_of_the_shipped_recipes_methods(tiny: Any, tmp_path: Path, family: str) -> None:
    teacher = save(tmp_path / "teacher", *FAMILIES[family])
    task = build_task(tiny.recipe(teacher, *methods()), tiny.source)
    groups = {group.name: group.parameters for group in task.parameter_groups()}
    before = [prompt.detach().clone() for prompt in groups["prompts"]]
    optimiser = torch.optim.AdamW([p for parameters in groups.values() for p in parameters], lr=1e-3)
    images, labels = tiny.batch()
    for step in range(2):
        task.begin_step(step)
        out = task(images, labels)
        assert {"urfm.attention", "urfm.feature", "urfm.anchor", "urfm.relay", "embedding.cosine"} <= set(out.parts)
        assert torch.isfinite(out.loss)
        optimiser.zero_grad()
        out.loss.backward()
        if step == 0:  # the recipe's interval is 2
            assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in groups["prompts"])
        optimiser.step()
    assert all(not torch.equal(a, b) for a, b in zip(before, groups["prompts"], strict=True))
    tokens = task.teacher.grid[0] * task.teacher.grid[1]  # type: ignore[union-attr, index]
    urfm: Any = task.terms["urfm"]
    assert len(urfm.centres) == (tokens if urfm.reads_neck else 49)
    assert urfm.reads_neck == ("dinov2" not in family)


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [("adaface_ir", {"depths": (1, 1, 1, 1), "widths": (8, 8, 16, 16)}), ("edgeface", {"model": "edgenext_xx_small"})],
)
def test_a_cnn_teaches_embeddings_and_takes_no_prompts(
    tiny: Any, tmp_path: Path, architecture: str, arguments: dict[str, Any]
) -> None:
    teacher = save(tmp_path / "teacher", architecture, arguments)
    task = build_task(tiny.recipe(teacher, {"embedding": {}}), tiny.source)
    task(*tiny.batch()).loss.backward()
    with pytest.raises(UsageError, match="apt: prompts need a Transformer teacher") as error:
        build_task(tiny.recipe(teacher, *methods()), tiny.source)
    assert "\n" not in str(error.value)


TIMM = {
    "swinv2_cr_tiny_224": (4, 4),
    "cait_xxs24_224": (7, 7),
    "tiny_vit_5m_224": (4, 4),
    "davit_tiny": (4, 4),
    "pvt_v2_b0": (4, 4),
    "xcit_tiny_12_p16_224": (7, 7),
    "beit_base_patch16_224": (7, 7),
}


@pytest.mark.slow
@pytest.mark.parametrize("model", TIMM)
def test_a_transformer_of_timm_by_its_name_has_tokens(tiny: Any, tmp_path: Path, model: str) -> None:
    network: Any = create_model("timm_teacher", model=model, embedding_width=32)
    assert network.grid == TIMM[model]
    network.eval()
    x = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        tokens = network.forward_features(x)
        assert tokens.shape == (2, network.grid[0] * network.grid[1], network.token_width)
        if network.head_reads_tokens:
            torch.testing.assert_close(network.forward_head(tokens), network(x))
    card = describe(
        network,
        kind="teacher",
        name="t",
        architecture="timm_teacher",
        arguments={"model": model, "embedding_width": 32},
    )
    teacher = save_bundle(tmp_path / "teacher", network, card)
    urfm = {"urfm": {"width": 16, "heads": 2, "read_out": "auto", "centre_spread": 0.4}}
    task = build_task(tiny.recipe(teacher, {"embedding": {}}, urfm), tiny.source)
    task(*tiny.batch()).loss.backward()


def test_a_transformer_that_112_pixels_do_not_fit_says_so() -> None:
    for model in ("maxvit_tiny_rw_224", "coatnet_nano_rw_224"):
        with pytest.raises(UsageError, match="does not take images of 112x112") as error:
            create_model("timm_teacher", model=model)
        assert "\n" not in str(error.value)
