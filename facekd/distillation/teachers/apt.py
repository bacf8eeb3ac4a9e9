"""APT, the Adaptable Prompting Teacher ("Cross-Architecture Distillation for Face Recognition", ACM MM 2023).

A teacher trained to recognise was not trained to teach. It stays frozen; only prompts, extra tokens that take part in
its attention, are learned while it teaches.
"""

from collections.abc import Iterator
from typing import Literal, Self, cast

import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch
from facekd.distillation.losses.functional import check_widths
from facekd.distillation.parameter_group import ParameterGroup
from facekd.distillation.teachers.base import ClassesNeeded, TeacherPath, TeacherSettings, register_teacher
from facekd.distillation.teachers.prompting import PromptedTransformer
from facekd.models.architectures.transformer import TransformerTeacher
from facekd.recipe import OptimisationConfig
from facekd.recipe.methods import MethodSettings


class AptSettings(TeacherSettings):
    """Settings of APT; the defaults are facekd's choices.

    Attributes:
        prompts: t, tokens a stage of a Swin or a prompted block of a ViT.
        every: ViT only: fresh prompts before every so many blocks.
        attention_bias: Swin only: added to the patches' attention logits towards prompts. 0: prompts are heard as
            patches are [paper], and random ones disturb the teacher from the first step; -4: they begin with 2 % of a
            patch's weight, the prompted teacher as the plain one, and learn to be heard.
        adaptation_weight: weight of the loss by which the prompts bring the teacher's embedding nearer to the
            student's (`adaptation_loss`); 0: only URFM's adaptation and `keep` move them.
        keep: what keeps the prompted teacher a recogniser: `head`, the margin softmax through its own frozen head
            (its training identities only); `embedding`, the cosine to the unprompted embedding (any faces, one more
            forward); `none`; `auto`: head where the teacher's classes are the training identities, else embedding.
        keep_weight: weight of that loss.
        interval: the prompts learn in every so many steps; in the others the teacher runs forward only, which saves
            the backward through it, and AdamW does not mind how often it is called.
        lr: peak rate of the prompts; None: `optimisation.auxiliary_lr`.
    """

    prompts: int = Field(default=5, ge=0, le=4096)
    every: int = Field(default=1, ge=1)
    attention_bias: float = Field(default=0.0, le=0)
    adaptation_weight: float = Field(default=0.0, ge=0)
    keep: Literal["auto", "head", "embedding", "none"] = "head"
    keep_weight: float = Field(default=1.0, ge=0)
    interval: int = Field(default=1, ge=1)
    lr: float | None = Field(default=None, gt=0)


@register_teacher("apt")
class AptTeacher(PromptedTransformer):
    """A `PromptedTransformer` with what its prompts learn by [paper: L_attn and L_feat, and its recognition].

    Raises:
        UsageError: as `PromptedTransformer`.
    """

    Settings = AptSettings
    teaches = "teacher"

    def __init__(self, teacher: TransformerTeacher, settings: AptSettings) -> None:
        super().__init__(
            teacher, prompts=settings.prompts, every=settings.every, attention_bias=settings.attention_bias
        )
        self.settings = settings
        self.rests = settings.interval > 1

    @classmethod
    def fits(cls, found: TeacherPath) -> bool:
        """Never by itself: the recipe asks for it."""
        return False

    @classmethod
    def open(cls, found: TeacherPath, settings: MethodSettings, student: nn.Module) -> Self:
        """The bundle's Transformer with fresh prompts."""
        apt = cast(AptSettings, settings)
        if found.path.suffix == ".onnx":
            raise UsageError(f"apt needs a Transformer teacher bundle, {found.path} is an ONNX file")
        network = found.bundle.model
        if not isinstance(network, TransformerTeacher):
            raise UsageError(
                f"apt: prompts need a Transformer teacher, {found.path} is a {type(network).__name__}; leave apt out"
            )
        if apt.adaptation_weight:
            check_widths("apt.adaptation_weight", getattr(student, "embedding_width", 0), network.embedding_width)
        return cls(network, apt).of(found.bundle)

    def begin_step(self, step: int) -> None:
        """The prompts learn in every `interval`-th step."""
        self.learns = step % self.settings.interval == 0

    def losses(self, x: torch.Tensor, batch: DistillationBatch) -> Iterator[tuple[str, float, torch.Tensor]]:
        """What keeps the prompted teacher a recogniser [paper: its discriminative capacity is preserved].

        And the loss by which the prompts bring it nearer to the student, in the steps in which they learn.
        """
        settings, embedding = self.settings, batch.teacher_embedding
        if not self.can_learn:
            return
        if settings.keep_weight and settings.keep in ("auto", "head") and self.classifier is not None:
            loss = functional.cross_entropy(self.classifier(embedding, batch.labels), batch.labels)
            yield "identity", settings.keep_weight, loss
        elif settings.keep_weight and settings.keep in ("auto", "embedding") and self.learns:
            with torch.no_grad():
                plain = self.teacher(x)
            loss = (1 - functional.cosine_similarity(embedding.float(), plain.float(), dim=1)).mean()
            yield "embedding", settings.keep_weight, loss
        if settings.adaptation_weight and self.learns:
            loss = adaptation_loss(embedding, batch.student_embedding)
            yield "adaptation", settings.adaptation_weight, loss

    def parameter_groups(self, optimisation: OptimisationConfig) -> list[ParameterGroup]:
        """The prompts, under AdamW without decay: they are positions to be found, not weights to be kept small."""
        rate = self.settings.lr or optimisation.auxiliary_lr
        return [ParameterGroup("prompts", list(self.prompts.parameters()), "adamw", rate, 0.0, 0.0)]

    @property
    def needs_classes(self) -> ClassesNeeded | None:
        """`keep: head` is a margin softmax over the training identities."""
        if self.can_learn and self.settings.keep == "head" and self.settings.keep_weight:
            return ClassesNeeded("apt.keep = head", "use apt.keep = embedding, which needs no head")
        return None

    @property
    def uses_classes(self) -> bool:
        """`keep: auto` prefers the margin softmax."""
        return self.can_learn and self.settings.keep == "auto" and self.settings.keep_weight > 0


def adaptation_loss(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """mean(1 - cos) between the embeddings [b, e] of both, the student's held still [facekd's choice].

    Each is brought to length 1 and loses the batch's mean first: prompts can add the same vector to every embedding,
    and two networks that agree in what all faces share have taught nothing.
    """
    unit_t, unit_s = functional.normalize(teacher.float()), functional.normalize(student.detach().float())
    cosine = functional.cosine_similarity(unit_t - unit_t.mean(dim=0), unit_s - unit_s.mean(dim=0), dim=1)
    return (1 - cosine).mean()
