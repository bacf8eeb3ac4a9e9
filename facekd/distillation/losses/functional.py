"""What several terms share: unit embeddings in full precision, class logits, pairs of a batch."""

import torch
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.distillation.losses.base import DistillationBatch
from facekd.heads import MarginHead


def full_precision(x: torch.Tensor) -> torch.autocast:
    """A context without autocast: differences of cosines drown in bfloat16, whose step near 1 is 0.004."""
    return torch.autocast(device_type=x.device.type, enabled=False)


def units(batch: DistillationBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """(student [b, e], teacher [b, e_T]) embeddings of length 1, float32; the teacher's detached."""
    return (
        functional.normalize(batch.student_embedding.float()),
        functional.normalize(batch.teacher_embedding.detach().float()),
    )


def class_logits(classifier: MarginHead, embeddings: torch.Tensor) -> torch.Tensor:
    """Raw embeddings [b, e] -> scale x cosine to every class centre [b, n], float32, without the margin.

    A margin belongs to the training loss; what a classifier believes of an image are its logits without one.
    """
    return classifier.scale * classifier.cosines(embeddings)


def teacher_logits(term: str, batch: DistillationBatch) -> torch.Tensor:
    """The teacher's logits [b, n] through its own frozen classifier, detached."""
    if batch.teacher_classifier is None:
        raise UsageError(f"{term} reads the teacher's classes: give a teacher bundle with its head")
    return class_logits(batch.teacher_classifier, batch.teacher_embedding.detach()).detach()


def student_logits(term: str, batch: DistillationBatch) -> torch.Tensor:
    """The student's logits [b, n] through its own classifier."""
    if batch.student_classifier is None:
        raise UsageError(f"{term} compares the student's own classes: head.weight must be above 0")
    return class_logits(batch.student_classifier, batch.student_embedding)


def same_identity(labels: torch.Tensor) -> torch.Tensor:
    """Labels [b] -> bool [b, b]: different images of one identity; the diagonal is False."""
    same = labels[:, None] == labels[None, :]
    return same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)


def nothing(batch: DistillationBatch) -> torch.Tensor:
    """A zero that still hangs on the student, for a batch without what the term compares."""
    return batch.student_embedding.float().sum() * 0


def check_widths(term: str, student: int, teacher: int) -> None:
    """Raises UsageError unless both embeddings have one width, without which no angle between them is defined."""
    if student != teacher:
        raise UsageError(
            f"{term}: the student's embedding is {student} wide, the teacher's {teacher}; "
            f"set model.arguments.embedding_width={teacher}"
        )
