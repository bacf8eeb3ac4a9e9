"""Importing teachers: the shared Swin, arcface_torch's ViT layout, and what is neither."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from facekd.common.errors import FacekdError, UsageError
from facekd.data.opening import load_verification_set
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.models.bundle import load_teacher
from facekd.models.importing import import_teacher
from facekd.models.registry import create_model

WIDTH, DEPTH, PATCH, EMBEDDING, TOKENS = 32, 2, 28, 24, 16


def arcface_vit_state() -> dict[str, torch.Tensor]:
    """A random state dict in the key layout of arcface_torch's ViT, at a small size."""
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, TOKENS, WIDTH),
        "mask_token": (1, 1, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "feature.0.weight": (WIDTH, TOKENS * WIDTH),
        "feature.2.weight": (EMBEDDING, WIDTH),
    }
    for block in range(DEPTH):
        at = f"blocks.{block}"
        shapes |= {
            f"{at}.norm1.weight": (WIDTH,),
            f"{at}.norm1.bias": (WIDTH,),
            f"{at}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"{at}.attn.proj.weight": (WIDTH, WIDTH),
            f"{at}.attn.proj.bias": (WIDTH,),
            f"{at}.norm2.weight": (WIDTH,),
            f"{at}.norm2.bias": (WIDTH,),
            f"{at}.mlp.fc1.weight": (4 * WIDTH, WIDTH),
            f"{at}.mlp.fc1.bias": (4 * WIDTH,),
            f"{at}.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            f"{at}.mlp.fc2.bias": (WIDTH,),
        }
    for index, width in ((1, WIDTH), (3, EMBEDDING)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"feature.{index}.{part}"] = (width,)
    state = {key: torch.randn(shape) * 0.3 for key, shape in shapes.items()}
    for index in (1, 3):
        state[f"feature.{index}.running_var"] = torch.rand_like(state[f"feature.{index}.running_var"]) + 0.5
        state[f"feature.{index}.num_batches_tracked"] = torch.tensor(10)
    return state


def arcface_vit_forward(s: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The network's inference written out: plain tensor algebra over the state dict, one head after another."""
    b, heads = len(x), 8
    patches = x.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)  # b, c, rows, columns, p, p
    patches = patches.permute(0, 2, 3, 1, 4, 5).reshape(b, TOKENS, -1)
    t = patches @ s["patch_embed.proj.weight"].reshape(WIDTH, -1).T + s["patch_embed.proj.bias"] + s["pos_embed"]

    def norm(v: torch.Tensor, at: str) -> torch.Tensor:
        v = v - v.mean(-1, keepdim=True)
        return v / (v.square().mean(-1, keepdim=True) + 1e-5).sqrt() * s[f"{at}.weight"] + s[f"{at}.bias"]

    def batch_norm(v: torch.Tensor, at: str) -> torch.Tensor:
        v = (v - s[f"{at}.running_mean"]) / (s[f"{at}.running_var"] + 2e-5).sqrt()
        return v * s[f"{at}.weight"] + s[f"{at}.bias"]

    for i in range(DEPTH):
        at = f"blocks.{i}"
        q, k, v = (norm(t, f"{at}.norm1") @ s[f"{at}.attn.qkv.weight"].T).split(WIDTH, -1)
        size = WIDTH // heads
        mixed = []
        for h in range(heads):
            part = slice(h * size, (h + 1) * size)
            attention = (q[..., part] @ k[..., part].transpose(1, 2) / size**0.5).softmax(-1)
            mixed.append(attention @ v[..., part])
        t = t + torch.cat(mixed, -1) @ s[f"{at}.attn.proj.weight"].T + s[f"{at}.attn.proj.bias"]
        hidden = (norm(t, f"{at}.norm2") @ s[f"{at}.mlp.fc1.weight"].T + s[f"{at}.mlp.fc1.bias"]).clamp(0, 6)
        t = t + hidden @ s[f"{at}.mlp.fc2.weight"].T + s[f"{at}.mlp.fc2.bias"]
    flat = norm(t, "norm").reshape(b, -1)
    hidden = batch_norm(flat @ s["feature.0.weight"].T, "feature.1")
    return batch_norm(hidden @ s["feature.2.weight"].T, "feature.3")


