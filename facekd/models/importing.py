"""Teachers trained elsewhere, made into bundles: the shared Swin teacher and arcface_torch's ViT checkpoints."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import explain
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.models.bundle import load_strictly, save_bundle
from facekd.models.checkpoint import read_checkpoint
from facekd.models.describe import describe
from facekd.models.registry import create_model
from facekd.schemas.card import HeadCard, Metric
from facekd.schemas.input_spec import InputSpec

# timm class path in a description -> the registered teacher that builds it.
_BODIES = {
    "timm.models.swin_transformer.SwinTransformer": "swin_teacher",
    "timm.models.vision_transformer.VisionTransformer": "vit_teacher",
}


class _Body(BaseModel):
    timm_class: str = Field(alias="class")
    arguments: dict[str, Any]


class _Centres(BaseModel):
    key: str
    meaning: str = ""


class _Measured(BaseModel):
    lfw_10_fold_accuracy: float | None = None
    lfw_std: float | None = None
    protocol: str = "protocol not stated"


class Description(BaseModel):
    """The JSON beside a teacher's weights, as swin_teacher.json has it; keys not named here are for people.

    Attributes:
        body: the timm class and its arguments; the weights' keys are body.* and neck.1.*, neck.2.* ("flatten").
        centres: key of the class centres in the weights, and a sentence with "scale S, cosine margin M".
        input: size, colour, mean, std.
        measured: accuracies its authors state.
    """

    body: _Body
    centres: _Centres | None = None
    input: InputSpec = InputSpec()
    measured: _Measured = _Measured()
    training: str | None = None
    terms: str | None = None


def import_teacher(
    weights: str | Path,
    out: str | Path,
    *,
    description: str | Path | None = None,
    layout: str | None = None,
    key: str | None = None,
    head_scale: float | None = None,
    head_margin: float | None = None,
    labels: str | None = None,
    num_identities: int | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Reads a teacher's weights strictly and writes them as a teacher bundle in float32.

    Args:
        weights: a checkpoint that `facekd.models.checkpoint.read_checkpoint` opens.
        out: the bundle's folder.
        description: a JSON file like swin_teacher.json: body class and arguments, input, centres.
        layout: a name of `LAYOUTS` instead of a description: the structure is then read off the weights' shapes.
        key: of the weights in a file that holds several, as `read_checkpoint` takes it.
        head_scale: s of the centres' head; default: what the description says.
        head_margin: its cosine margin; default: what the description says.
        labels: fingerprint of the data whose label order the centres have.
        num_identities: of that data; must then be the number of centres.
        name: the bundle's name; default: the weights file's.
        overwrite: replace a bundle at `out`.

    Raises:
        UsageError: a path, description or layout is not valid.
        FacekdError: the weights do not fit.
    """
    weights = Path(weights)
    if (description is None) == (layout is None):
        raise UsageError(f"give either a description or a layout (valid: {', '.join(LAYOUTS)})")
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}; valid: {', '.join(LAYOUTS)}")
    facts = _read_description(Path(description)) if description is not None else None
    state = dict(read_checkpoint(weights, key).tensors)
    centres = _take_centres(state, facts, weights)
    if facts is not None:
        architecture, arguments = _architecture(facts, state, weights)
    else:
        architecture, arguments, state = LAYOUTS[str(layout)](state, weights)
    model = create_model(architecture, **arguments)
    load_strictly(model, state, source=weights)
    if not isinstance(model, TransformerTeacher):
        raise UsageError(f"{architecture} is not a teacher")
    head = None
    if centres is None and (labels is not None or num_identities is not None):
        raise UsageError(f"{weights} comes without class centres, so there is no label order to name")
    if centres is not None and facts is not None and facts.centres is not None:
        if num_identities not in (None, len(centres)):
            raise UsageError(
                f"{weights} has {len(centres)} class centres, the labelled data {num_identities} identities"
            )
        scale, margin = _head_numbers(facts.centres.meaning, head_scale, head_margin)
        head = HeadCard(
            name="cosface", arguments={"margin": margin, "scale": scale}, num_identities=len(centres), labels=labels
        )
    card = describe(
        model,
        kind="teacher",
        name=name or weights.stem,
        architecture=architecture,
        arguments=arguments,
        input_spec=facts.input if facts is not None else InputSpec(size=model.image_size),
        training={"imported_from": weights.name},
        metrics=_metrics(facts) if facts is not None else [],
        head=head,
        notes=_notes(facts) if facts is not None else f"Imported from the {layout} layout.",
    )
    return save_bundle(out, model, card, head_centres=centres, overwrite=overwrite)


