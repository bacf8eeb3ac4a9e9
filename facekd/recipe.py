"""The recipe: what to train on what, and how. Recipe + seed + data = the run.

Read from YAML (`load_recipe`), overridden by `a.b=c` strings (`--set`). A mistake is one line that names the field,
the value given and what is valid.
"""

import difflib
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from facekd.common.errors import UsageError
from facekd.common.hashing import text_sha256
from facekd.common.trust import NamesCode, check_all_trusted
from facekd.data.augmentation import AugmentationConfig


class Section(BaseModel):
    """A part of the recipe: unknown fields are errors, values are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


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
    images_per_identity: int | None = Field(default=None, ge=2)
    workers: int = Field(default=2, ge=0)
    augmentation: AugmentationConfig = AugmentationConfig()


class ModelConfig(Section):
    """The network that is trained: a registered name, `timm/NAME` or a trusted path `package.module:function`."""

    name: Annotated[str, NamesCode()] = "mobilefacenet"
    arguments: dict[str, Any] = {}


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
    arguments: dict[str, Any] = {}
    weight: float = Field(default=1.0, ge=0)
    init: Literal["random", "teacher"] = "random"
    freeze: bool = False
    sample_rate: float = Field(default=1.0, gt=0, le=1)


class TeacherConfig(Section):
    """The frozen teacher: a bundle of a Transformer or a CNN (no prompts), or an ONNX face model (embeddings only)."""

    bundle: str


class OptimisationConfig(Section):
    """Optimisers and schedule.

    Attributes:
        optimiser: of the trained network and its head.
        lr: peak learning rate of the trained network and its head.
        auxiliary_lr: peak rate of prompts, URFM and other training-only modules (AdamW) [method.md].
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

    epochs: float = Field(default=20.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    max_minutes: float | None = Field(default=None, gt=0)
    batch_size: int = Field(default=128, ge=2)
    accumulation: int = Field(default=1, ge=1)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    ema: float | None = Field(default=None, gt=0, lt=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int | None = Field(default=None, ge=1)
    log_every: int = Field(default=20, ge=1)
    evaluate_every: int | None = Field(default=None, ge=1)
    checkpoint_every: int = Field(default=200, ge=1)
    keep_last: int = Field(default=2, ge=1)


class EvaluationConfig(Section):
    """Verification during and after training.

    Attributes:
        dev: pairs on which the best checkpoint is chosen (.bin, or `synthetic:...`); None keeps the last.
        report: pairs evaluated once, at the end, with the chosen checkpoint.
        teacher: also evaluate the prompted teacher on the dev pairs, each time and at the end.
    """

    dev: str | None = None
    report: list[str] = []
    teacher: bool = True


class Recipe(Section):
    """A complete run. `role` says what the bundle it ends in is: a student, or a teacher with its head's centres."""

    name: str
    role: Literal["student", "teacher"] = "student"
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    model: ModelConfig = ModelConfig()
    head: HeadConfig = HeadConfig()
    teacher: TeacherConfig | None = None
    distillation: list[dict[str, dict[str, Any]]] = []
    optimisation: OptimisationConfig = OptimisationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @field_validator("distillation", mode="before")
    @classmethod
    def _one_name_an_entry(cls, terms: Any) -> Any:
        """Accepts `- urfm` and `- urfm:` for `- urfm: {}`, and checks every name and its settings."""
        from facekd.distillation.registry import check_term

        if not isinstance(terms, list):
            raise ValueError("is a list of methods, for example [{urfm: {}}, {apt: {prompts: 5}}]")
        normalised = []
        for term in terms:
            entry = {term: {}} if isinstance(term, str) else term
            if not isinstance(entry, dict) or len(entry) != 1:
                raise ValueError(f"each entry is one method with its settings, got {term!r}")
            name, settings = next(iter(entry.items()))
            check_term(name, settings or {})
            normalised.append({name: settings or {}})
        names = [next(iter(term)) for term in normalised]
        if len(set(names)) != len(names):
            raise ValueError(f"each method at most once, got {names}")
        return normalised

    @model_validator(mode="after")
    def _something_trains_the_student(self) -> "Recipe":
        terms = {name for entry in self.distillation for name in entry}
        if self.head.weight == 0 and terms <= {"apt"}:
            found = "only apt, which teaches the teacher" if terms else "empty"
            raise ValueError(f"nothing to learn from: head.weight is 0 and distillation is {found}")
        return self

    @model_validator(mode="after")
    def _groups_fill_the_batch(self) -> "Recipe":
        size, batch = self.data.images_per_identity, self.training.batch_size
        if size is not None and batch % size:
            raise ValueError(f"training.batch_size {batch} is not a multiple of data.images_per_identity {size}")
        return self

    def hash(self) -> str:
        """sha256 of the recipe's canonical JSON: equal hashes mean equal runs on equal data."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return text_sha256(text)


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with facekd, by name."""
    folder = Path(str(resources.files("facekd.recipes")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe.

    Args:
        path: a YAML file, or the name of a shipped recipe (`quickstart-distilled`).
        overrides: `a.b=value` strings; the value is YAML. A method in `distillation` is addressed by its name:
            `distillation.urfm.local_centres=16`.

    Raises:
        UsageError: no such recipe, not YAML, an unknown field, a value that is not valid, or code named by it that is
            not trusted.
    """
    path, content = read_yaml(path, kind="recipe", shipped=shipped_recipes, fields="data:, model:")
    for override in overrides:
        _override(content, override)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"recipe {path}: {_explain(error)}") from error
    check_all_trusted(recipe, wanted_by=f"recipe {path}")
    return recipe


def read_yaml(
    path: str | Path, *, kind: str, shipped: Callable[[], dict[str, Path]], fields: str
) -> tuple[Path, dict[str, Any]]:
    """A YAML file of fields, by path or by the name of a shipped one: where it lies and what it holds.

    Args:
        kind: what the file is called in errors.
        shipped: the shipped ones by name.
        fields: examples of fields, for the error where there are none.

    Raises:
        UsageError: no such file, not YAML, or no fields.
    """
    path = Path(path)
    if not path.is_file():
        known = shipped()
        if str(path) not in known:
            raise UsageError(f"no {kind} {str(path)!r}: give a YAML file or one of {', '.join(known)}")
        path = known[str(path)]
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # RecursionError: a thousand open brackets. ValueError: bytes that are no text, a number of a million digits.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{kind} {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{kind} {path} holds {type(content).__name__}, expected fields such as {fields}")
    return path, content


def _override(content: dict[str, Any], override: str) -> None:
    """Applies one `a.b=value` to the plain content."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {override!r}: expected field.subfield=value, for example training.epochs=5")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override!r}: the value is not YAML") from error
    place: Any = content
    for position, key in enumerate(keys):
        last = position == len(keys) - 1
        if isinstance(place, list):
            place = _list_entry(place, key, override)
            if last:
                place.clear()
                place.update({key: value})
            else:
                place[key] = place.get(key) or {}
                place = place[key]
        elif isinstance(place, dict):
            if last:
                place[key] = value
            else:
                if place.get(key) is None:
                    place[key] = [] if key == "distillation" and position == 0 else {}
                place = place[key]
        else:
            raise UsageError(f"--set {override!r}: {'.'.join(keys[:position])} is a value, it has no field {key!r}")


def _list_entry(entries: list[Any], name: str, override: str) -> dict[str, Any]:
    """The entry of a distillation list that carries method `name`, added when missing."""
    for index, entry in enumerate(entries):
        if entry == name:
            entries[index] = {name: {}}
            return entries[index]
        if isinstance(entry, dict) and name in entry:
            return entry
    if name.isdigit():
        raise UsageError(f"--set {override!r}: address a method by its name, for example distillation.urfm.heads=4")
    entries.append({name: {}})
    return entries[-1]


def _explain(error: ValidationError) -> str:
    """The first mistake as one line: field, value, what is valid."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("bool", "literal['auto']"))
    if first["type"] == "extra_forbidden":
        valid = _fields_beside(first["loc"])
        close = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1)
        hint = f", did you mean {close[0]!r}?" if close else ""
        return f"unknown field {field!r}{hint} Valid here: {', '.join(valid)}"
    if first["type"] == "missing":
        return f"field {field!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{field + ': ' if field else ''}{message}"
    return f"{field} = {first['input']!r}: {message[0].lower() + message[1:]}"


def _fields_beside(location: tuple[int | str, ...]) -> list[str]:
    """Names of the fields that the section holding `location` has."""
    section: Any = Recipe
    for part in location[:-1]:
        annotation = section.model_fields[part].annotation if part in getattr(section, "model_fields", {}) else None
        choices = [annotation, *getattr(annotation, "__args__", ())]
        section = next((kind for kind in choices if isinstance(kind, type) and issubclass(kind, BaseModel)), section)
    return sorted(section.model_fields)
