"""The sections of a recipe: every field with its meaning, default and range."""

import json
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from facekd.common.hashing import text_sha256
from facekd.common.trust import NamesCode
from facekd.common.validation import StrictSchema, shown
from facekd.recipe.augmentation import AugmentationConfig
from facekd.recipe.methods import Entry, entries_of, find_teacher, normalised
from facekd.schemas.input_spec import StatedInput


class Section(StrictSchema):
    """A part of the recipe: unknown fields are errors, values are checked."""

    model_config = ConfigDict(validate_assignment=True)


MAX_BATCH = 2**17
"""Images of one forward, over all ranks: 1024 ranks of 128."""


def check_name(name: str) -> str:
    """A name that may become a file's or a folder's. Raises ValueError."""
    if not 0 < len(name) <= 200 or not name.isprintable() or name.startswith(".") or set("/\\") & set(name):
        raise ValueError(f"{shown(name)} is no name: up to 200 characters, no / or \\, no dot at the beginning")
    return name


class DataConfig(Section):
    """Training faces.

    Attributes:
        source: .rec file or its folder, an image folder, or `synthetic:identities=64,images=20,seed=0`.
        max_identities: keep the first so many identities; None keeps all.
        max_images_per_identity: keep the first so many images of each; None keeps all.
        min_images_per_identity: leave out identities with fewer images.
        images_per_identity: order each epoch so that a batch is groups of so many images of one identity, see
            `facekd.data.sampling.IdentityGroups`; None draws every image by itself.
        workers: loader processes; 0 loads in the training process.
    """

    source: str
    max_identities: int | None = Field(default=None, ge=2)
    max_images_per_identity: int | None = Field(default=None, ge=1)
    min_images_per_identity: int = Field(default=1, ge=1)
    images_per_identity: int | None = Field(default=None, ge=2, le=MAX_BATCH)
    workers: int = Field(default=2, ge=0, le=512)
    augmentation: AugmentationConfig = AugmentationConfig()


class ModelConfig(Section):
    """The network that is trained.

    Attributes:
        name: a registered name, `timm/NAME`, `torchvision/NAME` or a trusted path `package.module:function`.
        arguments: of its function.
        weights: what it starts from: a bundle, a timm or torchvision file, any checkpoint of this network; the head
            that makes the embedding may be missing in it. None starts at random.
    """

    name: Annotated[str, NamesCode()] = "mobilefacenet"
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None

    @model_serializer(mode="wrap")
    def _without_weights(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out weights that are not given, so that such a recipe keeps its hash."""
        return {name: value for name, value in dump(self).items() if name != "weights" or value is not None}


class HeadConfig(Section):
    """Margin softmax over the training identities.

    Attributes:
        name: a registered head (arcface, cosface, combined, adaface).
        arguments: its margin, scale...
        weight: weight of the identity loss in the total; 0 leaves the head out.
        init: `random`, or `teacher`: the student's centres start at the teacher head's centres (same label order only).
        freeze: the centres stay where they start: with `init: teacher` the student learns to be classified by the
            teacher's own head, as in ProxylessKD.
        sample_rate: share of the identities that a step's softmax looks at: those of the batch, and others drawn at
            random (Partial FC). 1 looks at all.
    """

    name: str = "arcface"
    arguments: dict[str, Any] = Field(default_factory=dict)
    weight: float = Field(default=1.0, ge=0)
    init: Literal["random", "teacher"] = "random"
    freeze: bool = False
    sample_rate: float = Field(default=1.0, gt=0, le=1)


class TeacherConfig(Section, StatedInput):
    """The teacher. Colour, mean, std, layout and output are of a model file that does not state its own.

    Attributes:
        bundle: where it is: a bundle of a Transformer or a CNN, a model file such as .onnx or an exported artefact
            (embeddings only), or whatever the named kind of teacher opens.
        name: the kind of teacher, as registered, or a trusted path `package.module:Class`; None: the kind that fits
            what lies there.
        arguments: settings of the named kind.
        trust_input: train with the teacher as it is fed, without the check on the training faces that another colour
            order or normalisation does not separate people clearly better.
        cache: folder of its stored outputs, as `facekd teacher cache` writes it: the teacher is not run again.
    """

    bundle: str
    name: Annotated[str | None, NamesCode()] = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    trust_input: bool = False
    cache: str | None = None

    @model_validator(mode="after")
    def _arguments_have_a_name(self) -> "TeacherConfig":
        if self.arguments and self.name is None:
            raise ValueError("teacher.arguments are those of a named kind of teacher: give teacher.name")
        return self

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves out what is not said, so that a recipe that names no kind keeps its hash."""
        return {name: value for name, value in dump(self).items() if name == "bundle" or value}


class OptimisationConfig(Section):
    """Optimisers and schedule.

    Attributes:
        optimiser: of the trained network and its head.
        lr: peak learning rate of the trained network and its head.
        auxiliary_lr: peak rate of what learns beside the student (AdamW): what a teacher learns, URFM and other modules
            of the training only [method.md].
        weight_decay: of the network's weights and centres.
        decay_norms: also decay BN weights, biases and PReLU slopes.
        warmup: share of all steps spent warming up linearly from 0, below 1.
        schedule: what follows the warm-up, down to 0; `polynomial` has power 2.
        clip_norm: gradients are clipped to this global norm; None never clips.
    """

    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(default=0.1, gt=0)
    auxiliary_lr: float = Field(default=1e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0)
    auxiliary_weight_decay: float = Field(default=1e-2, ge=0)
    decay_norms: bool = True
    warmup: float = Field(default=0.05, ge=0, lt=1)
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    clip_norm: float | None = Field(default=5.0, gt=0)


class TrainingConfig(Section):
    """The loop's settings.

    Attributes:
        epochs: passes over the data; a fraction is allowed.
        max_steps: stop after so many optimiser steps (the schedule ends there too).
        max_minutes: stop when the budget is spent; the state is saved and `--resume` goes on.
        batch_size: images of one forward, over all ranks; times `accumulation` they make one optimiser step.
        precision: of the forward and backward under autocast; `auto` measures and takes the fastest on this machine.
        channels_last: NHWC memory; `auto` measures with the precision.
        ema: decay of the exponential moving average of the network, None for none; it is what is evaluated and saved.
        log_every, evaluate_every, checkpoint_every: in optimiser steps; `evaluate_every: null` means once an epoch.
        threads: CPU threads; None leaves torch's choice.
    """

    epochs: float = Field(default=20.0, gt=0, le=1e6)
    max_steps: int | None = Field(default=None, ge=1, le=10**12)
    max_minutes: float | None = Field(default=None, gt=0, le=1e7)
    batch_size: int = Field(default=128, ge=2, le=MAX_BATCH)
    accumulation: int = Field(default=1, ge=1, le=4096)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1, le=1024)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    keep_last: int = Field(default=2, ge=1)


