"""Recipes written from four answers: which faces, which teacher, which phone, how long. Plain YAML, commented.

Rates and margins are those of the field's public recipes: SGD of 0.02 for each 128 images for CNNs, AdamW with weight
decay 0.1 for ViTs, ArcFace 0.5 on MS1M, CosFace 0.4 on larger sets, scale 64 (arcface_torch's configurations). For
short runs, facekd's choice, as in its celeba recipes.
"""

import json
from dataclasses import dataclass
from typing import Literal

from facekd.common.yaml_text import InvalidYaml, parse_yaml

Teacher = Literal["none", "transformer", "cnn", "embeddings", "train-vit-b", "train-ir50"]
Phone = Literal["fast", "balanced", "accurate"]
Length = Literal["short", "full"]


@dataclass(frozen=True)
class KnownFaces:
    """A training set of the field.

    Attributes:
        title: as it is called.
        identities, images: as published.
        margin: the head that the field trains it with: name and margin.
    """

    title: str
    identities: int
    images: int
    margin: tuple[str, float]


KNOWN: dict[str, KnownFaces] = {
    "ms1mv2": KnownFaces("MS1MV2", 85_742, 5_822_653, ("arcface", 0.5)),
    "ms1mv3": KnownFaces("MS1MV3", 93_431, 5_179_510, ("arcface", 0.5)),
    "glint360k": KnownFaces("Glint360K", 360_232, 17_091_657, ("cosface", 0.4)),
    "webface4m": KnownFaces("WebFace4M", 205_990, 4_235_242, ("cosface", 0.4)),
    "webface12m": KnownFaces("WebFace12M", 617_970, 12_720_066, ("cosface", 0.4)),
}
"""By the name that stands for it."""

PHONES: dict[Phone, tuple[str, str]] = {
    "fast": ("{activation: relu, scale: 0.5, mid_multiplier: 0.42}", "51 MMACs"),
    "balanced": ("{activation: relu}", "1.2M parameters, 221 MMACs"),
    "accurate": ("{activation: relu, scale: 2}", "2.1M parameters, 438 MMACs"),
}
"""Arguments of MobileFaceNet, and its cost."""

MANY_IDENTITIES = 500_000
"""From here a step's softmax looks at a sample of the identities (Partial FC)."""

SHORT_STEPS, SHORT_BATCH = 600, 32
FULL_BATCH = 128


@dataclass(frozen=True)
class Answers:
    """What a recipe is written from.

    Attributes:
        name: of the recipe.
        source: the faces, as `data.source` has them.
        identities, images: how many; 0 identities where the faces have none.
        teacher: none, the kind of the teacher at `teacher_path`, or one that is trained first.
        teacher_path: bundle or model file; where the trained teacher will be.
        margin: name and margin of the head.
        phone: how large the student is.
        length: short: a try on a CPU; full: 20 epochs on GPUs.
        gpus: 0 for a CPU.
        dev, report: pairs to choose the checkpoint on and to report on; None leaves them out.
    """

    name: str
    source: str
    identities: int
    images: int
    teacher: Teacher
    teacher_path: str
    margin: tuple[str, float]
    phone: Phone
    length: Length
    gpus: int
    dev: str | None = None
    report: str | None = None


def student_recipe(answers: Answers) -> str:
    """The student's recipe as YAML."""
    arguments, cost = PHONES[answers.phone]
    lines = [
        f"# A student for phones, learning from {_teacher_in_words(answers)}.",
        "# Written by facekd init; every field is in docs/recipes.md.",
        f"name: {_scalar(answers.name)}",
        *_data(answers, augment=False),
        "model:",
        f"  name: mobilefacenet  # {cost}",
        f"  arguments: {arguments}  # ReLU trains and deploys faster than PReLU",
        *_head(answers, weight=_student_head_weight(answers)),
    ]
    if answers.teacher != "none":
        lines += ["teacher:", f"  bundle: {_scalar(answers.teacher_path)}", "distillation:", *_distillation(answers)]
    return (
        "\n".join([*lines, *_optimisation(answers, vit=False), *_training(answers, vit=False), *_evaluation(answers)])
        + "\n"
    )


def teacher_recipe(answers: Answers) -> str | None:
    """The recipe of the teacher that is to be trained first; None where there is one, or none is wanted."""
    if answers.teacher not in ("train-vit-b", "train-ir50"):
        return None
    vit = answers.teacher == "train-vit-b"
    model = (
        ["  name: vit_teacher  # ViT-B of 12x12 tokens: 114M parameters",
         "  arguments: {patch_size: 9, embed_dim: 512, depth: 24, num_heads: 8, embedding_width: 512}"]
        if vit
        else ["  name: iresnet50  # IR-50: 43.6M parameters, 6,309 MMACs"]
    )  # fmt: skip
    lines = [
        f"# The teacher of {answers.name}: train it first. Written by facekd init; every field is in docs/recipes.md.",
        f"name: {_scalar(answers.name + '-teacher')}",
        "role: teacher  # its class centres are kept: some methods teach by them",
        *_data(answers, augment=vit),
        "model:",
        *model,
        *_head(answers, weight=1.0),
        *_optimisation(answers, vit=vit),
        *_training(answers, vit=vit),
        *_evaluation(answers),
    ]
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    """A text as YAML, in quotes where it would be read as something else, in a list too."""
    try:
        plain = parse_yaml(f"[{text}]") == [text]
    except InvalidYaml:
        plain = False
    return text if plain else json.dumps(text, ensure_ascii=False)


