"""Every layout against the embeddings that the public code gave for the same weights and pictures."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from facekd import cli
from facekd.common.errors import FacekdError, UsageError
from facekd.data.decoding import encode_png
from facekd.models.bundle import load_strictly, load_teacher
from facekd.models.checkpoint import read_checkpoint
from facekd.models.importing import import_teacher
from facekd.models.layouts.base import Asked
from facekd.models.layouts.recognise import find_layout
from facekd.models.registry import create_model

LARGEST_DIFFERENCE = 2e-5  # over the largest value; a wrong epsilon gives 4e-5

# card -> the layout, and the option that it needs where nothing in the file tells
CARDS = {
    "arcface_vit_t": ("arcface-vit", None),
    "arcface_vit_b": ("arcface-vit", None),
    "arcface_r50": ("arcface-iresnet", None),
    "adaface_ir50": ("adaface-ir", None),
    "cvlface_vit_s": ("cvlface-vit", None),
    "cvlface_swinv2_s": ("cvlface-swinv2", None),
    "transface_s": ("transface", None),
    "edgeface_xs_gamma_06": ("edgeface", None),
    "timm_swin_tiny": ("timm-swin", None),
    "timm_swinv2_tiny": ("timm/NAME", "timm/swinv2_tiny_window8_256"),
    "timm_vit_small_dinov2_reg4": ("timm-vit", None),
    "timm_eva02_small": ("timm-eva", None),
}


pytestmark = pytest.mark.usefixtures("no_initialisation")


def check(got: torch.Tensor, card: dict[str, Any]) -> None:
    """Both bounds of the cards' README."""
    values, want = got.double().numpy(), np.array(card["embeddings"])
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(want, axis=1)
    assert ((values * want).sum(axis=1) / lengths > 0.9999).all()
    assert np.abs(values - want).max() <= LARGEST_DIFFERENCE * np.abs(want).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", CARDS)
def test_the_public_codes_embeddings(golden: Any, tmp_path: Path, name: str) -> None:
    layout, option = CARDS[name]
    card = golden.card(name)
    torch.save(golden.wrapped(card, golden.state(card)), tmp_path / "w.pt")
    checkpoint = read_checkpoint(tmp_path / "w.pt")
    chosen = find_layout(checkpoint, option, Asked())
    assert chosen.name == layout
    found = chosen.network()
    model = create_model(found.architecture, **found.arguments)
    load_strictly(model, found.state, source=tmp_path / "w.pt")
    assert (found.input.colour, list(found.input.mean)) == (card["input"]["colour"], card["input"]["mean"])
    assert found.input.std == pytest.approx(card["input"]["std"])
    with torch.no_grad():
        check(model.eval()(found.input.normalise(golden.images())), card)
    del model, found, chosen, checkpoint
    gc.collect()


def test_lvface_is_recognised_by_its_names(golden: Any) -> None:
    """Its card equals arcface_torch's ViT-T by construction: names, shapes and embeddings."""
    ours, theirs = golden.card("arcface_vit_t"), golden.card("lvface_t")
    assert ours["keys"] == theirs["keys"]
    assert ours["embeddings"] == theirs["embeddings"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adaface_ir50", "edgeface_xs_gamma_06", "timm_vit_small_dinov2_reg4"])
def test_uint8_pictures_through_a_bundle(golden: Any, tmp_path: Path, name: str) -> None:
    """The route of embed, evaluate and teachers: BGR and ImageNet's mean and deviation are honoured there."""
    card = golden.card(name)
    torch.save(golden.wrapped(card, golden.state(card)), tmp_path / "w.pt")
    import_teacher(tmp_path / "w.pt", tmp_path / "teacher")
    bundle = load_teacher(tmp_path / "teacher")
    check(bundle.embed(golden.images()), card)
    assert bundle.card.input.colour == "RGB"
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, picture in enumerate(golden.formula.images()):
        (pictures / f"{number}.png").write_bytes(encode_png(picture))
    if not cli.app.registered_groups and not cli.app.registered_commands:
        cli._register()
    words = ["embed", str(tmp_path / "teacher"), str(pictures), "--no-flip", "--raw", "--out", str(tmp_path / "e.npz")]
    answer = CliRunner().invoke(cli.app, words)
    assert answer.exit_code == 0, answer.output
    check(torch.from_numpy(np.load(tmp_path / "e.npz")["embeddings"]), card)
    if name == "adaface_ir50":
        assert bundle.head_centres is not None and bundle.head_centres.shape == (7, 512)
        assert bundle.card.head is not None and bundle.card.head.name == "adaface"


@pytest.mark.parametrize(
    ("name", "heads"), [("arcface_vit_t", 4), ("arcface_vit_t", 16), ("cvlface_vit_s", 16), ("transface_s", 16)]
)
def test_other_heads_than_a_known_networks_are_refused(golden: Any, tmp_path: Path, name: str, heads: int) -> None:
    state = {key: torch.zeros(()).expand(shape) for key, shape, _ in golden.card(name)["keys"]}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=f"which has 8 heads, not {heads}"):
        find_layout(read_checkpoint(tmp_path / "w.pt"), None, Asked(heads=heads)).network()


def test_cvlfaces_vit_b_has_16_heads_and_no_other_layout_takes_it(golden: Any, tmp_path: Path) -> None:
    """S by its names, with 24 blocks and an MLP of 3 times the width: shapes alone would allow any heads."""
    state = {}
    for name, shape, _ in golden.card("cvlface_vit_s")["keys"]:
        value = torch.zeros(()).expand([3 * 512 if side == 5 * 512 else side for side in shape])
        if name.startswith("blocks.0."):
            state |= {name.replace("0", str(block), 1): value for block in range(24)}
        elif not name.startswith("blocks."):
            state[name] = value
    torch.save({"net." + name: value for name, value in state.items()}, tmp_path / "w.pt")
    checkpoint = read_checkpoint(tmp_path / "w.pt")
    found = find_layout(checkpoint, None, Asked()).network()
    assert (found.arguments["num_heads"], found.arguments["depth"]) == (16, 24)
    with torch.device("meta"):
        shapes = {
            name: value.shape for name, value in create_model("vit_teacher", **found.arguments).state_dict().items()
        }
    assert shapes == {name: value.shape for name, value in found.state.items()}
    with pytest.raises(FacekdError, match="3 times as wide as its tokens"):
        find_layout(checkpoint, "arcface-vit", Asked()).network()
