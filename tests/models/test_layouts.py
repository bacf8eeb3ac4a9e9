"""Layouts at small sizes, each against a forward pass that does not use facekd; what fits none, or several."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from typer.testing import CliRunner

from facekd import cli
from facekd.common.errors import FacekdError, UsageError
from facekd.models.bundle import Bundle, load_teacher
from facekd.models.importing import import_teacher
from facekd.schemas.input_spec import StatedInput

State = dict[str, torch.Tensor]

pytestmark = pytest.mark.usefixtures("no_initialisation")


def random_state(module: nn.Module) -> State:
    """Random weights, statistics and biases for all that a module has, of sizes that keep deep networks tame."""
    state = {}
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            state[name] = value
        elif name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            state[name] = torch.rand_like(value) * 0.2 + 0.9
        elif value.ndim < 2 or name.endswith(("pos_embed", "_token")) or "gamma" in name:
            state[name] = torch.randn_like(value) * 0.2
        elif name.endswith(("logit_scale", "temperature", "relative_coords_table")):
            state[name] = value
        else:
            state[name] = torch.randn_like(value) / value[0].numel() ** 0.5
    module.load_state_dict(state)
    return state


def imported(state: Any, folder: Path, **said: Any) -> Bundle:
    folder.mkdir(exist_ok=True)
    torch.save(state, folder / "w.pt")
    import_teacher(folder / "w.pt", folder / "teacher", overwrite=True, **said)
    return load_teacher(folder / "teacher")


def images(batch: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, 112, 112), dtype=torch.uint8)


def same(bundle: Bundle, expected: torch.Tensor, x: torch.Tensor) -> None:
    got = bundle.embed(x)
    assert F.cosine_similarity(got, expected).min() > 0.9999
    torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))


class IrBlock(nn.Module):
    """The residual block of both IResNets, by the layers' numbers in AdaFace's res_layer."""

    def __init__(self, inside: int, outside: int, stride: int, *, pick: bool) -> None:
        super().__init__()
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inside),
            nn.Conv2d(inside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.PReLU(outside),
            nn.Conv2d(outside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.stride = stride
        self.shortcut_layer: nn.Module | None = None
        if inside != outside or (stride == 2 and not pick):
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shortcut = self.shortcut_layer(x) if self.shortcut_layer else x[:, :, :: self.stride, :: self.stride]
        return self.res_layer(x) + shortcut


class Ir18(nn.Module):
    """18 layers, in AdaFace's names."""

    def __init__(self, *, pick: bool, affine: bool, embedding: int = 16) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        sizes = [(64, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
        self.body = nn.Sequential(*(IrBlock(*size, pick=pick) for size in [*sizes, (512, 512, 1)]))
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * 49, embedding),
            nn.BatchNorm1d(embedding, affine=affine),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.output_layer(self.body(self.input_layer(x)))
        return output


ARCFACE_NAMES = (
    ("input_layer.0.", "conv1."),
    ("input_layer.1.", "bn1."),
    ("input_layer.2.", "prelu."),
    ("output_layer.0.", "bn2."),
    ("output_layer.3.", "fc."),
    ("output_layer.4.", "features."),
    *((f"body.{i}.", f"layer{i // 2 + 1}.{i % 2}.") for i in range(8)),
)
BLOCK_NAMES = (
    *((f"res_layer.{i}.", name) for i, name in enumerate(("bn1.", "conv1.", "bn2.", "prelu.", "conv2.", "bn3."))),
    ("shortcut_layer.", "downsample."),
)


def arcface_name(name: str) -> str:
    for ours, theirs in (*ARCFACE_NAMES, *BLOCK_NAMES):
        name = name.replace(ours, theirs)
    return name


def test_iresnet(tmp_path: Path) -> None:
    network = Ir18(pick=False, affine=True).eval()
    state = {arcface_name(name): value for name, value in random_state(network).items()}
    centres = {"weight": torch.randn(5, 16)}
    bundle = imported({"state_dict_backbone": state, "state_dict_softmax_fc": centres}, tmp_path)
    assert bundle.card.architecture.name == "iresnet18"
    assert bundle.head_centres is not None and torch.equal(bundle.head_centres, centres["weight"])
    x = images()
    with torch.no_grad():
        same(bundle, network((x.float() - 127.5) / 127.5), x)


def test_ir_of_adaface_and_of_cvlface(tmp_path: Path) -> None:
    network = Ir18(pick=True, affine=False).eval()
    state, x = random_state(network), images()
    kernel = torch.randn(16, 9)
    lightning = {f"model.{name}": value for name, value in state.items()} | {"head.kernel": kernel}
    bundle = imported({"state_dict": lightning, "epoch": 1}, tmp_path)
    assert "adaface-ir" in (bundle.card.notes or "")
    assert bundle.head_centres is not None and torch.equal(bundle.head_centres, kernel.T)
    with torch.no_grad():
        bgr = network((x.flip(1).float() - 127.5) / 127.5)
        rgb = network((x.float() - 127.5) / 127.5)
    same(bundle, F.normalize(bgr), x)
    # CVLface's prefix: the same network on RGB, without the division by the length; on BGR where model.yaml says so.
    prefixed = {f"net.{name}": value for name, value in state.items()}
    same(imported(prefixed, tmp_path), rgb, x)
    (tmp_path / "model.yaml").write_text("color_space: BGR\n")
    same(imported(prefixed, tmp_path), bgr, x)
    (tmp_path / "model.yaml").unlink()
    # Bare names are both's.
    with pytest.raises(
        UsageError, match=r"fits several layouts, adaface-ir and cvlface-ir, .* say which with --layout"
    ):
        imported(state, tmp_path)
    same(imported(state, tmp_path, layout="cvlface-ir"), rgb, x)
    # What the user says goes before what the layout says.
    with torch.no_grad():
        expected = network((x.flip(1).float() - torch.tensor([1.0, 2, 3]).view(3, 1, 1)) / 128)
    stated = StatedInput(colour="BGR", mean=(1, 2, 3), std=(128, 128, 128))
    same(imported(state, tmp_path, layout="cvlface-ir", stated=stated), expected, x)


class FaceVit(nn.Module):
    """A ViT of arcface_torch's family by PyTorch's own attention; `senet` is TransFace's gate."""

    def __init__(self, *, width: int, depth: int, patch: int, heads: int, ratio: int, gate: bool = False) -> None:
        super().__init__()
        self.heads, tokens = heads, (112 // patch) ** 2
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, patch, patch)})
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(width),
                    "norm2": nn.LayerNorm(width),
                    "attn": nn.ModuleDict(
                        {"qkv": nn.Linear(width, 3 * width, bias=False), "proj": nn.Linear(width, width)}
                    ),
                    "mlp": nn.ModuleDict(
                        {"fc1": nn.Linear(width, ratio * width), "fc2": nn.Linear(ratio * width, width)}
                    ),
                }
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.feature = nn.Sequential(
            nn.Linear(tokens * width, width, bias=False),
            nn.BatchNorm1d(width, eps=2e-5),
            nn.Linear(width, 16, bias=False),
            nn.BatchNorm1d(16, eps=2e-5),
        )
        if gate:
            self.senet = nn.Sequential(
                nn.Linear(tokens * width, tokens, bias=False), nn.ReLU(), nn.Linear(tokens, tokens, bias=False)
            )
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed["proj"](x).flatten(2).transpose(1, 2) + self.pos_embed
        for block in self.blocks:
            parts: Any = block
            q, k, v = parts["attn"]["qkv"](parts["norm1"](x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            x = x + parts["attn"]["proj"](mixed)
            x = x + parts["mlp"]["fc2"](F.relu6(parts["mlp"]["fc1"](parts["norm2"](x))))
        x = self.norm(x)
        if self.gate:
            x = x * self.senet(x.flatten(1)).sigmoid().unsqueeze(2)
        output: torch.Tensor = self.feature(x.flatten(1))
        return output


@pytest.mark.parametrize(
    ("layout", "sizes", "heads"),
    [
        ("arcface-vit", {"width": 48, "depth": 2, "patch": 9, "heads": 6, "ratio": 4}, 6),
        ("cvlface-vit", {"width": 32, "depth": 2, "patch": 8, "heads": 4, "ratio": 5}, 4),
        ("cvlface-vit", {"width": 32, "depth": 2, "patch": 8, "heads": 2, "ratio": 3}, 2),
        ("transface", {"width": 32, "depth": 2, "patch": 16, "heads": 4, "ratio": 4, "gate": True}, 4),
    ],
)
def test_face_vits_of_unknown_sizes_need_their_heads(
    tmp_path: Path, layout: str, sizes: dict[str, Any], heads: int
) -> None:
    network = FaceVit(**sizes).eval()
    state, x = random_state(network), images()
    with pytest.raises(UsageError, match=r"its shapes do not tell its attention heads: say them with --heads"):
        imported(state, tmp_path)
    bundle = imported(state, tmp_path, heads=heads)
    assert f"({layout})" in (bundle.card.notes or "") and f"{heads} attention heads" in (bundle.card.notes or "")
    with torch.no_grad():
        expected = network((x.float() - 127.5) / 127.5)
    same(bundle, expected, x)
    wrong = imported(state, tmp_path, heads=1)
    assert F.cosine_similarity(wrong.embed(x), expected).max() < 0.9999
    with pytest.raises(UsageError, match="--heads 5 does not divide the width"):
        imported(state, tmp_path, heads=5)


def test_cvlface_swinv2(tmp_path: Path) -> None:
    """Against torchvision's blocks, whose names and tables it has."""
    blocks: list[nn.Module] = [nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.Identity(), nn.LayerNorm(16))]
    for stage, depth in enumerate((2, 1, 2)):
        width = 16 * 2**stage
        if stage:
            blocks.append(PatchMergingV2(width // 2, nn.LayerNorm))
        blocks += [
            SwinTransformerBlockV2(width, 2**stage, [7, 7], [3 * (i % 2)] * 2, norm_layer=nn.LayerNorm)
            for i in range(depth)
        ]
    network = nn.Module()
    network.features = nn.ModuleList(blocks)
    network.norm = nn.LayerNorm(64)
    network.feature = nn.Sequential(
        nn.Linear(64 * 49, 64, bias=False),
        nn.BatchNorm1d(64, eps=2e-5),
        nn.Linear(64, 16, bias=False),
        nn.BatchNorm1d(16, eps=2e-5),
    )
    network.eval()
    state, x = random_state(network), images()
    with torch.no_grad():
        first: Any = blocks[0]
        y = first[2](first[0]((x.float() - 127.5) / 127.5).permute(0, 2, 3, 1))
        for block in blocks[1:]:
            y = block(y)
        expected = network.feature(network.norm(y).flatten(1))
    bundle = imported({f"model.net.{name}": value for name, value in state.items()}, tmp_path)
    same(bundle, expected, x)


@pytest.mark.parametrize(
    ("model", "ratio"),
    [("edgenext_xx_small", None), ("edgenext_x_small", 0.6), ("edgenext_small", 0.5)],
)
def test_edgeface(tmp_path: Path, model: str, ratio: float | None) -> None:
    """A split layer is the product of its two matrices: the same EdgeNeXt with whole layers gives the same."""
    network = timm.create_model(model, num_classes=16).eval()
    random_state(network)
    state: State = {}
    modules = dict(network.named_modules())
    for name, value in network.state_dict().items():
        owner, _, last = name.rpartition(".")
        layer = modules[owner]
        if ratio is not None and isinstance(layer, nn.Linear):
            rank = max(2, int(min(layer.in_features, layer.out_features) * ratio))
            if last == "bias":
                state[f"{owner}.linear2.bias"] = value
                continue
            first = torch.randn(rank, layer.in_features) / layer.in_features**0.5
            second = torch.randn(layer.out_features, rank) / rank**0.5
            state |= {f"{owner}.linear1.weight": first, f"{owner}.linear2.weight": second}
            layer.weight.data = second @ first
        else:
            state[name] = value
    bundle = imported({f"model.{name}": value for name, value in state.items()}, tmp_path)
    assert bundle.card.architecture.arguments["rank_ratio"] == ratio
    x = images()
    with torch.no_grad():
        same(bundle, network((x.float() - 127.5) / 127.5), x)


def timm_expected(network: Any, x: torch.Tensor, model: str) -> torch.Tensor:
    config = timm.get_pretrained_cfg(model)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (config.mean, config.std))
    with torch.no_grad():
        output: torch.Tensor = network.eval()((x.float() / 255 - mean) / std)
    return output


@pytest.mark.parametrize(
    ("model", "classes", "said"),
    [
        ("vit_tiny_patch16_224", 16, {}),
        ("vit_tiny_patch16_224", 0, {}),  # the class token itself
        ("deit_tiny_patch16_224", 16, {"layout": "timm/deit_tiny_patch16_224"}),
        ("vit_small_patch14_dinov2", 16, {}),
        ("eva02_tiny_patch14_224", 16, {}),
        ("eva02_tiny_patch14_224", 0, {}),
        ("vit_tiny_patch16_dinov3_qkvb", 16, {}),
        pytest.param("swinv2_cr_tiny_224", 16, {"layout": "timm/swinv2_cr_tiny_224"}, marks=pytest.mark.slow),
        pytest.param("cait_xxs24_224", 16, {"layout": "timm/cait_xxs24_224"}, marks=pytest.mark.slow),
        ("pvt_v2_b0", 16, {"layout": "timm/pvt_v2_b0"}),
    ],
)
def test_timms_own_saves(tmp_path: Path, model: str, classes: int, said: dict[str, Any]) -> None:
    sized = {} if model.startswith("pvt") else {"img_size": 112}
    network: Any = timm.create_model(model, num_classes=classes, **sized)
    x = images()
    bundle = imported(random_state(network), tmp_path, **said)
    assert f"timm's {model} at 112x112" in (bundle.card.notes or "")
    same(bundle, timm_expected(network, x, model), x)


def test_timms_training_checkpoint_names_its_model_and_prefers_the_average(tmp_path: Path) -> None:
    network: Any = timm.create_model("deit_tiny_patch16_224", img_size=112, num_classes=16)
    state = random_state(network)
    other = {name: torch.zeros_like(value) for name, value in state.items()}
    bundle = imported({"state_dict": other, "state_dict_ema": state, "arch": "deit_tiny_patch16_224"}, tmp_path)
    x = images()
    same(bundle, timm_expected(network, x, "deit_tiny_patch16_224"), x)
    assert "took state_dict_ema" in (bundle.card.notes or "")


def test_an_imagenet_classifier_is_left_out(tmp_path: Path) -> None:
    network: Any = timm.create_model("vit_tiny_patch16_224", img_size=112)
    state, x = random_state(network), images()
    bundle = imported(state, tmp_path)
    assert bundle.card.embedding_width == 192
    assert "its classifier of 1000 outputs is left out" in (bundle.card.notes or "")
    network.reset_classifier(0)
    same(bundle, timm_expected(network, x, "vit_tiny_patch16_224"), x)


def test_a_swinv2s_window_is_asked_for(tmp_path: Path) -> None:
    network: Any = timm.create_model("swinv2_tiny_window8_256", img_size=112, num_classes=8, device="meta")
    state = {name: torch.zeros(()).expand(value.shape) for name, value in network.state_dict().items()}
    with pytest.raises(UsageError, match=r"give --layout timm/swinv2_tiny_window8_256 or --layout timm/swinv2_tiny_w"):
        imported(state, tmp_path)


SMALL = {"width": 32, "depth": 2, "patch": 16, "heads": 8, "ratio": 4}


def small_vit() -> State:
    return random_state(FaceVit(**SMALL))  # type: ignore[arg-type]


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(names)}


BAD: dict[str, tuple[Any, str]] = {
    "unknown": (
        {"a.weight": torch.zeros(2)},
        r"has no layout that facekd knows: its names begin with a\.weight; known: a",
    ),
    "nearly": (
        lambda: without(small_vit(), "feature.2"),
        r"the nearest is arcface-vit, but it has no feature\.2\.weight",
    ),
    "half": (
        lambda: without(small_vit(), "blocks.0.norm2", "norm"),
        r"missing body\.blocks\.0\.norm2\.bias, .* and 1 more",
    ),
    "width": (lambda: small_vit() | {"feature.0.weight": torch.zeros(32, 7)}, r"feature|neck\.1\.weight is \[32, 7\]"),
    "kp-rpe": (
        lambda: small_vit() | {"keypoint_linear.weight": torch.zeros(2)},
        "is CVLface's KP-RPE network, .* landmarks",
    ),
    "irpe": (lambda: small_vit() | {"blocks.0.attn.rpe_k.lookup_table": torch.zeros(2)}, "is CVLface's iRPE network"),
    "part fvit": ({"mobilenet.a": torch.zeros(2), "vit.blocks.0.norm1.weight": torch.zeros(2)}, "is part fViT"),
    "swinface": ({"backbone.norm.weight": torch.zeros(2), "fam.conv.weight": torch.zeros(2)}, "is SwinFace, which"),
    "face-transformer": (
        {"patch_to_embedding.weight": torch.zeros(2), "transformer.layers.0.0.fn.norm.weight": torch.zeros(2)},
        "is Face-Transformer",
    ),
    "ir-se": (
        {"input_layer.0.weight": torch.zeros(2), "body.0.res_layer.se_block.fc1.weight": torch.zeros(2)},
        "is an IR-SE network",
    ),
    "quantised": ({"a.scale": torch.tensor(1.0), "a._packed_params._packed_params": (1,)}, "holds a quantised network"),
    "own": ({"body.norm.weight": torch.zeros(2), "neck.1.weight": torch.zeros(2)}, "without its card"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_imported_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    content, says = BAD[name]
    said = {"heads": 8} if name in ("half", "width") else {}
    with pytest.raises(FacekdError, match=says) as error:
        imported(content() if callable(content) else content, tmp_path, **said)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "teacher").exists()


def test_an_insisted_layout_says_what_is_missing(tmp_path: Path) -> None:
    for layout, says in {"edgeface": r"no stem\.0\.weight", "cvlface-swinv2": r"no features\.0\.0\.weight"}.items():
        with pytest.raises(FacekdError, match=says):
            imported(small_vit(), tmp_path, layout=layout)
    with pytest.raises(FacekdError, match="does not fit timm's vit_tiny_patch16_224"):
        imported(small_vit(), tmp_path, layout="timm/vit_tiny_patch16_224")
    with pytest.raises(UsageError, match="timm has no model 'vit_tinny'"):
        imported(small_vit(), tmp_path, layout="timm/vit_tinny")


def test_the_command_says_what_it_took(tmp_path: Path) -> None:
    if not cli.app.registered_groups and not cli.app.registered_commands:
        cli._register()
    torch.save(small_vit(), tmp_path / "w.pt")
    words = ["models", "import", str(tmp_path / "w.pt"), "--out", str(tmp_path / "teacher"), "--heads", "8"]
    answer = CliRunner().invoke(cli.app, [*words, "--mean", "120", "--std", "128,128,130"])
    assert answer.exit_code == 0, answer.output
    assert "imported as an arcface_torch ViT (arcface-vit)" in answer.output
    assert "8 attention heads" in answer.output
    assert "no published size has width" in answer.output and "make sure that the file is whole" in answer.output
    spec = load_teacher(tmp_path / "teacher").card.input
    assert (spec.mean, spec.std) == ((120, 120, 120), (128, 128, 130))