@pytest.mark.parametrize("wrapping", ["state dict", "safetensors", "full checkpoint"])
def test_arcface_vit_layout(tmp_path: Path, wrapping: str) -> None:
    state = arcface_vit_state()
    path = tmp_path / ("model.safetensors" if wrapping == "safetensors" else "model.pt")
    if wrapping == "safetensors":
        save_file(state, path)
    elif wrapping == "state dict":
        torch.save(state, path)
    else:
        wrapped = {f"module.{key}": value for key, value in state.items()}
        torch.save({"epoch": 3, "state_dict_backbone": wrapped, "state_optimizer": {}}, path)
    import_teacher(path, tmp_path / "teacher", layout="arcface-vit")
    bundle = load_teacher(tmp_path / "teacher")
    assert isinstance(bundle.model, TransformerTeacher)
    assert (bundle.model.kind, bundle.model.grid, bundle.card.embedding_width) == ("vit", (4, 4), EMBEDDING)
    images = torch.randint(0, 256, (3, 3, 112, 112), dtype=torch.uint8)
    expected = arcface_vit_forward(state, (images.float() - 127.5) / 127.5)
    torch.testing.assert_close(bundle.embed(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"norm.weight": None}, r"missing body\.norm\.weight"),
        ({"cls_token": torch.zeros(1, 1, WIDTH)}, r"unexpected body\.cls_token"),
        ({"feature.0.weight": torch.zeros(WIDTH, 7)}, r"neck\.1\.weight is \[32, 7\] instead of \[32, 512\]"),
        ({"pos_embed": torch.zeros(1, 17, WIDTH)}, "patch 28 gives 16 tokens at 112x112, not 17"),
        ({"patch_embed.proj.weight": None}, r"is not an arcface_torch ViT checkpoint: it has no patch_embed\.proj"),
        ({"blocks.0.norm1.bn.weight": torch.zeros(TOKENS)}, "batch norm"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(9, WIDTH)}, r"qkv\.weight is \[9, 32\]"),
    ],
)
def test_arcface_vit_layout_is_strict(tmp_path: Path, change: dict, says: str) -> None:
    state = {key: value for key, value in (arcface_vit_state() | change).items() if value is not None}
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(FacekdError, match=says) as error:
        import_teacher(tmp_path / "model.pt", tmp_path / "teacher", layout="arcface-vit")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "teacher").exists()


SWIN = {"img_size": 112, "patch_size": 8, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "window_size": 7}


def swin_files(folder: Path) -> tuple[Path, Path, TransformerTeacher]:
    """A small Swin teacher, its centres and their description, laid out as the shared teacher's."""
    teacher = create_model("swin_teacher", **SWIN, embedding_width=20)
    assert isinstance(teacher, TransformerTeacher)
    state = {key: value.half() if value.is_floating_point() else value for key, value in teacher.state_dict().items()}
    save_file(state | {"centres": F.normalize(torch.randn(5, 20)).half()}, folder / "teacher.safetensors")
    description = {
        "body": {
            "class": "timm.models.swin_transformer.SwinTransformer",
            "arguments": SWIN | {"num_classes": 0, "global_pool": ""},
        },
        "centres": {"key": "centres", "meaning": "unit class centres: scale 32, cosine margin 0.2 on cos"},
        "input": {"size": [112, 112], "colour": "BGR", "mean": [0, 0, 0], "std": [255, 255, 255]},
    }
    (folder / "teacher.json").write_text(json.dumps(description))
    return folder / "teacher.safetensors", folder / "teacher.json", teacher


def test_a_description_is_followed(tmp_path: Path) -> None:
    weights, description, teacher = swin_files(tmp_path)
    import_teacher(weights, tmp_path / "out", description=description, labels="f" * 64, num_identities=5)
    bundle = load_teacher(tmp_path / "out")
    images = torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8)
    teacher.load_state_dict({key: value.half().float() for key, value in teacher.state_dict().items()})
    with torch.no_grad():
        assert torch.equal(bundle.embed(images), teacher.eval()(images.flip(1).float() / 255))
    head = bundle.card.head
    assert head is not None
    assert (head.name, head.arguments, head.num_identities) == ("cosface", {"margin": 0.2, "scale": 32.0}, 5)
    assert head.labels == "f" * 64
    assert bundle.head_centres is not None and bundle.head_centres.dtype == torch.float32


def edited(path: Path, **changes: object) -> None:
    """Rewrites the description with `changes` at its top level, or in body.arguments where that is the key."""
    data = json.loads(path.read_text())
    data["body"]["arguments"].update(changes.pop("arguments", {}))
    path.write_text(json.dumps(data | changes))


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"body": {"class": "timm.models.resnet.ResNet", "arguments": {}}}, UsageError, "body.class .* is unknown"),
        ({"body": "swin"}, UsageError, "does not describe a teacher"),
        ({"arguments": {"num_classes": 10}}, UsageError, "num_classes must be 0"),
        ({"arguments": {"colour": 1}}, UsageError, "no argument 'colour'"),
        ({"arguments": {"depths": [1, 2]}}, FacekdError, r"missing body\.layers\.1\.blocks\.1"),
        ({"arguments": {"embed_dim": 32}}, FacekdError, "instead of"),
        ({"centres": {"key": "centroids"}}, FacekdError, "has no 'centroids'"),
        ({"centres": {"key": "centres"}}, UsageError, "--head-scale and --head-margin"),
        ({"centres": None}, FacekdError, "unexpected centres"),
        (
            {"input": {"size": [112, 112], "colour": "HSV"}},
            UsageError,
            r"does not describe a teacher: input\.colour = 'HSV': input should be",
        ),
        ({"centres": 5}, UsageError, "centres = 5: input should be"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path: Path, changes: dict, error: type, says: str) -> None:
    weights, description, _ = swin_files(tmp_path)
    edited(description, **changes)
    with pytest.raises(error, match=says) as caught:
        import_teacher(weights, tmp_path / "out", description=description)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_head_numbers_and_identities_can_be_given_and_are_checked(tmp_path: Path) -> None:
    weights, description, _ = swin_files(tmp_path)
    edited(description, centres={"key": "centres"})
    import_teacher(weights, tmp_path / "out", description=description, head_scale=16, head_margin=0.1)
    head = load_teacher(tmp_path / "out").card.head
    assert head is not None and head.arguments == {"margin": 0.1, "scale": 16}
    with pytest.raises(UsageError, match="5 class centres, the labelled data 6 identities"):
        import_teacher(
            weights, tmp_path / "b", description=description, head_scale=16, head_margin=0.1, num_identities=6
        )


