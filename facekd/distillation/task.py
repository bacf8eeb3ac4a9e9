"""The task: what one training step computes. It owns student, head, teacher and terms; the loop owns the rest."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.prompting import AptSettings, PromptedTeacher, adaptation_loss
from facekd.distillation.registry import Term, Views
from facekd.distillation.teacher import CnnTeacher, OnnxTeacher
from facekd.heads import MarginHead
from facekd.heads.partial_fc import identity_loss
from facekd.models.registry import Backbone
from facekd.recipe import Recipe
from facekd.schemas.input_spec import InputSpec

# State that training never changes: the teacher's own weights, which the bundle holds.
_FROZEN = ("teacher.teacher.", "teacher_head.")


@dataclass(frozen=True)
class TaskOutput:
    """Of one batch: the scalar to differentiate, its unweighted parts (detached), raw embeddings [b, e] (detached)."""

    loss: torch.Tensor
    parts: dict[str, torch.Tensor]
    embeddings: torch.Tensor


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share an optimiser and its settings; the loop multiplies `lr` by the schedule."""

    name: str
    parameters: list[nn.Parameter]
    optimiser: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    momentum: float


@dataclass(frozen=True)
class TeacherOrigin:
    """Where the teacher came from, for the student's card."""

    name: str
    sha256: str


