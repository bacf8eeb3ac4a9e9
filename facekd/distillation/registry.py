"""The distillation terms by name. A term is one module with one file; adding one touches that file and its test."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import nn

from facekd.common.errors import UsageError
from facekd.heads import MarginHead


class TermSettings(BaseModel):
    """Base of a term's settings in the recipe: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Shapes:
    """What a term must know of the two networks to build its own layers; teacher fields are None without tokens.

    `identities` is the number of training identities, for terms that classify; 0 where nothing does.
    """

    student_channels: int
    student_grid: tuple[int, int]
    student_embedding: int
    teacher_width: int | None
    teacher_grid: tuple[int, int] | None
    teacher_embedding: int
    identities: int = 0


@dataclass(frozen=True)
class Views:
    """One batch as the two networks see it.

    Attributes:
        student_tokens: the student's tapped map, row-major [b, N_S, c].
        student_embedding: raw embeddings [b, e].
        teacher_tokens: last-stage tokens [b, N_T, d], without prompts; None for a teacher without tokens.
        prompt_tokens: the prompts' last-stage outputs [b, t, d]; None without APT.
        teacher_embedding: raw embeddings [b, e_T] of the (prompted) teacher.
        labels: identities, int64 [b].
        teacher_head: the teacher's frozen neck, tokens [b, N_T, d] -> raw embeddings [b, e_T]; None without tokens.
        student_classifier: the student's margin softmax; None if the recipe leaves it out (head.weight 0).
        teacher_classifier: the teacher's, frozen; only for a term that says `needs_teacher_classifier`.
    """

    student_tokens: torch.Tensor | None
    student_embedding: torch.Tensor
    teacher_tokens: torch.Tensor | None
    prompt_tokens: torch.Tensor | None
    teacher_embedding: torch.Tensor
    labels: torch.Tensor
    teacher_head: Callable[[torch.Tensor], torch.Tensor] | None = None
    student_classifier: MarginHead | None = None
    teacher_classifier: MarginHead | None = None


class Term(nn.Module):
    """A distillation loss. `forward(views)` returns its parts unweighted; `weights` says what each counts in the total.

    Attributes:
        needs_tokens: the term reads feature maps, not embeddings alone.
        needs_teacher_classifier: the term reads the teacher's class centres, which must be of the training identities.
        needs_student_classifier: the term reads the student's own margin softmax, which must not be left out.
        needs_pairs: the term learns from different images of one identity within a batch.
    """

    needs_tokens = False
    needs_teacher_classifier = False
    needs_student_classifier = False
    needs_pairs = False
    weights: Mapping[str, float]

    def forward(self, views: Views) -> dict[str, torch.Tensor]:
        """Views of one batch -> scalar losses by part name."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def diagnostics(self) -> dict[str, float]:
        """Figures worth logging beside the losses, of the last batch."""
        return {}


@dataclass(frozen=True)
class TermEntry:
    """A registered term: settings class and the function that builds the module (None: it acts on the teacher)."""

    name: str
    settings: type[TermSettings]
    build: Callable[[Any, Shapes], Term] | None


_TERMS: dict[str, TermEntry] = {}
# The modules that register terms, imported when a name is first looked up.
_MODULES = (
    "adadistill",
    "cckd",
    "darkrank",
    "ekd",
    "embedding",
    "embedding_l2",
    "fitnet",
    "gkd",
    "kd",
    "margindistillation",
    "ofa",
    "prompting",
    "rkd",
    "shrinkteanet",
    "similarity",
    "tripletdistill",
    "urfm",
)

TermClass = TypeVar("TermClass", bound=type)


def register_term(name: str, settings: type[TermSettings]) -> Callable[[TermClass], TermClass]:
    """Registers the decorated Term class (built as `cls(settings, shapes)`) or, for APT, the teacher's wrapper."""

    def decorate(cls: TermClass) -> TermClass:
        if name in _TERMS:
            raise ValueError(f"distillation term {name!r} is registered twice")
        _TERMS[name] = TermEntry(name, settings, cls if issubclass(cls, Term) else None)
        return cls

    return decorate


def find_term(name: str) -> TermEntry:
    """The registered term.

    Raises:
        UsageError: unknown name.
    """
    for module in _MODULES:
        importlib.import_module(f"facekd.distillation.{module}")
    if name not in _TERMS:
        close = difflib.get_close_matches(name, _TERMS, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise UsageError(f"unknown distillation method {name!r}{hint}; valid: {', '.join(sorted(_TERMS))}")
    return _TERMS[name]


def check_term(name: str, settings: dict[str, Any]) -> TermSettings:
    """The settings of term `name`, checked.

    Raises:
        UsageError: unknown term, unknown setting or a value that is not valid.
    """
    entry = find_term(name)
    try:
        return entry.settings.model_validate(settings)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            valid = ", ".join(sorted(entry.settings.model_fields))
            raise UsageError(f"{name} has no setting {field!r}; valid: {valid}") from error
        raise UsageError(f"{name}.{field} = {first['input']!r}: {first['msg']}") from error
