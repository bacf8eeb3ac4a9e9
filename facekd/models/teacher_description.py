"""The JSON beside a teacher's weights, such as swin_teacher.json: what the weights do not say."""

import re
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, Field, ValidationError

from facekd.common.errors import FacekdError, UsageError
from facekd.common.validation import explain
from facekd.models.checkpoint import Tensors
from facekd.models.layouts.base import Centres, Imported
from facekd.schemas.card import Metric
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


def described(facts: Description, tensors: Tensors, source: Path) -> Imported:
    """The network that a description states, with its weights and class centres.

    Raises:
        FacekdError: the weights are not what it describes.
    """
    state = dict(tensors)
    centres = _take_centres(state, facts, source)
    architecture, arguments = _architecture(facts, state, source)
    head = Centres(centres, "cosface", _head_numbers(facts.centres)) if centres is not None and facts.centres else None
    return Imported(architecture, arguments, state, facts.input, head)


def read_description(path: Path) -> Description:
    """Reads and checks a description.

    Raises:
        UsageError: there is none, or it is not valid.
    """
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


def _head_numbers(centres: _Centres) -> dict[str, float]:
    """Scale and cosine margin from the words "scale 32, cosine margin 0.2"; nothing where they are not said."""
    said = re.search(r"scale ([\d.]*\d), cosine margin ([\d.]*\d)", centres.meaning)
    return {"scale": float(said[1]), "margin": float(said[2])} if said else {}


def stated_metrics(facts: Description) -> list[Metric]:
    """The accuracies that its authors state."""
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


def stated_notes(facts: Description) -> str:
    """What it says for people."""
    lines = [f"{key}: {value}" for key in ("training", "terms") if (value := getattr(facts, key))]
    if facts.centres is not None and facts.centres.meaning:
        lines.append(f"centres: {facts.centres.meaning}")
    return "\n\n".join(lines) or "Imported by its description."