class Task(nn.Module):
    """Student, margin head, teacher and terms as one module: images and labels in, a loss out.

    Without a teacher it is plain margin-softmax training, of a student or of a teacher. The loss is
    head weight x cross entropy + sum of weight x part over the terms + keep weight x the prompted teacher's own
    identity loss [paper: the student's recognition loss, L_attn, L_feat and the teacher's; weights are ours].

    Args:
        student: the network to train; a `Backbone` if a term needs its feature map.
        student_input: its input.
        head: margin softmax over the training identities, or None.
        head_weight: of its cross entropy.
        teacher: a `PromptedTeacher` (with 0 prompts: a plain frozen one), a `CnnTeacher`, an `OnnxTeacher`, or None.
        teacher_input: the teacher's own normalisation: a student normalised otherwise still feeds it correctly.
        teacher_head: the teacher's frozen head, for `keep: head` and for terms that read its classes.
        apt: settings, if prompts are learned.
        terms: the distillation losses by name.
        recipe: rates and decays of the parameter groups.
        origin: name and hash of the teacher's bundle.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        student_input: InputSpec,
        head: MarginHead | None,
        head_weight: float,
        recipe: Recipe,
        teacher: PromptedTeacher | CnnTeacher | OnnxTeacher | None = None,
        teacher_input: InputSpec | None = None,
        teacher_head: MarginHead | None = None,
        apt: AptSettings | None = None,
        terms: dict[str, Term] | None = None,
        origin: TeacherOrigin | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.student_input = student_input
        self.head = head
        self.head_weight = head_weight
        self.teacher = teacher
        self.teacher_input = teacher_input or student_input
        self.teacher_head = teacher_head.requires_grad_(False) if teacher_head is not None else None
        self.apt = apt
        self.terms = nn.ModuleDict(terms or {})
        self.recipe = recipe
        self.origin = origin
        self._needs_tokens = any(cast(Term, term).needs_tokens for term in self.terms.values())

    @property
    def prompted_teacher(self) -> nn.Module | None:
        """The adapted teacher as a module (normalised images -> raw embeddings), None where no prompts are learned."""
        return _Embedding(self.teacher) if isinstance(self.teacher, PromptedTeacher) and self._adapts else None

    @property
    def _adapts(self) -> bool:
        return self.apt is not None and self.apt.prompts > 0

    def train(self, mode: bool = True) -> "Task":
        """Sets the mode; the teacher stays in eval whatever is asked."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        if self.teacher_head is not None:
            self.teacher_head.eval()
        return self

    def begin_step(self, step: int) -> None:
        """Told before optimiser step number `step` (from 0): prompts learn in every so many (`apt.interval`)."""
        if self.apt is not None and isinstance(self.teacher, PromptedTeacher):
            self.teacher.learns = step % self.apt.interval == 0

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> TaskOutput:
        """uint8 RGB images [b, 3, h, w] and labels int64 [b] -> loss, parts, embeddings."""
        x = self.student_input.normalise(images)
        if x.device.type == "cuda" or self.recipe.training.channels_last:
            x = _like_weights(x, self.student)
        tokens = None
        if self._needs_tokens:
            backbone = cast(Backbone, self.student)
            features = backbone.forward_features(x)
            embedding = backbone.forward_head(features)
            tokens = features.flatten(2).transpose(1, 2)
        else:
            embedding = self.student(x)

        weighted: dict[str, tuple[float, torch.Tensor]] = {}
        if self.head is not None and self.head_weight > 0:
            weighted["identity"] = (self.head_weight, identity_loss(self.head, embedding, labels))
        if self.teacher is not None:
            weighted.update(self._teach(images, labels, tokens, embedding))
        loss = torch.stack([weight * part.float() for weight, part in weighted.values()]).sum()
        parts = {name: part.detach() for name, (_, part) in weighted.items()}
        return TaskOutput(loss=loss, parts=parts, embeddings=embedding.detach())

    def _teach(
        self, images: torch.Tensor, labels: torch.Tensor, tokens: torch.Tensor | None, embedding: torch.Tensor
    ) -> Iterator[tuple[str, tuple[float, torch.Tensor]]]:
        """(name, (weight, loss)) of every term and of the teacher's own loss."""
        x = self.teacher_input.normalise(images)
        if isinstance(self.teacher, OnnxTeacher):
            views = Views(tokens, embedding, None, None, self.teacher(x), labels, student_classifier=self.head)
        else:
            teacher = cast(PromptedTeacher | CnnTeacher, self.teacher)
            with torch.set_grad_enabled(torch.is_grad_enabled() and self._adapts):
                seen = teacher(x)
            neck = teacher.forward_head if isinstance(teacher, CnnTeacher) else teacher.teacher.forward_head
            views = Views(
                tokens,
                embedding,
                seen.tokens,
                seen.prompts,
                seen.embedding,
                labels,
                neck,
                student_classifier=self.head,
                teacher_classifier=self.teacher_head,
            )
            if isinstance(teacher, PromptedTeacher):
                yield from self._keep(x, teacher, seen.embedding, labels)
                yield from self._adapt(teacher, seen.embedding, embedding)
        for name, module in self.terms.items():
            term = cast(Term, module)
            for part, value in term(views).items():
                yield f"{name}.{part}", (term.weights[part], value)

    def _keep(
        self, x: torch.Tensor, teacher: PromptedTeacher, embedding: torch.Tensor, labels: torch.Tensor
    ) -> Iterator[tuple[str, tuple[float, torch.Tensor]]]:
        """The loss that keeps the prompted teacher a recogniser [paper: its discriminative capacity is preserved]."""
        if self.apt is None or not self._adapts or self.apt.keep_weight == 0:
            return
        if self.apt.keep == "head" and self.teacher_head is not None:
            loss = functional.cross_entropy(self.teacher_head(embedding, labels), labels)
            yield "teacher.identity", (self.apt.keep_weight, loss)
        elif self.apt.keep == "embedding" and teacher.learns:
            with torch.no_grad():
                plain = teacher.teacher(x)
            loss = (1 - functional.cosine_similarity(embedding.float(), plain.float(), dim=1)).mean()
            yield "teacher.embedding", (self.apt.keep_weight, loss)

    def _adapt(
        self, teacher: PromptedTeacher, embedding: torch.Tensor, student: torch.Tensor
    ) -> Iterator[tuple[str, tuple[float, torch.Tensor]]]:
        """The loss by which the prompts bring the teacher nearer to the student, in the steps in which they learn."""
        if self.apt is not None and self._adapts and self.apt.adaptation_weight and teacher.learns:
            yield "teacher.adaptation", (self.apt.adaptation_weight, adaptation_loss(embedding, student))

    def parameter_groups(self) -> list[ParameterGroup]:
        """Student and head under the recipe's optimiser; prompts and the terms' own layers under AdamW [method.md]."""
        settings = self.recipe.optimisation
        head = [p for p in self.head.parameters() if p.requires_grad] if self.head is not None else []
        trained = [*self.student.parameters(), *head]
        norms = [] if settings.decay_norms else [p for p in trained if p.ndim < 2]
        weights = [p for p in trained if all(p is not norm for norm in norms)]
        groups = [
            ParameterGroup(
                "network", weights, settings.optimiser, settings.lr, settings.weight_decay, settings.momentum
            ),
            ParameterGroup("norms", norms, settings.optimiser, settings.lr, 0.0, settings.momentum),
        ]
        prompts = list(self.teacher.prompts.parameters()) if isinstance(self.teacher, PromptedTeacher) else []
        auxiliary = [p for p in self.terms.parameters() if p.requires_grad]
        rate, decay = settings.auxiliary_lr, settings.auxiliary_weight_decay
        own = self.apt.lr if self.apt is not None else None
        # Prompts are positions to be found, not weights to be kept small.
        groups.append(ParameterGroup("prompts", prompts, "adamw", own or rate, 0.0, 0.0))
        groups.append(ParameterGroup("terms", auxiliary, "adamw", rate, decay, 0.0))
        return [group for group in groups if group.parameters]

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that training changes, BN statistics included; the frozen teacher is not in it."""
        return {key: value for key, value in self.state_dict().items() if not key.startswith(_FROZEN)}

    def load_trainable_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Loads what `trainable_state_dict` gave, strictly.

        Raises:
            UsageError: keys differ: the state is of another recipe.
        """
        expected = self.trainable_state_dict().keys()
        if state.keys() != expected:
            odd = sorted(state.keys() ^ expected)
            raise UsageError(f"checkpoint of another recipe: {len(odd)} keys differ, the first is {odd[0]!r}")
        frozen = {key: value for key, value in self.state_dict().items() if key.startswith(_FROZEN)}
        self.load_state_dict({**frozen, **state})

    def diagnostics(self) -> dict[str, float]:
        """Figures of the last batch beside the losses: spread and effective rank of the local features."""
        figures: dict[str, float] = {}
        for term in self.terms.values():
            figures.update(cast(Term, term).diagnostics())
        return figures


class _Embedding(nn.Module):
    """The prompted teacher as images -> embeddings, for verification."""

    def __init__(self, teacher: PromptedTeacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.embedding_width = int(teacher.teacher.embedding_width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings [b, e]."""
        return self.teacher(x).embedding


def _like_weights(x: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """x in NHWC memory where the module's convolutions are, as it is where they are not."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            nhwc = parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
            return x.contiguous(memory_format=torch.channels_last) if nhwc else x
    return x