def _teacher_in_words(answers: Answers) -> str:
    return {
        "none": "its labels alone",
        "embeddings": f"the embeddings of {answers.teacher_path}",
        "train-vit-b": "a ViT-B trained on the same faces",
        "train-ir50": "an IR-50 trained on the same faces",
    }.get(answers.teacher, answers.teacher_path)


def _data(answers: Answers, *, augment: bool) -> list[str]:
    counts = f"{answers.images:,} faces"
    counts += f" of {answers.identities:,} identities" if answers.identities else ", no identities"
    lines = ["data:", f"  source: {_scalar(answers.source)}  # {counts}", f"  workers: {4 if answers.gpus else 1}"]
    if augment:
        lines += [
            "  augmentation:  # a Transformer needs more of it than a CNN",
            "    flip: 0.5",
            "    affine: {probability: 0.2}",
            "    low_resolution: {probability: 0.2}",
        ]
    return lines


def _student_head_weight(answers: Answers) -> float:
    if not answers.identities:
        return 0.0
    # In a short run each identity is met a few times: the teacher says more.
    return 0.1 if answers.length == "short" and answers.teacher != "none" else 1.0


def _head(answers: Answers, *, weight: float) -> list[str]:
    if weight == 0:
        return ["head:", "  weight: 0  # no identities: the teacher's embeddings are all there is to learn from"]
    name, margin = answers.margin
    scale = 32 if answers.length == "short" else 64
    lines = ["head:", f"  name: {name}", f"  arguments: {{scale: {scale}, margin: {margin}}}"]
    if weight != 1:
        lines.append(f"  weight: {weight}  # each identity is met a few times only: the teacher says more")
    if answers.identities >= MANY_IDENTITIES:
        lines.append("  sample_rate: 0.3  # Partial FC: a step looks at its own identities and a sample of the others")
    return lines


def _distillation(answers: Answers) -> list[str]:
    lines = ["  - embedding: {weight: 10}  # the student's embedding follows the teacher's"]
    if answers.teacher == "embeddings":
        return lines  # a model file gives embeddings alone
    lines += [
        "  - urfm:  # local features of both on unified places of the face",
        "      position: relative",
        "      width: 256",
        "      heads: 4",
        "      centre_spread: 0.4",
        "      read_out: neck",
        "      feature_weight: 2",
        "      adaptation_weight: 0.02",
        "      anchor_weight: 10",
        "      relay_weight: 10",
    ]
    if answers.teacher in ("transformer", "train-vit-b"):
        lines.append("  - apt: {prompts: 5, keep: embedding, interval: 2}  # the teacher adapts by prompts")
    return lines


def _optimisation(answers: Answers, *, vit: bool) -> list[str]:
    if answers.length == "short":
        return [
            "optimisation:",
            "  optimiser: adamw  # reaches further than SGD in a few hundred steps",
            "  lr: 2.0e-3",
            "  weight_decay: 0.05",
            "  decay_norms: false",
            "  warmup: 0.05",
        ]
    if vit:
        return [
            "optimisation:",
            "  optimiser: adamw",
            "  lr: 1.0e-3",
            "  weight_decay: 0.1",
            "  decay_norms: false",
            "  warmup: 0.1  # 4 of 40 epochs",
        ]
    rate = min(0.02 * max(1, answers.gpus), 0.1)
    return [
        "optimisation:",
        "  optimiser: sgd",
        f"  lr: {rate:g}  # 0.02 for each {FULL_BATCH} images, at most 0.1",
        "  weight_decay: 1.0e-4" if answers.teacher != "train-ir50" else "  weight_decay: 5.0e-4",
        "  schedule: polynomial",
    ]


def _training(answers: Answers, *, vit: bool) -> list[str]:
    if answers.length == "short":
        return [
            "training:",
            f"  max_steps: {SHORT_STEPS}  # a try on a CPU; facekd init --length full writes the whole run",
            f"  batch_size: {SHORT_BATCH}",
            "  channels_last: true",
            f"  evaluate_every: {SHORT_STEPS // 2}",
            "  checkpoint_every: 100",
        ]
    gpus = max(1, answers.gpus)
    return [
        "training:",
        f"  epochs: {40 if vit else 20}",
        f"  batch_size: {FULL_BATCH * gpus}  # over all {gpus} GPUs" if gpus > 1 else f"  batch_size: {FULL_BATCH}",
        "  precision: bf16" if answers.gpus else "  precision: auto",
        "  channels_last: auto" if vit else "  channels_last: true",
        "  log_every: 100",
        "  checkpoint_every: 1000",
    ]


def _evaluation(answers: Answers) -> list[str]:
    lines = []
    if answers.dev is not None:
        lines.append(f"  dev: {_scalar(answers.dev)}  # the checkpoint is chosen here")
    if answers.report is not None:
        lines.append(f"  report: [{_scalar(answers.report)}]  # and reported here, once")
    return ["evaluation:", *lines] if lines else []
