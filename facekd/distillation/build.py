"""From a recipe to its task: the networks, heads and losses it names, checked against one another."""

import logging
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from facekd.common.errors import UsageError
from facekd.data.source import Source
from facekd.distillation.losses.base import DistillationLoss, Shapes
from facekd.distillation.open_teacher import open_teacher
from facekd.distillation.task import DistillationTask
from facekd.distillation.teacher_cache import TeacherCache, open_cache
from facekd.distillation.teachers.base import Classes, ClassesNeeded, Teacher, TeacherPath
from facekd.distillation.teachers.cached import CachedTeacher
from facekd.heads import MarginHead, create_head
from facekd.models.affordable import create_affordable
from facekd.models.registry import Backbone
from facekd.models.starting import start_from
from facekd.recipe import Recipe
from facekd.recipe.methods import Entry
from facekd.schemas.input_spec import InputSpec

log = logging.getLogger(__name__)


def build_task(recipe: Recipe, source: Source) -> DistillationTask:
    """The task that a recipe describes, on the identities of `source`.

    Raises:
        UsageError: what the recipe names does not fit together: no teacher for a loss that needs one, a teacher of
            another embedding width, a head of other identities, an input size the teacher does not take.
    """
    student_input = InputSpec()
    student = create_affordable(recipe.model.name, **recipe.model.arguments)
    if recipe.model.weights is not None:
        log.warning("%s", start_from(student, recipe.model.weights, name=recipe.model.name))
    entries = recipe.entries()
    if entries and recipe.teacher is None:
        names = ", ".join(entry.name for entry in entries)
        raise UsageError(f"distillation by {names} needs a teacher: give --teacher or teacher.bundle")

    # Without a method nothing of the teacher runs; its class centres may still be inherited (ProxylessKD).
    inherits = recipe.head.init == "teacher" and recipe.head.weight > 0
    opened = open_teacher(recipe, student) if entries or inherits else None
    if opened is not None and entries and (cache := open_cache(recipe, source)) is not None:
        opened = CachedTeacher.of(opened[0], cache), opened[1]
        _check_tokens(entries, cache)
    if opened is not None and entries and opened[0].input.size != student_input.size:
        raise UsageError(
            f"teacher {opened[1].path} takes {opened[0].input.size} images, the student {student_input.size}"
        )
    head = _student_head(recipe, source, student, opened)
    teacher = opened[0] if opened is not None and entries else None
    losses: dict[str, DistillationLoss] = {}
    if opened is not None and teacher is not None:
        needed = teacher.needs_classes or _read_by_a_loss(entries)
        if needed is not None:
            teacher.classifier = _frozen_head(_matching_classes(*opened, source, needed))
        elif teacher.uses_classes and (classes := _classes_if_matching(*opened, source)) is not None:
            teacher.classifier = _frozen_head(classes)
        losses = _build_losses(entries, student, teacher, identities=source.num_identities)
    for name, loss in losses.items():
        if loss.needs_student_classifier and head is None:
            raise UsageError(f"{name} compares the student's own classes: head.weight must be above 0")
        if loss.needs_pairs:
            _check_pairs(name, recipe, source)
    return DistillationTask(
        student=student,
        student_input=student_input,
        head=head,
        head_weight=recipe.head.weight,
        recipe=recipe,
        teacher=teacher,
        losses=losses,
        origin=opened[0].origin if opened is not None else None,
    )


def _check_tokens(entries: list[Entry], cache: TeacherCache) -> None:
    """Raises UsageError where a loss reads tokens that the cache does not hold."""
    for entry in entries:
        if getattr(entry.method, "needs_tokens", False) and cache.card.tokens == "none":
            raise UsageError(
                f"{entry.name} reads the teacher's tokens, and the cache at {cache.folder} holds embeddings alone: "
                "store them with `facekd teacher cache --tokens float16` in another folder"
            )


def _check_pairs(name: str, recipe: Recipe, source: Source) -> None:
    """Raises UsageError where batches drawn at random hold, on average, less than one pair of one identity."""
    if recipe.data.images_per_identity is not None:
        return
    counts = np.bincount(source.labels).astype(np.float64)
    same, images, batch = (counts * (counts - 1)).sum(), len(source), recipe.training.batch_size
    expected = batch * (batch - 1) / 2 * same / max(images * (images - 1), 1)
    if expected < 1:
        raise UsageError(
            f"{name} learns from pairs of one identity, and a batch of {batch} from {source.name} holds "
            f"{expected:.2g} on average: set data.images_per_identity=2 or more, or a larger training.batch_size"
        )