class EvaluationConfig(Section):
    """Verification during and after training.

    Attributes:
        dev: pairs on which the best checkpoint is chosen (.bin, or `synthetic:...`); None keeps the last.
        report: pairs evaluated once, at the end, with the chosen checkpoint.
        teacher: also evaluate a teacher that learns on the dev pairs, each time and at the end.
    """

    dev: str | None = None
    report: list[str] = Field(default_factory=list)
    teacher: bool = True


class Recipe(Section):
    """A complete run. `role` says what the bundle it ends in is: a student, or a teacher with its head's centres."""

    name: Annotated[str, AfterValidator(check_name)]
    role: Literal["student", "teacher"] = "student"
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    teacher: TeacherConfig | None = None
    distillation: Annotated[list[dict[str, dict[str, Any]]], NamesCode()] = Field(default_factory=list)
    optimisation: OptimisationConfig = OptimisationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("distillation", mode="before")
    @classmethod
    def _one_name_an_entry(cls, given: Any, info: ValidationInfo) -> Any:
        """Accepts `- urfm` and `- urfm:` for `- urfm: {}`, and checks every name and its settings."""
        entries = normalised(given)
        entries_of(entries, wanted_by=(info.context or {}).get("wanted_by"))
        return entries

    @field_validator("teacher", mode="after")
    @classmethod
    def _teacher_is_known(cls, teacher: TeacherConfig | None, info: ValidationInfo) -> TeacherConfig | None:
        if teacher is not None and teacher.name is not None:
            find_teacher(teacher.name, teacher.arguments, wanted_by=(info.context or {}).get("wanted_by"))
        return teacher

    @model_validator(mode="after")
    def _one_teacher(self) -> "Recipe":
        names = [entry.name for entry in self.entries() if entry.method.teaches == "teacher"]
        if len(names) > 1:
            raise ValueError(f"distillation names {' and '.join(names)}, each of which is a way to teach: keep one")
        if names and self.teacher is not None and self.teacher.name is not None:
            raise ValueError(f"{names[0]} in distillation says what the teacher is: leave teacher.name out")
        if names and self.teacher is not None and self.teacher.cache is not None:
            raise ValueError(
                f"{names[0]} changes the teacher while it teaches, so outputs that were stored before are not its own: "
                f"leave {names[0]} or teacher.cache out"
            )
        return self

    @model_validator(mode="after")
    def _something_trains_the_student(self) -> "Recipe":
        entries = self.entries()
        if self.head.weight == 0 and all(entry.method.teaches == "teacher" for entry in entries):
            names = ", ".join(entry.name for entry in entries)
            found = f"only {names}, which teaches the teacher" if entries else "empty"
            raise ValueError(f"nothing to learn from: head.weight is 0 and distillation is {found}")
        return self

    @model_validator(mode="after")
    def _groups_fill_the_batch(self) -> "Recipe":
        size, batch = self.data.images_per_identity, self.training.batch_size
        if size is not None and batch % size:
            raise ValueError(f"training.batch_size {batch} is not a multiple of data.images_per_identity {size}")
        return self

    def entries(self) -> list[Entry]:
        """The entries of `distillation`, each with the class it names and its checked settings."""
        return entries_of(self.distillation)

    def hash(self) -> str:
        """sha256 of the recipe's canonical JSON: equal hashes mean equal runs on equal data."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return text_sha256(text)