def arcface_vit_layout(
    state: dict[str, torch.Tensor], source: Path
) -> tuple[str, dict[str, Any], dict[str, torch.Tensor]]:
    """arcface_torch's ViT: no class token, 8 heads, ReLU6 MLP, head Flatten, Linear, BN, Linear, BN.

    The structure is read off the shapes; the keys become `vit_teacher`'s: `feature.<k>` is the neck without its
    leading Flatten, all else is the body as timm names it. `mask_token` serves masked training only and is dropped.

    Returns:
        architecture name, its arguments, and the renamed state dict.

    Raises:
        FacekdError: the weights have another layout.
    """
    needed = (
        "patch_embed.proj.weight",
        "pos_embed",
        "blocks.0.attn.qkv.weight",
        "blocks.0.mlp.fc1.weight",
        "feature.2.weight",
    )
    missing = [key for key in needed if key not in state]
    if missing:
        raise FacekdError(
            f"{source} is not an arcface_torch ViT checkpoint: it has no {missing[0]}; its keys begin with "
            f"{', '.join(list(state)[:3])}"
        )
    if "blocks.0.norm1.bn.weight" in state:
        raise FacekdError(
            f"{source} normalises tokens by batch norm; only arcface_torch's LayerNorm ViTs are supported"
        )
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    tokens, image = state["pos_embed"].shape[1], 112
    if (image // patch) ** 2 != tokens:
        raise FacekdError(f"{source}: patch {patch} gives {(image // patch) ** 2} tokens at 112x112, not {tokens}")
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    arguments = {
        "img_size": image,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": 8,
        "mlp_ratio": state["blocks.0.mlp.fc1.weight"].shape[0] / width,
        "qkv_bias": "blocks.0.attn.qkv.bias" in state,
        "mlp_activation": "relu6",
        "norm_eps": 1e-5,
        "embedding_width": state["feature.2.weight"].shape[0],
        "neck": "arcface_vit",
    }
    renamed = {}
    for key, value in state.items():
        if key == "mask_token":
            continue
        match = re.fullmatch(r"feature\.(\d+)\.(.+)", key)
        renamed[f"neck.{int(match[1]) + 1}.{match[2]}" if match else f"body.{key}"] = value
    return "vit_teacher", arguments, renamed


# name -> function(state, source) that gives the architecture, its arguments and the renamed state.
LAYOUTS: dict[str, Callable[[dict[str, torch.Tensor], Path], tuple[str, dict[str, Any], dict[str, torch.Tensor]]]] = {
    "arcface-vit": arcface_vit_layout
}


def _read_description(path: Path) -> Description:
    if not path.is_file():
        raise UsageError(f"no description at {path}: give the .json that came with the weights")
    try:
        facts = Description.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UsageError(f"{path} does not describe a teacher: {explain(error, Description)}") from error
    if facts.body.timm_class not in _BODIES:
        raise UsageError(f"{path}: body.class {facts.body.timm_class!r} is unknown; valid: {', '.join(_BODIES)}")
    for key, value in (("num_classes", 0), ("global_pool", "")):
        if facts.body.arguments.pop(key, value) != value:
            raise UsageError(f"{path}: body.arguments.{key} must be {value!r}, so that the body yields its token grid")
    return facts


def _architecture(facts: Description, state: dict[str, torch.Tensor], source: Path) -> tuple[str, dict[str, Any]]:
    neck = state.get("neck.1.weight")
    if neck is None:
        raise FacekdError(f"{source} are not a teacher's weights: there is no neck.1.weight, which makes the embedding")
    return _BODIES[facts.body.timm_class], facts.body.arguments | {"embedding_width": neck.shape[0]}


def _take_centres(state: dict[str, torch.Tensor], facts: Description | None, source: Path) -> torch.Tensor | None:
    if facts is None or facts.centres is None:
        return None
    if facts.centres.key not in state:
        raise FacekdError(f"{source} has no {facts.centres.key!r}, which the description names as the class centres")
    return state.pop(facts.centres.key).float()


def _head_numbers(meaning: str, scale: float | None, margin: float | None) -> tuple[float, float]:
    """Scale and cosine margin: as given, else from the words "scale 32, cosine margin 0.2" of the description."""
    said = re.search(r"scale ([\d.]*\d), cosine margin ([\d.]*\d)", meaning)
    if said:
        scale = float(said[1]) if scale is None else scale
        margin = float(said[2]) if margin is None else margin
    if scale is None or margin is None:
        raise UsageError(
            "the description does not say the head's scale and margin: give --head-scale and --head-margin"
        )
    return scale, margin


def _metrics(facts: Description) -> list[Metric]:
    measured = facts.measured
    if measured.lfw_10_fold_accuracy is None:
        return []
    return [
        Metric(
            dataset="lfw",
            protocol=f"as its description states: {measured.protocol}",
            name="accuracy",
            value=measured.lfw_10_fold_accuracy,
            std=measured.lfw_std,
        )
    ]


def _notes(facts: Description) -> str:
    lines = [f"{key}: {value}" for key in ("training", "terms") if (value := getattr(facts, key))]
    if facts.centres is not None and facts.centres.meaning:
        lines.append(f"centres: {facts.centres.meaning}")
    return "\n\n".join(lines) or "Imported by its description."
