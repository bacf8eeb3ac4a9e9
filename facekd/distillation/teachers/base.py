"""What a teacher is: what the task asks of it, with the answers of one that never learns as defaults."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Self, TypeVar

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch
from facekd.distillation.parameter_group import ParameterGroup
from facekd.heads import MarginHead
from facekd.models.bundle import Bundle, load_teacher
from facekd.recipe import OptimisationConfig
from facekd.recipe.methods import TEACHERS, MethodSettings
from facekd.schemas.card import CARD_FILE, HeadCard
from facekd.schemas.input_spec import InputSpec, StatedInput

TeacherClass = TypeVar("TeacherClass", bound="type[Teacher]")


class TeacherSettings(MethodSettings):
    """Base of a teacher's settings in the recipe: unknown fields are errors."""


@dataclass(frozen=True)
class TeacherOrigin:
    """Where the teacher came from, for the student's card."""

    name: str
    sha256: str


class TeacherOutput(NamedTuple):
    """What a teacher makes of a batch: last-stage tokens [b, N, d], or None for embeddings alone; last-stage outputs
    that stand at no place, such as those of prompts, [b, t, d] or None; raw embeddings [b, e]."""

    tokens: torch.Tensor | None
    extra_tokens: torch.Tensor | None
    embedding: torch.Tensor


@dataclass(frozen=True)
class Classes:
    """The margin softmax that a teacher was trained with: its settings and class centres [n, e]."""

    head: HeadCard
    centres: torch.Tensor


class ClassesNeeded(NamedTuple):
    """For messages: what reads the teacher's classes, and what to do where they are not the training identities."""

    by: str
    otherwise: str = "use a term that follows embeddings, such as embedding"


class TeacherPath:
    """What `teacher.bundle` points to. A bundle is loaded once, when it is first asked for.

    Attributes:
        path: the place.
        stated: what the recipe says of a model file's input and output.
    """

    def __init__(self, path: Path, stated: StatedInput | None = None) -> None:
        self.path, self.stated = path, stated or StatedInput()

    @property
    def holds_bundle(self) -> bool:
        """Whether it is a bundle's folder."""
        return (self.path / CARD_FILE).is_file()

    @cached_property
    def bundle(self) -> Bundle:
        """The teacher's bundle. Raises UsageError or FacekdError as `load_teacher` does, with what lies there."""
        return load_teacher(self.path)


class Teacher(nn.Module):
    """A teacher as the task sees it: normalised images in; tokens and embeddings out.

    A subclass defines `open` and `forward`, and sets the attributes below; whatever learns says so by the rest.
    The task keeps it in eval mode, since its statistics and dropout must not move.

    Attributes:
        Settings: schema of its settings in the recipe.
        teaches: "teacher" for a kind that an entry of `distillation` asks for, because it learns while it teaches.
        takes_stated_input: whether it follows `found.stated`; a recipe that states colour, mean, std, layout or output
            for another kind is refused.
        frozen: beginnings of its own state-dict keys that training never changes: they are in no checkpoint.
        input: size and normalisation of its images: a student normalised otherwise still feeds it correctly.
        origin: where it came from.
        embedding_width: e.
        token_width, grid: d and (h, w) of its tokens, N = h * w; None where it gives embeddings alone.
        head_reads_tokens: whether its tokens alone give its embedding, by `forward_head`; a class token may be needed.
        classifier: its own margin softmax, frozen; there only if somebody needs it.
        learns: whether what of it can learn does so in this step.
        rests: whether there are steps in which it does not.
    """

    Settings: ClassVar[type[MethodSettings]] = TeacherSettings
    teaches: ClassVar[Literal["teacher"] | None] = None
    takes_stated_input: ClassVar[bool] = False
    frozen: ClassVar[tuple[str, ...]] = ("",)
    input: InputSpec = InputSpec()
    origin: TeacherOrigin = TeacherOrigin("unknown", "")
    embedding_width: int
    token_width: int | None = None
    grid: tuple[int, int] | None = None
    head_reads_tokens: bool = True
    learns: bool = False
    rests: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.classifier: MarginHead | None = None

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Whether this is the kind for what lies there, where the recipe names none."""
        return False

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The teacher, on the CPU. Raises UsageError if this kind cannot teach `student` with what lies there."""
        raise NotImplementedError(f"{cls.__name__} defines no open")

    @property
    def can_learn(self) -> bool:
        """Whether anything of it learns at all: it is then evaluated beside the student."""
        return False

    def forward(self, x: torch.Tensor) -> TeacherOutput:
        """Normalised images [b, 3, H, W] -> its tokens and raw embeddings; without gradients unless it learns now."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def recall(self, stored: Mapping[str, torch.Tensor]) -> TeacherOutput:
        """What it gave for the images of a batch, out of the rows that were stored of it."""
        raise NotImplementedError(f"{type(self).__name__} has no stored outputs")

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens [b, N, d], row-major over the grid -> raw embeddings [b, e]; gradients reach the tokens."""
        raise NotImplementedError(f"{type(self).__name__} gives embeddings alone")

    def begin_step(self, step: int) -> None:
        """Told before optimiser step number `step` (from 0)."""

    def losses(self, x: torch.Tensor, batch: DistillationBatch) -> Iterator[tuple[str, float, torch.Tensor]]:
        """(name, weight, scalar) of what it learns by itself, from its own normalised images and the batch."""
        return iter(())

    def parameter_groups(self, optimisation: OptimisationConfig) -> list[ParameterGroup]:
        """What of it learns, each part with its own optimiser and rate."""
        return []

    def classes(self, found: TeacherPath) -> Classes | None:
        """The classes it was trained on, if they are kept where it lies."""
        return None

    @property
    def needs_classes(self) -> ClassesNeeded | None:
        """Whether it learns by its own classifier, which must be of the training identities."""
        return None

    @property
    def uses_classes(self) -> bool:
        """Whether it learns by its own classifier where that is of the training identities, and otherwise without."""
        return False

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of the wrapper; the networks inside stay in eval (their BN and dropout must not move)."""
        super().train(mode)
        for child in self.children():
            child.eval()
        return self


class BundleTeacher(Teacher):
    """A frozen network out of a bundle.

    Attributes:
        teacher: the network; its parameters never require gradients.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self.teacher = teacher.requires_grad_(False).eval()

    def of(self, bundle: Bundle) -> Self:
        """Itself, with the input and the origin that the bundle's card states."""
        self.input = bundle.card.input
        self.origin = TeacherOrigin(bundle.card.name, bundle.card.sha256)
        return self

    def classes(self, found: TeacherPath) -> Classes | None:
        """The bundle's head."""
        bundle = found.bundle
        if bundle.head_centres is None or bundle.card.head is None:
            return None
        return Classes(bundle.card.head, bundle.head_centres)


def register_teacher(name: str) -> Callable[[TeacherClass], TeacherClass]:
    """Registers the decorated `Teacher` under the name that recipes give it."""
    return TEACHERS.decorator(name)


def what_may_teach(found: object) -> UsageError:
    """The error for a network that is no teacher of any kind."""
    return UsageError(
        f"the teacher is a {type(found).__name__}: valid are a Transformer (swin_teacher, vit_teacher, "
        "timm_teacher), a CNN with forward_features and forward_head (facekd.models.registry.Backbone), or an "
        ".onnx face model whose embeddings alone are followed"
    )