def _student_head(
    recipe: Recipe, source: Source, student: nn.Module, opened: tuple[Teacher, TeacherPath] | None
) -> MarginHead | None:
    if recipe.head.weight == 0:
        return None
    if source.num_identities < 2:
        raise UsageError(f"{source.name} has {source.num_identities} identity; a margin softmax needs at least 2")
    width = int(getattr(student, "embedding_width"))  # noqa: B009  (a Module's attributes are untyped)
    head = create_head(
        recipe.head.name, embedding_width=width, num_identities=source.num_identities, **recipe.head.arguments
    )
    if recipe.head.init == "teacher":
        if opened is None:
            raise UsageError("head.init = teacher needs a teacher bundle with its head")
        needed = ClassesNeeded("head.init = teacher", "use head.init = random")
        centres = _matching_classes(*opened, source, needed).centres
        if centres.shape[1] != width:
            raise UsageError(f"head.init = teacher: the teacher's centres are {centres.shape[1]} wide, not {width}")
        with torch.no_grad():
            # The scale of a fresh centre: it sets the centres' effective learning rate.
            head.centres.copy_(functional.normalize(centres) * head.centres.norm(dim=1).mean())
    head.sample_rate = recipe.head.sample_rate
    return head.requires_grad_(not recipe.head.freeze)


def _read_by_a_loss(entries: list[Entry]) -> ClassesNeeded | None:
    names = [one.name for one in entries if getattr(one.method, "needs_teacher_classifier", False)]
    return ClassesNeeded(names[0]) if names else None


def _classes_if_matching(teacher: Teacher, found: TeacherPath, source: Source) -> Classes | None:
    """The teacher's classes, if they are these identities in this order; else None, and it is said."""
    classes = teacher.classes(found)
    if classes is not None and _are_of(classes, source):
        return classes
    log.info("apt.keep = auto: embedding, as teacher %s has no classes of %s", found.path, source.name)
    return None


def _are_of(classes: Classes, source: Source) -> bool:
    count, labels = classes.head.num_identities, classes.head.labels
    return count == source.num_identities and (labels is None or labels == source.fingerprint())


def _matching_classes(teacher: Teacher, found: TeacherPath, source: Source, needed: ClassesNeeded) -> Classes:
    """The teacher's classes, if they are these identities in this order."""
    classes = teacher.classes(found)
    if classes is None:
        raise UsageError(f"{needed.by}: teacher {found.path} carries no head; {needed.otherwise}")
    count = classes.head.num_identities
    if not _are_of(classes, source):
        raise UsageError(
            f"{needed.by}: the teacher's head has {count} identities of other data than {source.name} "
            f"({source.num_identities}); {needed.otherwise}"
        )
    return classes


def _frozen_head(classes: Classes) -> MarginHead:
    """The teacher's own margin softmax with its frozen centres."""
    count, width = classes.centres.shape
    head = create_head(classes.head.name, embedding_width=width, num_identities=count, **classes.head.arguments)
    with torch.no_grad():
        head.centres.copy_(classes.centres)
    return head.requires_grad_(False).eval()


def _warn_of_grids(name: str, student: nn.Module, teacher: Teacher) -> None:
    """Says where a student's map has less than half, or more than twice, as many rows or columns as the teacher's."""
    mine, theirs = getattr(student, "feature_grid", None), teacher.grid
    if mine and theirs and not all(0.5 <= own / other <= 2 for own, other in zip(mine, theirs, strict=True)):
        log.warning(
            "%s: the student's map is %dx%d, the teacher's tokens are %dx%d: a place of one stands for several of the "
            "other; a map nearer to it teaches better (model.arguments.features, or stem_stride=1, of timm students)",
            name, *mine, *theirs,
        )  # fmt: skip


def _build_losses(
    entries: list[Entry], student: nn.Module, teacher: Teacher, *, identities: int
) -> dict[str, DistillationLoss]:
    shapes = Shapes(
        student_channels=int(getattr(student, "feature_channels", 0)),
        student_grid=getattr(student, "feature_grid", (0, 0)),
        student_embedding=int(getattr(student, "embedding_width", 0)),
        teacher_width=teacher.token_width,
        teacher_grid=teacher.grid,
        teacher_embedding=teacher.embedding_width,
        identities=identities,
        teacher_head_reads_tokens=teacher.head_reads_tokens,
    )
    losses: dict[str, DistillationLoss] = {}
    for entry in entries:
        if entry.method.teaches != "student":
            continue
        if entry.label in losses:
            raise UsageError(f"distillation names two losses {entry.label!r}: rename one of the classes")
        build: Any = entry.method
        losses[entry.label] = loss = cast(DistillationLoss, build(entry.settings, shapes))
        if loss.needs_tokens and not isinstance(student, Backbone):
            raise UsageError(
                f"{entry.name} reads the student's feature map, but {type(student).__name__} has no forward_features, "
                "feature_channels and feature_grid (see facekd.models.registry.Backbone)"
            )
        if loss.needs_tokens:
            _warn_of_grids(entry.name, student, teacher)
    return losses