class Dangerous:
    """Runs a command when it is unpickled by an unrestricted loader."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"pos_embed": Dangerous(tmp_path / "ran")}, tmp_path / "model.pt")
    with pytest.raises(FacekdError, match="is not a readable weights file") as error:
        import_teacher(tmp_path / "model.pt", tmp_path / "out", layout="arcface-vit")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_teacher(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _, description, _ = swin_files(tmp_path)
    with pytest.raises(UsageError, match="no weights at"):
        import_teacher(tmp_path / "none.pt", out, layout="arcface-vit")
    for name in ("text.pt", "text.safetensors"):
        (tmp_path / name).write_text("no weights in here")
        with pytest.raises(FacekdError, match="is not a readable weights file"):
            import_teacher(tmp_path / name, out, layout="arcface-vit")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(FacekdError, match="does not hold a state dict"):
        import_teacher(tmp_path / "list.pt", out, layout="arcface-vit")
    save_file({"centres": torch.zeros(2, 3), "layer.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(FacekdError, match="are not a teacher's weights"):
        import_teacher(tmp_path / "other.safetensors", out, description=description)
    with pytest.raises(UsageError, match=r"unknown layout 'vit'; valid: arcface-vit"):
        import_teacher(tmp_path / "list.pt", out, layout="vit")
    with pytest.raises(UsageError, match="either a description or a layout"):
        import_teacher(tmp_path / "other.safetensors", out, description=description, layout="arcface-vit")
    with pytest.raises(UsageError, match="no description at"):
        import_teacher(tmp_path / "list.pt", out, description=tmp_path / "none.json")


@pytest.mark.slow
def test_the_shared_teacher_knows_real_faces(shared: Path, tmp_path: Path) -> None:
    """Imported as documented, it tells 300 pairs of lfw_dev.bin apart: the threshold from the other pairs."""
    weights = shared / "weights" / "swin_teacher.safetensors"
    import_teacher(weights, tmp_path / "teacher", description=weights.with_suffix(".json"))
    bundle = load_teacher(tmp_path / "teacher")
    assert bundle.card.parameters == 12_235_812
    state = load_file(weights)
    assert bundle.head_centres is not None and bundle.card.head is not None
    assert torch.equal(bundle.head_centres, state["centres"].float())
    assert bundle.card.head.arguments == {"margin": 0.2, "scale": 32.0}

    pairs = load_verification_set(shared / "data" / "lfw_dev.bin")
    same, different = np.flatnonzero(pairs.issame), np.flatnonzero(~pairs.issame)
    chosen = np.stack([same[:150], different[:150]], axis=1).ravel()  # alternating, so that folds are balanced
    crops = np.stack([pairs.image(2 * int(p) + side) for p in chosen for side in (0, 1)])
    assert crops.shape[1:] == (112, 112, 3)
    images = torch.from_numpy(crops).permute(0, 3, 1, 2)
    embeddings = F.normalize(torch.cat([bundle.embed(part) for part in images.split(50)]))
    cosines = (embeddings[::2] * embeddings[1::2]).sum(1).numpy()
    issame = pairs.issame[chosen]
    fold_accuracies = []
    for fold in np.array_split(np.arange(300), 10):
        rest = np.setdiff1d(np.arange(300), fold)
        thresholds = np.linspace(-1, 1, 401)
        best = max(thresholds, key=lambda t: ((cosines[rest] > t) == issame[rest]).mean())
        fold_accuracies.append(((cosines[fold] > best) == issame[fold]).mean())
    assert np.mean(fold_accuracies) > 0.85

    # The same crops in the wrong colour order must be told apart less well: the card's input spec matters.
    wrong = np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2BGR) for crop in crops[:20]])
    moved = F.normalize(bundle.embed(torch.from_numpy(wrong).permute(0, 3, 1, 2)))
    assert ((moved * embeddings[:20]).sum(1) < 0.98).all()
