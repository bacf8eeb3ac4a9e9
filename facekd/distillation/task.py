"""The task: what one training step computes. It owns student, head, teacher and losses; the loop owns the rest."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self, cast

import torch
from torch import nn

from facekd.common.errors import UsageError
from facekd.common.validation import shown
from facekd.distillation.losses.base import DistillationBatch, DistillationLoss
from facekd.distillation.parameter_group import ParameterGroup
from facekd.distillation.teachers.base import Teacher, TeacherOrigin
from facekd.heads import MarginHead
from facekd.heads.partial_fc import identity_loss
from facekd.models.registry import Backbone
from facekd.recipe import Recipe
from facekd.schemas.input_spec import InputSpec

Weighted = tuple[str, tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class TaskOutput:
    """Of one batch: the scalar to differentiate, its unweighted parts (detached), raw embeddings [b, e] (detached)."""

    loss: torch.Tensor
    parts: dict[str, torch.Tensor]
    embeddings: torch.Tensor


class DistillationTask(nn.Module):
    """Student, margin head, teacher and losses as one module: images and labels in, a loss out.

    Without a teacher it is plain margin-softmax training, of a student or of a teacher. The loss is
    head weight x cross entropy + sum of weight x part over the teacher's own losses and the distillation losses
    [paper: the student's recognition loss, L_attn, L_feat and the teacher's; weights are ours].

    Args:
        student: the network to train; a `Backbone` if a loss needs its feature map.
        student_input: its input.
        head: margin softmax over the training identities, or None.
        head_weight: of its cross entropy.
        teacher: what is followed, with its own input; None for training without one.
        losses: the distillation losses by name.
        recipe: rates and decays of the parameter groups.
        origin: name and hash of where the teacher, or what was inherited from it, came from.
    """

    def __init__(
        self,
        *,
        student: nn.Module,
        student_input: InputSpec,
        head: MarginHead | None,
        head_weight: float,
        recipe: Recipe,
        teacher: Teacher | None = None,
        losses: dict[str, DistillationLoss] | None = None,
        origin: TeacherOrigin | None = None,
    ) -> None:
        super().__init__()
        self.student = student
        self.student_input = student_input
        self.head = head
        self.head_weight = head_weight
        self.teacher = teacher
        self.terms = nn.ModuleDict(losses or {})  # the name that these have in checkpoints
        self.recipe = recipe
        self.origin = origin
        self._needs_tokens = any(loss.needs_tokens for _, loss in self.losses())

    def losses(self) -> Iterator[tuple[str, DistillationLoss]]:
        """The distillation losses by name."""
        for name, module in self.terms.items():
            yield name, cast(DistillationLoss, module)

    @property
    def learning_teacher(self) -> "EmbeddingTeacher | None":
        """A teacher that learns, as a network to evaluate; None where it does not."""
        return EmbeddingTeacher(self.teacher) if self.teacher is not None and self.teacher.can_learn else None

    @property
    def head_may_be_sharded(self) -> bool:
        """Whether each rank may hold a part of the class centres only: not where a loss reads them."""
        return not any(loss.needs_student_classifier for _, loss in self.losses())

    @property
    def rests(self) -> bool:
        """Whether some of its parameters get no gradient in some steps."""
        return self.teacher is not None and self.teacher.rests

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; the teacher stays in eval whatever is asked."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def begin_step(self, step: int) -> None:
        """Told before optimiser step number `step` (from 0)."""
        if self.teacher is not None:
            self.teacher.begin_step(step)

    def forward(
        self, images: torch.Tensor, labels: torch.Tensor, stored: Mapping[str, torch.Tensor] | None = None
    ) -> TaskOutput:
        """uint8 RGB images [b, 3, h, w] and labels int64 [b] -> loss, parts, embeddings.

        With `stored`, rows that were stored of the teacher for these images, the teacher is not run.
        """
        x = self.student_input.normalise(images)
        if x.device.type == "cuda" or self.recipe.training.channels_last:
            x = _like_weights(x, self.student)
        tokens = None
        if self._needs_tokens:
            features, embedding = tapped(self.student, x)
            tokens = features.flatten(2).transpose(1, 2)
        else:
            embedding = self.student(x)

        weighted: dict[str, tuple[float, torch.Tensor]] = {}
        if self.head is not None and self.head_weight > 0:
            weighted["identity"] = (self.head_weight, identity_loss(self.head, embedding, labels))
        if self.teacher is not None:
            weighted.update(self._teach(self.teacher, images, labels, tokens, embedding, stored))
        loss = torch.stack([weight * part.float() for weight, part in weighted.values()]).sum()
        parts = {name: part.detach() for name, (_, part) in weighted.items()}
        return TaskOutput(loss=loss, parts=parts, embeddings=embedding.detach())

    def _teach(
        self,
        teacher: Teacher,
        images: torch.Tensor,
        labels: torch.Tensor,
        tokens: torch.Tensor | None,
        embedding: torch.Tensor,
        stored: Mapping[str, torch.Tensor] | None,
    ) -> Iterator[Weighted]:
        """(name, (weight, loss)) of what the teacher learns by, and of every distillation loss."""
        x = teacher.input.normalise(images) if stored is None else images
        seen = teacher(x) if stored is None else teacher.recall(stored)
        batch = DistillationBatch(
            student_tokens=tokens,
            student_embedding=embedding,
            teacher_tokens=seen.tokens,
            extra_tokens=seen.extra_tokens,
            teacher_embedding=seen.embedding,
            labels=labels,
            teacher_head=teacher.forward_head if seen.tokens is not None else None,
            student_classifier=self.head,
            teacher_classifier=teacher.classifier,
        )
        for name, weight, value in teacher.losses(x, batch) if stored is None else ():
            yield f"teacher.{name}", (weight, value)
        for name, loss in self.losses():
            for part, value in loss(batch).items():
                yield f"{name}.{part}", (loss.weights[part], value)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Student and head under the recipe's optimiser; the losses' own layers under AdamW [method.md]."""
        settings = self.recipe.optimisation
        head = [p for p in self.head.parameters() if p.requires_grad] if self.head is not None else []
        trained = [*self.student.parameters(), *head]
        norms = [] if settings.decay_norms else [p for p in trained if p.ndim < 2]
        weights = [p for p in trained if all(p is not norm for norm in norms)]
        kind, lr, momentum = settings.optimiser, settings.lr, settings.momentum
        auxiliary = [p for p in self.terms.parameters() if p.requires_grad]
        groups = [
            ParameterGroup("network", weights, kind, lr, settings.weight_decay, momentum),
            ParameterGroup("norms", norms, kind, lr, 0.0, momentum),
            *(self.teacher.parameter_groups(settings) if self.teacher is not None else []),
            ParameterGroup("terms", auxiliary, "adamw", settings.auxiliary_lr, settings.auxiliary_weight_decay, 0.0),
        ]
        return [group for group in groups if group.parameters]

    def trainable_state_dict(self) -> dict[str, torch.Tensor]:
        """Everything that training changes, BN statistics included; what of the teacher is frozen is not in it."""
        return {key: value for key, value in self.state_dict().items() if not self._is_frozen(key)}

    def load_trainable_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Loads what `trainable_state_dict` gave, strictly.

        Raises:
            UsageError: keys differ: the state is of another recipe.
        """
        expected = self.trainable_state_dict().keys()
        if state.keys() != expected:
            odd = sorted(state.keys() ^ expected)
            raise UsageError(f"checkpoint of another recipe: {len(odd)} keys differ, the first is {shown(odd[0])}")
        frozen = {key: value for key, value in self.state_dict().items() if self._is_frozen(key)}
        self.load_state_dict({**frozen, **state})

    def diagnostics(self) -> dict[str, torch.Tensor]:
        """Figures of the last batch beside the losses: spread and effective rank of the local features."""
        figures: dict[str, torch.Tensor] = {}
        for _, loss in self.losses():
            figures.update(loss.diagnostics())
        return figures

    def _is_frozen(self, key: str) -> bool:
        """Whether training never changes what a state-dict key names: it can be read from the teacher's own file."""
        if self.teacher is None or not key.startswith("teacher."):
            return False
        return key.removeprefix("teacher.").startswith(self.teacher.frozen)


class EmbeddingTeacher(nn.Module):
    """A teacher as images -> embeddings, for verification, with the input that it takes."""

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.teacher = teacher
        self.input = teacher.input
        self.embedding_width = teacher.embedding_width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised images [b, 3, H, W] -> raw embeddings [b, e]."""
        embedding: torch.Tensor = self.teacher(x).embedding
        return embedding


def tapped(student: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Normalised images [b, 3, H, W] -> the map that losses look at [b, c, h, w], embeddings [b, e].

    By `forward_tapped` of a student that looks at another map than its last; else by those of `Backbone`.
    """
    forward = getattr(student, "forward_tapped", None)
    if forward is not None:
        both: tuple[torch.Tensor, torch.Tensor] = forward(x)
        return both
    backbone = cast(Backbone, student)
    features = backbone.forward_features(x)
    return features, backbone.forward_head(features)


def _like_weights(x: torch.Tensor, module: nn.Module) -> torch.Tensor:
    """x in NHWC memory where the module's convolutions are, as it is where they are not."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            nhwc = parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
            return x.contiguous(memory_format=torch.channels_last) if nhwc else x
    return x
